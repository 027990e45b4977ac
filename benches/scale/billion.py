"""A thousand million interactions on one machine, from a pipe to recommendations: every step measured.

    python3 benches/scale/billion.py --folder /big/disk [--divisor 100] [--json FILE]

Makes 1,000,000,000 interactions of 20 million users and 2 million items (divided by --divisor), with a --memory budget
of 4GiB (divided too, but at least 64MiB), and prints a table in Markdown. Fails if a step's peak anonymous memory goes
over the budget, or if the disk is too small to begin. Everything is made in a folder of its own, which is removed at
the end unless --keep is given. Needs Python 3 and Linux, nothing else.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import measure

ROWS, USERS, ITEMS, BUDGET_MIB = 1_000_000_000, 20_000_000, 2_000_000, 4096
# Temporary files of ingest, the dataset and the model, together, by a run of the whole size.
BYTES_A_ROW = 46


def main():
    top = Path(__file__).resolve().parent.parent.parent
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--divisor", type=int, default=1, help="divide every size by this")
    arguments.add_argument("--folder", type=Path, default=Path("."), help="where there is room")
    arguments.add_argument("--binary", type=Path, default=top / "target" / "release" / "peccary")
    arguments.add_argument("--json", type=Path, help="also write the figures here")
    arguments.add_argument("--keep", action="store_true", help="keep the dataset and the model")
    options = arguments.parse_args()
    if options.divisor < 1:
        arguments.error("--divisor must be at least 1")

    rows, users, items = (max(1, size // options.divisor) for size in (ROWS, USERS, ITEMS))
    budget = max(64, BUDGET_MIB // options.divisor)
    needed, free = rows * BYTES_A_ROW, shutil.disk_usage(options.folder).free
    if free < needed:
        raise SystemExit(f"{options.folder}: about {measure.gib(needed)} are needed, {measure.gib(free)} are free; "
                         "name another --folder, or a larger --divisor")
    folder = Path(tempfile.mkdtemp(prefix="billion-", dir=options.folder))
    try:
        steps = run(str(options.binary), folder, rows, users, items, f"{budget}MiB")
    finally:
        if not options.keep:
            shutil.rmtree(folder)

    print(f"{rows:,} interactions, {users:,} users, {items:,} items, --memory {budget}MiB; {measure.machine()}\n")
    print("| step | seconds | rate | peak anonymous memory | peak resident | read from disk | written |")
    print("|---|---|---|---|---|---|---|")
    for step in steps:
        print(f"| {step['step']} | {step['seconds']:.1f} | {step['rate']} | {measure.gib(step['peak_anonymous'])} | "
              f"{measure.gib(step['peak_resident'])} | {measure.gib(step['read_bytes'])} | "
              f"{measure.gib(step['write_bytes'])} |")
    print("\n```sh")
    for step in steps:
        print(step["command"].replace(str(options.binary), "peccary").replace(f"{folder}/", ""))
    print("```")
    if options.json:
        options.json.write_text(json.dumps({"machine": measure.machine(), "steps": steps}, indent=1) + "\n")
    over = [step["step"] for step in steps if step["peak_anonymous"] > budget << 20]
    if over:
        sys.exit(f"over the budget of {budget}MiB: {', '.join(over)}")


def run(peccary, folder, rows, users, items, memory):
    """Every step in turn; their measurements."""
    data, model = str(folder / "billion.pec"), str(folder / "billion.model")
    steps = []

    def step(name, *commands, rate):
        print(f"{name} ...", file=sys.stderr, flush=True)
        results, output = measure.run(*commands)
        report = json.loads(output)
        for i, result in enumerate(results):
            last = i + 1 == len(results)
            of = name if last else f"{name}, feeding it"
            steps.append({"step": of, "rate": rate(report, result) if last else "", **result})
        if len(results) > 1:
            steps[-1]["command"] = " | ".join(result["command"] for result in results)
            steps[-2]["command"] = "# in one pipe:"
        return report

    common = ["--memory", memory, "--json", "--quiet"]
    synth = ["--users", str(users), "--items", str(items), "--interactions", str(rows), "--output", "-"]
    step(
        "ingest",
        [peccary, "synth", *synth, "--quiet"],
        [peccary, "ingest", "-", "--split", "random:0.001", "--output", data, *common],
        rate=lambda _, result: f"{rows / result['seconds'] / 1e6:.2f} M rows/s",
    )
    training = ["--dim", "32", "--biases=false", "--negatives", "1", "--epochs", "1"]
    plan = step("plan", [peccary, "plan", data, *training, *common], rate=lambda *_: "")
    trained = step(
        "train one epoch",
        [peccary, "train", data, "--output", model, *training, *common],
        rate=lambda report, _: f"{report['triples_per_second'] / 1e6:.1f} M triples/s, {report['seconds']:.1f} s of it",
    )
    step("evaluate 1,000 users", [peccary, "evaluate", model, data, "--users", "1000", *common], rate=lambda *_: "")
    some = [flag for user in range(min(100, users)) for flag in ("--user", f"u{user}")]
    step(
        "recommend to 100 users",
        [peccary, "recommend", model, data, *some, "--output", str(folder / "top.ndjson"), *common],
        rate=lambda *_: "",
    )
    steps[-1]["command"] = f"{peccary} recommend {model} {data} --user u0 … --user u99 --output top.ndjson " + " ".join(
        common)
    steps[0]["plan"], steps[0]["trained"] = plan, trained
    return steps


if __name__ == "__main__":
    main()
