"""How time, memory and reading grow with rows, users, items and dimensions: one of them at a time, over decades.

Called by run.sh. Prints tables in Markdown and writes the figures to --json; picture.py draws them.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import measure

BASE = {"rows": 10_000_000, "users": 200_000, "items": 20_000, "dimensions": 32}
# A hundred million rows need more users and items to be spread over.
BASES = {"rows": {**BASE, "users": 1_000_000, "items": 100_000}}
SWEEPS = {
    "rows": [100_000, 1_000_000, 10_000_000, 100_000_000],
    "users": [10_000, 100_000, 1_000_000, 10_000_000],
    "items": [1_000, 10_000, 100_000, 1_000_000],
    "dimensions": [2, 16, 128, 1_024],
}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--folder", type=Path, required=True)
    arguments.add_argument("--binary", type=Path, required=True)
    arguments.add_argument("--json", type=Path, required=True)
    arguments.add_argument("--memory", default="2GiB")
    arguments.add_argument("--divisor", type=int, default=1, help="divide rows and users by this")
    options = arguments.parse_args()
    points = []
    for swept, sizes in SWEEPS.items():
        for size in sizes:
            shape = {**BASES.get(swept, BASE), swept: size}
            for key in ("rows", "users"):
                shape[key] = max(shape[key] // options.divisor, 100)
            print(f"{swept} = {shape[swept]:,} ...", file=sys.stderr, flush=True)
            folder = Path(tempfile.mkdtemp(prefix="sweep-", dir=options.folder))
            try:
                points.append({"swept": swept, "shape": shape, "steps": run(options, folder, shape)})
            finally:
                shutil.rmtree(folder)
    options.json.write_text(json.dumps({"machine": measure.machine(), "memory": options.memory, "points": points},
                                       indent=1) + "\n")
    print(f"{measure.machine()}; --memory {options.memory}")
    for swept in SWEEPS:
        print(f"\n| {swept} | ingest, s | train an epoch, s | evaluate 1,000 users, s | peak anonymous memory: ingest "
              "| train | evaluate | dataset | model | read by train |")
        print("|---" * 10 + "|")
        for point in points:
            if point["swept"] != swept:
                continue
            ingest, train, evaluate = (point["steps"][name] for name in ("ingest", "train", "evaluate"))
            print(f"| {point['shape'][swept]:,} | {ingest['seconds']:.2f} | {train['seconds']:.2f} | "
                  f"{evaluate['seconds']:.2f} | {measure.gib(ingest['peak_anonymous'])} | "
                  f"{measure.gib(train['peak_anonymous'])} | {measure.gib(evaluate['peak_anonymous'])} | "
                  f"{measure.gib(ingest['bytes'])} | {measure.gib(train['bytes'])} | "
                  f"{measure.gib(train['dataset_read'])} |")


def run(options, folder, shape):
    """Ingests, trains and evaluates one shape."""
    peccary, log, data, model = str(options.binary), *(str(folder / name) for name in ("a.csv", "a.pec", "a.model"))
    sizes = ["--users", str(shape["users"]), "--items", str(shape["items"]), "--interactions", str(shape["rows"])]
    measure.run([peccary, "synth", *sizes, "--output", log, "--quiet"])
    common = ["--memory", options.memory, "--json", "--quiet"]
    (ingest,), _ = measure.run([peccary, "ingest", log, "--split", "random:0.01", "--output", data, *common])
    Path(log).unlink()
    training = ["--dim", str(shape["dimensions"]), "--biases=false", "--negatives", "1", "--epochs", "1"]
    (train,), _ = measure.run([peccary, "train", data, "--output", model, *training, *common])
    evaluation = ["--users", "1000", "--include-cold", "--baselines", "none"]
    (evaluate,), _ = measure.run([peccary, "evaluate", model, data, *evaluation, *common])
    ingest["bytes"], train["bytes"] = measure.size(data), measure.size(model)
    # What an epoch goes through, whether it comes from disk or from the page cache.
    train["dataset_read"] = measure.size(Path(data) / "train")
    return {"ingest": ingest, "train": train, "evaluate": evaluate}


if __name__ == "__main__":
    main()
