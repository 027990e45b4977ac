#!/usr/bin/env bash
# Triples a second of BPR training: implicit, Buffalo, LightFM (where it can be built) and Peccary on the same log.
#
#   benches/peers/throughput.sh [--users 138493 --items 26744 --rows 20000000] [--threads N] [--json FILE]
#
# The log is written by `peccary synth`; the default is the shape ml-20m (20 minutes, 4 GiB of memory, 2 GB of disk). The
# Python packages go to virtual environments under target/peers; nothing else on the machine changes.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
folder="$top/target/peers"
cargo build --release --quiet --manifest-path "$top/Cargo.toml"
if [ ! -x "$folder/venv/bin/python" ]; then
  python3 -m venv "$folder/venv"
fi
"$folder/venv/bin/pip" install --quiet --requirement "$top/benches/peers/requirements.txt"
# LightFM's last release has no wheel, and its setup.py needs pip's old way of building.
"$folder/venv/bin/pip" install --quiet setuptools wheel
"$folder/venv/bin/pip" install --quiet --no-use-pep517 "lightfm==1.17" 2> "$folder/lightfm.log" ||
  echo "LightFM cannot be built here, see $folder/lightfm.log" >&2
mkdir -p "$folder/work"
OPENBLAS_NUM_THREADS=1 exec "$folder/venv/bin/python" "$top/benches/peers/throughput.py" "$@" \
  --binary "${CARGO_TARGET_DIR:-$top/target}/release/peccary" --folder "$folder/work"
