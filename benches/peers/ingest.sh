#!/usr/bin/env bash
# Turns the same log into sorted, encoded interactions with DuckDB (from PyPI) and with Peccary, and prints a table.
#
#   benches/peers/ingest.sh [--rows 1000000,10000000] [--memory 2GiB] [--small 128MiB] [--threads N] [--json FILE]
#
# --rows are the sizes compared under --memory; --small is a budget under which the largest of them runs once more. Needs
# some 100 bytes of disk a row in target/peers (10 GB for 100,000,000). The Python packages go to a virtual environment of their own.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
folder="$top/target/peers"
cargo build --release --quiet --manifest-path "$top/Cargo.toml"
if [ ! -x "$folder/venv-duckdb/bin/python" ]; then
  python3 -m venv "$folder/venv-duckdb"
fi
"$folder/venv-duckdb/bin/pip" install --quiet "duckdb==2.0.0"
mkdir -p "$folder/work"
exec "$folder/venv-duckdb/bin/python" "$top/benches/peers/ingest.py" "$@" \
  --binary "${CARGO_TARGET_DIR:-$top/target}/release/peccary" --folder "$folder/work"
