#!/usr/bin/env bash
# Trains BPR with implicit and Buffalo (from PyPI) and with Peccary on the same log, one after the other, and prints a table.
#
#   benches/peers/run.sh TRAIN.tsv.gz TEST.tsv.gz [--json FILE] [--threads N]
#
# The logs hold integer ids in columns user and item, below a header line. The Python packages go to a virtual
# environment under target/peers; nothing else on the machine changes.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
top=$(cd "$(dirname "$0")/../.." && pwd)
folder="$top/target/peers"
cargo build --release --quiet --manifest-path "$top/Cargo.toml"
if [ ! -x "$folder/venv/bin/python" ]; then
  python3 -m venv "$folder/venv"
fi
"$folder/venv/bin/pip" install --quiet --requirement "$top/benches/peers/requirements.txt"
mkdir -p "$folder/work"
# implicit wants its linear algebra library on one thread: it has threads of its own.
OPENBLAS_NUM_THREADS=1 exec "$folder/venv/bin/python" "$top/benches/peers/compare.py" "$@" \
  --binary "${CARGO_TARGET_DIR:-$top/target}/release/peccary" --recipe "$top/docs/recipes/gowalla-bpr.toml" --folder "$folder/work"
