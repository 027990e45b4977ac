"""Draws what sweep.py measured: a column of panels for each thing swept; time, memory and bytes against its size."""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plot  # noqa: E402

ROWS = [
    ("seconds", {"ingest": "seconds", "train": "seconds", "evaluate": "seconds"}, 1),
    ("peak anonymous memory, MiB", {key: "peak_anonymous" for key in ("ingest", "train", "evaluate")}, 1 << 20),
    ("bytes on disk, MiB", {"ingest": "bytes", "train": "bytes"}, 1 << 20),
]
NAMES = {"ingest": "ingest", "train": "train, 1 epoch", "evaluate": "evaluate, 1,000 users"}
ON_DISK = {"ingest": "dataset", "train": "model"}
COLOURS = {"ingest": "#3b6fb6", "train": "#c8553d", "evaluate": "#5a8f4e"}
MARKS = {"ingest": "o", "train": "s", "evaluate": "^"}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("json", type=Path)
    arguments.add_argument("svg", type=Path)
    options = arguments.parse_args()
    measured = json.loads(options.json.read_text())
    swept = list(dict.fromkeys(point["swept"] for point in measured["points"]))
    matplotlib.rcParams.update({"svg.hashsalt": "peccary", "font.size": 9, "axes.grid": True, "grid.color": "#dddddd"})
    figure, panels = plot.subplots(len(ROWS), len(swept), figsize=(3.1 * len(swept), 2.5 * len(ROWS)), sharey="row")
    for column, key in enumerate(swept):
        points = [point for point in measured["points"] if point["swept"] == key]
        sizes = [point["shape"][key] for point in points]
        for row, (label, lines, unit) in enumerate(ROWS):
            panel = panels[row][column]
            for step, value in lines.items():
                name = ON_DISK[step] if value == "bytes" else NAMES[step]
                panel.loglog(sizes, [point["steps"][step][value] / unit for point in points],
                             marker=MARKS[step], color=COLOURS[step], label=name)
            if column == 0:
                panel.set_ylabel(label)
                panel.legend(fontsize=7, frameon=False)
            if row + 1 == len(ROWS):
                panel.set_xlabel(key)
    figure.tight_layout()
    figure.savefig(options.svg, metadata={"Date": None})


if __name__ == "__main__":
    main()
