#!/usr/bin/env bash
# Makes the golden folders of the format version that a build writes: tests/golden/make.sh PECCARY FOLDER
#
# Run once for each version of the format, by the build that introduced it, and never again: tests/golden.rs holds that
# later builds read what an earlier one wrote. v1 was made by the build of commit 5fdddcb.
set -euo pipefail
peccary=$1
folder=$2
mkdir "$folder"
cd "$folder"
trap 'rm -f plain.csv log.csv' EXIT

"$peccary" synth --quiet --users 60 --items 80 --interactions 4000 --repeats 0.2 --weights --events --seed 11 \
    --output plain.csv
# Columns of context, which synth does not write, and ids that need quotes, escapes and more than ASCII.
awk -F, -v OFS=, 'NR == 1 { print $0, "device", "country"; next }
    $1 == "u7" { $1 = "\"Zoë, \"\"u7\"\"\"" } $2 == "i3" { $2 = "<script>" } $2 == "i5" { $2 = "../i5" }
    { print $0, (NR % 3 ? "phone" : "desk"), substr("atdefr", 1 + 2 * (NR % 3), 2) }' plain.csv > log.csv

"$peccary" ingest --quiet --output clicks.pec log.csv --weight-column weight --event-column event \
    --exposure-events view --context device,country --split time:0.1 --valid-split random:0.1 --hash-seed 5
"$peccary" train --quiet clicks.pec --output biased.model --loss bpr --biases --dimensions 6 --epochs 12 \
    --deterministic --seed 3
"$peccary" train --quiet clicks.pec --output cosine.model --loss softmax --similarity cosine --dimensions 20 --epochs 8 \
    --deterministic --seed 3

for model in biased cosine; do
    "$peccary" evaluate --quiet --json "$model.model" clicks.pec > "$model.evaluation.json"
    "$peccary" recommend --quiet "$model.model" clicks.pec --all --k 5 --output "$model.recommendations.ndjson"
done
"$peccary" inspect --quiet --json clicks.pec > clicks.inspection.json
