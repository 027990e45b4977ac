"""Metrics of a model by trec_eval (PyPI's pytrec_eval), over rankings that numpy makes of the exported tables.

Nothing of it is Peccary's: neither the scores, nor the ranking, nor the formulas. Usage: trec.py FOLDER, where FOLDER has
  shape.json   {"users": .., "items": .., "stride": .., "k": [5, 10, 20]}
  users.f32, items.f32   rows of `stride` floats
  seen.u32, relevant.u32   pairs of (user, item), ascending
Writes {"recall@5": .., ..}: means over the users with relevant items and seen ones.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytrec_eval

BLOCK = 256
# So many of the best by numpy's own sums are scored again, in the order of sums that f32 has in Peccary.
NEAR = 64


def lists(path, users):
    pairs = np.fromfile(path, "<u4").reshape(-1, 2)
    bounds = np.searchsorted(pairs[:, 0], np.arange(users + 1))
    return [pairs[bounds[u] : bounds[u + 1], 1] for u in range(users)]


def fused(rows, candidates):
    """One sequence of fused multiply-adds in f32: the product is exact in f64, and each sum is rounded once more."""
    sums = np.zeros(candidates.shape[:2], np.float32)
    for d in range(rows.shape[1]):
        sums = (rows[:, d, None].astype(np.float64) * candidates[:, :, d] + sums).astype(np.float32)
    return sums


def rankings(block, users, items, seen, depth):
    """The best `depth` items of each user of `block`, best first, without those seen."""
    scores = users[block] @ items.T
    for row, user in zip(scores, block):
        row[seen[user]] = -np.inf
    near = np.argpartition(scores, scores.shape[1] - NEAR, axis=1)[:, -NEAR:]
    exact = fused(users[block], items[near])
    exact[~np.isfinite(np.take_along_axis(scores, near, 1))] = -np.inf
    order = np.argsort(-exact, axis=1, kind="stable")[:, :depth]
    return np.take_along_axis(near, order, 1)


def main():
    folder = Path(sys.argv[1])
    shape = json.loads((folder / "shape.json").read_text())
    cut_offs = shape["k"]
    table = lambda name, rows: np.fromfile(folder / name, "<f4").reshape(rows, shape["stride"])
    users, items = table("users.f32", shape["users"]), table("items.f32", shape["items"])
    seen, relevant = (lists(folder / name, shape["users"]) for name in ("seen.u32", "relevant.u32"))
    evaluated = np.array([u for u in range(shape["users"]) if len(seen[u]) and len(relevant[u])])
    blocks = [evaluated[at : at + BLOCK] for at in range(0, len(evaluated), BLOCK)]
    with ThreadPoolExecutor(2) as pool:
        ranked = np.concatenate(list(pool.map(lambda b: rankings(b, users, items, seen, max(cut_offs)), blocks)))

    qrels = {str(u): {str(i): 1 for i in relevant[u]} for u in evaluated}
    sums = {}
    for k in cut_offs:
        # Cut at k, so that the reciprocal rank is, too. What trec_eval sees of scores is their order.
        run = {str(u): {str(i): float(-rank) for rank, i in enumerate(top[:k])} for u, top in zip(evaluated, ranked)}
        measures = {f"recall.{k}", f"P.{k}", f"ndcg_cut.{k}", f"map_cut.{k}", "recip_rank"}
        for user, of in pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run).items():
            count = len(qrels[user])
            values = {
                "recall": of[f"recall_{k}"],
                "precision": of[f"P_{k}"],
                "ndcg": of[f"ndcg_cut_{k}"],
                "mrr": of["recip_rank"],
                # trec_eval divides by all relevant items, docs/metrics.md by those that k places can hold.
                "map": of[f"map_cut_{k}"] * count / min(k, count),
            }
            for name, value in values.items():
                sums[f"{name}@{k}"] = sums.get(f"{name}@{k}", 0.0) + value
    json.dump({"users": len(evaluated), "metrics": {name: s / len(evaluated) for name, s in sums.items()}}, sys.stdout)


if __name__ == "__main__":
    main()
