#!/usr/bin/env bash
# Measures how Peccary grows with rows, users, items and dimensions, prints tables and draws docs/scale.svg.
#
#   benches/scale/run.sh FOLDER [--divisor N] [--memory SIZE]
#
# FOLDER is where there is room: some 10 GB for the sizes of docs/scale.md, which take a quarter of an hour; --divisor
# makes them smaller. matplotlib goes to a virtual environment under target/scale; nothing else on the machine changes.
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
top=$(cd "$(dirname "$0")/../.." && pwd)
folder="$top/target/scale"
room=$1
shift
cargo build --release --quiet --manifest-path "$top/Cargo.toml"
mkdir -p "$folder"
if [ ! -x "$folder/venv/bin/python" ]; then
  python3 -m venv "$folder/venv"
fi
"$folder/venv/bin/pip" install --quiet --requirement "$top/benches/scale/requirements.txt"
"$folder/venv/bin/python" "$top/benches/scale/sweep.py" --folder "$room" \
  --binary "${CARGO_TARGET_DIR:-$top/target}/release/peccary" --json "$folder/sweep.json" "$@"
"$folder/venv/bin/python" "$top/benches/scale/picture.py" "$folder/sweep.json" "$top/docs/scale.svg"
