#!/bin/sh
# Drives Chromium over a report: run.sh WORK PAGE. Exits with 77 and a reason where there is no Chromium, and none to be had.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$1
page=$2

skip() {
    echo "skipped: $1" >&2
    exit 77
}

chromium=${PECCARY_CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
if [ -z "$chromium" ]; then
    [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || skip "no chromium; apt-get install chromium, or set PECCARY_CHROMIUM"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } \
        > "$work/apt.log" 2>&1 || skip "apt-get cannot install chromium: $(tail -n 1 "$work/apt.log")"
    chromium=$(command -v chromium) || skip "no chromium after its installation"
fi
command -v npm > /dev/null || skip "no npm, which playwright-core is installed by"
mkdir -p "$work/browser"
cp "$here/package.json" "$here/package-lock.json" "$here/drive.mjs" "$work/browser/"
cd "$work/browser"
[ -d node_modules/playwright-core ] || npm ci --ignore-scripts --no-audit --no-fund > npm.log 2>&1 ||
    skip "npm cannot install playwright-core: $(tail -n 1 npm.log)"
exec node drive.mjs "$chromium" "$page"
