#!/usr/bin/env bash
# Builds the fuzz targets by cargo-fuzz, runs each for so many seconds, one after the other, and prints a table of what came
# of it. docs/fuzzing.md tells more.
#
#   tools/fuzz.sh SECONDS [TARGET...]
#
# It installs nothing: cargo-fuzz and a nightly toolchain have to be there. FOUND names the folder for new inputs, for logs
# and for inputs that crash (default: a new one in TMPDIR), BUILT a folder of targets that were built before. Ends with 1 if
# any target crashed, ran out of memory or took too long for an input.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?"usage: tools/fuzz.sh SECONDS [TARGET...]"}
shift
found=${FOUND:-$(mktemp -d "${TMPDIR:-/tmp}/peccary-fuzz-XXXXXX")}
if [ -z "${BUILT:-}" ]; then
    cargo fuzz --version > /dev/null 2>&1 || { echo "cargo-fuzz is missing: cargo install cargo-fuzz" >&2; exit 2; }
    host=$(rustc +nightly -vV 2> /dev/null | sed -n 's/^host: //p')
    [ -n "$host" ] || { echo "a nightly toolchain is missing: rustup toolchain install nightly" >&2; exit 2; }
    cargo +nightly fuzz build --target-dir fuzz/target
    BUILT=fuzz/target/$host/release
fi
[ $# -gt 0 ] || set -- $(ls fuzz/corpus)

# The last number behind the word $1 in the log $2.
number() {
    grep -a -o "$1:\? *[0-9]\+" "$2" | tail -n 1 | grep -o '[0-9]*$' || echo '?'
}

failed=0
echo "new inputs, logs and crashes: $found" >&2
echo "| target | s | executions | features at the start | in the end | code covered | new inputs | MiB | outcome |"
echo "|---|---|---|---|---|---|---|---|---|"
for target in "$@"; do
    mkdir -p "$found/$target"
    log=$found/$target.log
    outcome=passed
    began=$SECONDS
    "$BUILT/$target" "$found/$target" "fuzz/corpus/$target" "-artifact_prefix=$found/$target-" \
        "-max_total_time=$seconds" -rss_limit_mb=2048 -malloc_limit_mb=512 -timeout=30 -print_final_stats=1 \
        > "$log" 2>&1 < /dev/null || outcome=$(grep -a -o 'SUMMARY: .*' "$log" | head -n 1)
    if [ "$outcome" != passed ]; then
        failed=1
        outcome=${outcome:-ended early}
    fi
    first=$(grep -a 'INITED' "$log" | grep -o 'ft: [0-9]*' | grep -o '[0-9]*$' || echo '?')
    echo "| \`$target\` | $((SECONDS - began)) | $(number stat::number_of_executed_units "$log") | $first |" \
        "$(number ' ft' "$log") | $(number ' cov' "$log") | $(number stat::new_units_added "$log") |" \
        "$(number stat::peak_rss_mb "$log") | $outcome |"
done
exit "$failed"
