#!/usr/bin/env bash
# Ingest, append, compact, forget, train, update, roll back, in random order and killed at random instants, for so many
# minutes: after each step everything verifies and nothing that was acknowledged is lost. docs/fuzzing.md tells more.
#
#   tools/soak.sh [MINUTES [SEED]]
#
# PECCARY names the binary (default: target/release/peccary), TMPDIR where to work (some hundred MiB). The order of steps and
# their data follow from the seed; when a kill hits does not. Steps that the binary does not have are left out, and said.
# The folder stays if anything is wrong.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-60}
seed=${2:-$(date +%s)}
peccary=$(realpath "${PECCARY:-target/release/peccary}")
work=$(mktemp -d "${TMPDIR:-/tmp}/peccary-soak-XXXXXX")
echo "seed $seed, $minutes minutes, $("$peccary" --version), in $work"
cd "$work"
RANDOM=$((seed % 32768))

# What must be in the dataset: the pairs of acknowledged rows, one a line, sorted.
: > pairs
piece=0
steps=0
kills=0
finished=0
declare -A done_steps=()

fail() {
    echo "FAILED in step $steps (seed $seed): $*" >&2
    echo "left as it is: $work" >&2
    exit 1
}

# Whether the binary has the subcommand $1, or it the flag $2.
has() {
    "$peccary" --help | grep -q "^  $1 " && { [ $# -lt 2 ] || "$peccary" "$1" --help | grep -q -e "$2"; }
}

# Runs peccary with these arguments, and half of the time kills it somewhere on the way. 0: done. 137: killed.
attempt() {
    local code=0
    if ((RANDOM % 2)); then
        "$peccary" "$@" --quiet > out.log 2>&1 || code=$?
    else
        "$peccary" "$@" --quiet > out.log 2>&1 &
        local child=$!
        sleep "$(printf '%d.%03d' $((RANDOM % 4 / 3)) $((RANDOM % 1000)))"
        if kill -9 "$child" 2> kill.log; then kills=$((kills + 1)); fi
        # The shell's own note of the killing is no news.
        { wait "$child" || code=$?; } 2> kill.log
    fi
    # An update has nothing to do where nothing was appended since, or where the one before was killed behind its end.
    if [ "$code" = 1 ] && [ "$1" = update ] && grep -q "nothing has been appended" out.log; then return 0; fi
    # A training that was killed between the folder of its version and the name of the current one is over: it says which
    # version it is, and how to make that the current one.
    if [ "$code" = 1 ] && grep -q "this training is over" out.log; then
        quietly rollback model --to "$(sed -n 's/.*it is version \([0-9]*\) of the model.*/\1/p' out.log)"
        finished=$((finished + 1))
        return 0
    fi
    if [ "$code" != 0 ] && [ "$code" != 137 ]; then
        fail "peccary $* ended with $code: $(cat out.log)"
    fi
    return "$code"
}

quietly() {
    "$peccary" "$@" --quiet > out.log 2>&1 || fail "peccary $*: $(cat out.log)"
}

# Distinct pairs in the dataset $1, all parts together.
count() {
    # Changes have counts of interactions, too.
    "$peccary" inspect --json --quiet "$1" | sed 's/.*"parts":\(.*\),"columns":.*/\1/' |
        grep -o '"interactions":[0-9]*' | cut -d: -f2 | awk '{ n += $1 } END { print n + 0 }'
}

# A new log of some thousand rows, by users and items that are partly new: its name is in $log.
make_log() {
    piece=$((piece + 1))
    log=piece-$piece.csv
    quietly synth --users $((500 + 100 * piece % 3000)) --items $((300 + 20 * piece % 900)) \
        --interactions $((4000 + RANDOM % 20000)) --seed "$RANDOM" --output "$log"
}

# Takes the rows of $1 for acknowledged.
acknowledge() {
    tail -n +2 "$1" | cut -d, -f1,2 | sort -u - pairs > pairs.next
    mv pairs.next pairs
}

check_dataset() {
    quietly verify data.pec
    local there expected
    there=$(count data.pec)
    expected=$(wc -l < pairs)
    [ "$there" = "$expected" ] || fail "$there interactions in data.pec, and $expected were acknowledged"
}

check_model() {
    [ ! -e model ] || quietly verify model
}

# Ingests everything there is into a new dataset, resumed or restarted until it is done.
step_ingest() {
    make_log
    rm -rf data.pec model model.partial
    : > pairs
    acknowledge "$log"
    local leftover=()
    until attempt ingest "$log" --output data.pec --checkpoint 0 "${leftover[@]}"; do
        [ ! -e data.pec ] || break # killed behind the rename, which is what counts
        # Without a journal there is nothing to resume, and the next run says so and begins anew.
        leftover=()
        if [ -e data.pec.partial/journal ]; then
            if ((RANDOM % 3)); then leftover=(--resume); else leftover=(--restart); fi
        fi
    done
    rm -rf data.pec.partial "$log"
}

step_append() {
    make_log
    local before after
    before=$(count data.pec)
    acknowledge "$log"
    until attempt ingest --append data.pec "$log"; do
        quietly verify data.pec
        after=$(count data.pec)
        [ "$after" = "$before" ] || [ "$after" = "$(wc -l < pairs)" ] || fail "an append that was killed left $after rows"
    done
    rm "$log"
}

step_compact() {
    until attempt compact data.pec; do check_dataset; done
}

step_forget() {
    local user
    user=$(shuf -n 1 --random-source=<(yes "$RANDOM") pairs | cut -d, -f1)
    grep -v "^$user," pairs > pairs.next || :
    [ -s pairs.next ] || return 0
    until attempt forget data.pec --user "$user"; do
        quietly verify data.pec
        # It may have been killed behind the rename.
        [ "$(count data.pec)" != "$(wc -l < pairs.next)" ] || break
    done
    mv pairs.next pairs
}

# Trains, resumed where that can be done, until the model is there.
step_train() {
    local before=none args=(data.pec --output model --dim 16 --epochs $((3 + RANDOM % 20)) --seed "$RANDOM")
    local resume=()
    has train --checkpoint-every && args+=(--checkpoint-every epoch)
    [ ! -e model ] || before=$(sha256sum < model/manifest.json)
    if [ -e model ] && ! has versions; then args+=(--force); fi
    until if [ ${#resume[@]} -gt 0 ]; then attempt train "${resume[@]}"; else attempt train "${args[@]}"; fi; do
        check_model
        # It may have been killed behind the rename.
        if [ -e model ] && [ "$before" != "$(sha256sum < model/manifest.json)" ]; then break; fi
        # Without a checkpoint there is nothing to resume.
        resume=()
        if has train --resume && compgen -G 'model.partial/*/manifest.json' > /dev/null && ((RANDOM % 4)); then
            resume=(--resume model)
        elif has train --restart; then
            resume=("${args[@]}" --restart)
        fi
    done
    quietly recommend model data.pec --users 20 --output top.ndjson --force
}

step_update() {
    [ -e model ] || return 0
    until attempt update model data.pec; do check_model; done
    quietly recommend model data.pec --users 20 --output top.ndjson --force
}

step_versions() {
    [ -e model ] || return 0
    quietly versions model
    if has prune && ((RANDOM % 2)); then
        until attempt prune model --keep 2; do check_model; done
    fi
}

# What the binary has, each as often as it is to come.
steps_there=(ingest train train)
if has ingest --append; then steps_there+=(append append append append); else echo "left out: append"; fi
for command in compact forget update versions; do
    if has "$command"; then steps_there+=("$command" "$command"); else echo "left out: $command"; fi
done

# Says what was done.
tell() {
    local step summary=
    for step in "${!done_steps[@]}"; do summary+=" ${done_steps[$step]} $step"; done
    echo "$1 $steps steps and $kills kills in $SECONDS s (seed $seed):$summary, $finished trainings found over by --resume"
}

trap 'tell "told to stop after"; cd / && rm -rf "$work"; exit 130' INT TERM
step_ingest
check_dataset
while ((SECONDS < minutes * 60)); do
    step=${steps_there[RANDOM % ${#steps_there[@]}]}
    # Begins anew where it grew too large for quick steps.
    [ "$(wc -l < pairs)" -lt 400000 ] || step=ingest
    steps=$((steps + 1))
    "step_$step"
    check_dataset
    check_model
    done_steps[$step]=$((${done_steps[$step]:-0} + 1))
done
tell survived
cd / && rm -rf "$work"
