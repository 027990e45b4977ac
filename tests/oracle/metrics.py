"""Ranking metrics by their textbook formulas, in plain Python: an oracle that shares no code with Peccary.

Reads one JSON object on standard input:
  {"k": [5, 10], "users": [{"scores": [..], "masked": [item, ..], "relevant": [item, ..]}, ..]}
and writes {"recall@5": .., .., "auc": ..}: means over users. Scores must not tie.
"""

import json
import math
import sys


def metrics_of(user, cut_offs):
    masked, relevant = set(user["masked"]), set(user["relevant"])
    scores = user["scores"]
    ranking = sorted((i for i in range(len(scores)) if i not in masked), key=lambda i: -scores[i])
    values = {}
    for k in cut_offs:
        hits = [1 if item in relevant else 0 for item in ranking[:k]]
        dcg = sum(hit / math.log2(position + 2) for position, hit in enumerate(hits))
        best = min(k, len(relevant))
        idcg = sum(1 / math.log2(position + 2) for position in range(best))
        values[f"recall@{k}"] = sum(hits) / len(relevant)
        values[f"precision@{k}"] = sum(hits) / k
        values[f"hit_rate@{k}"] = float(any(hits))
        values[f"ndcg@{k}"] = dcg / idcg
        values[f"mrr@{k}"] = next((1 / (position + 1) for position, hit in enumerate(hits) if hit), 0.0)
        values[f"map@{k}"] = sum(sum(hits[: p + 1]) / (p + 1) for p, hit in enumerate(hits) if hit) / best
    negatives = [item for item in ranking if item not in relevant]
    pairs = [(p, n) for p in relevant for n in negatives]
    values["auc"] = sum(scores[p] > scores[n] for p, n in pairs) / len(pairs)
    return values


def main():
    case = json.load(sys.stdin)
    users = [metrics_of(user, case["k"]) for user in case["users"]]
    json.dump({name: sum(user[name] for user in users) / len(users) for name in users[0]}, sys.stdout)


if __name__ == "__main__":
    main()
