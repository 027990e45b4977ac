"""Trains BPR with `implicit`, with Buffalo and with Peccary on the same log, one after the other, and scores both by the same code.

Called by run.sh. Reads two logs of (user, item) pairs with a header line, plain or .gz. Prints a table, and with
--json FILE writes the same figures there.
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import scipy.sparse as sparse

K = 20


def read(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt") as log:
        next(log)
        return np.loadtxt(log, dtype=np.int64, delimiter="\t")


def quality(ranked, test):
    """Recall@20 and NDCG@20 over users with test items; `ranked` maps a user to at most 20 items, train left out."""
    discount = 1.0 / np.log2(np.arange(2, K + 2))
    recall, ndcg = [], []
    for user in range(test.shape[0]):
        wanted = set(test.indices[test.indptr[user]:test.indptr[user + 1]].tolist())
        if not wanted:
            continue
        hits = np.array([item in wanted for item in ranked[user]], dtype=float)
        recall.append(hits.sum() / len(wanted))
        ndcg.append((hits * discount[:len(hits)]).sum() / discount[:min(K, len(wanted))].sum())
    return float(np.mean(recall)), float(np.mean(ndcg))


def run_implicit(train, test, threads, settings):
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(factors=64, num_threads=threads, random_state=1, use_gpu=False, **settings)
    begun = time.time()
    model.fit(train, show_progress=False)
    seconds = time.time() - begun
    ranked = {}
    for start in range(0, train.shape[0], 1000):
        users = np.arange(start, min(start + 1000, train.shape[0]))
        items, _ = model.recommend(users, train[users], N=K, filter_already_liked_items=True)
        ranked.update(zip(users.tolist(), items.tolist()))
    return (*quality(ranked, test), seconds)


def run_buffalo(data, train, test, threads, settings):
    import buffalo_bpr

    model, seconds = buffalo_bpr.fit(data, threads, **settings)
    return (*quality(buffalo_bpr.rank(model, train, K), test), seconds)


def run_peccary(binary, dataset, settings, folder, test, threads):
    def call(*arguments):
        out = subprocess.run([binary, *arguments, "--json", "--quiet"], check=True, stdout=subprocess.PIPE)
        return json.loads(out.stdout) if out.stdout.strip() else None

    model = os.path.join(folder, "peccary.model")
    begun = time.time()
    call("train", dataset, "--output", model, "--force", "--threads", str(threads), *settings)
    seconds = time.time() - begun  # the whole command: starting, checking the dataset, training, writing the model
    listing = os.path.join(folder, "recommended.ndjson")
    subprocess.run([binary, "recommend", model, dataset, "--all", "--k", str(K), "--output", listing, "--force", "--quiet"],
                   check=True, stdout=subprocess.DEVNULL)
    ranked = {}
    with open(listing) as lines:
        for line in lines:
            row = json.loads(line)
            ranked[int(row["user"])] = [int(entry["item"]) for entry in row["items"]]
    own = call("evaluate", model, dataset, "--k", str(K), "--baselines", "none")["metrics"]
    recall, ndcg = quality(ranked, test)
    # The same lists, scored by the two programs.
    assert abs(own[f"recall@{K}"] - recall) < 1e-4 and abs(own[f"ndcg@{K}"] - ndcg) < 1e-4, (own, recall, ndcg)
    return recall, ndcg, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json")
    args = parser.parse_args()

    pairs, held_out = read(args.train), read(args.test)
    shape = (max(pairs[:, 0].max(), held_out[:, 0].max()) + 1, max(pairs[:, 1].max(), held_out[:, 1].max()) + 1)
    matrix = lambda rows: sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows[:, 0], rows[:, 1])), shape=shape)
    train, test = matrix(pairs), matrix(held_out)
    print(f"{shape[0]:,} users x {shape[1]:,} items, {len(pairs):,} train pairs, 64 dimensions, {args.threads} threads")

    dataset = os.path.join(args.folder, "gowalla.pec")
    subprocess.run([args.binary, "ingest", args.train, "--test", args.test, "--output", dataset, "--force", "--quiet"],
                   check=True, stdout=subprocess.DEVNULL)
    rows = []
    for name, settings in [
        ("implicit, its defaults (100 iterations)", {}),
        ("implicit, 50 iterations", {"iterations": 50}),
        ("implicit, 200 iterations", {"iterations": 200}),
        ("implicit, 200 iterations at rate .05, reg .003",
         {"iterations": 200, "learning_rate": 0.05, "regularization": 0.003}),
    ]:
        rows.append((name, *run_implicit(train, test, args.threads, settings)))
    import buffalo_bpr

    data = buffalo_bpr.prepare(train, args.folder)
    for name, settings in [
        ("buffalo, 100 iterations at rate .05, reg .003", {"iterations": 100}),
        ("buffalo, 200 iterations at rate .05, reg .003", {"iterations": 200}),
        ("buffalo, 100 iterations at its default rate .002, reg .025", {"iterations": 100, "rate": 0.002, "reg": 0.025}),
    ]:
        rows.append((name, *run_buffalo(data, train, test, args.threads, settings)))
    recipe = os.path.basename(args.recipe)
    for name, settings in [
        ("peccary, its defaults", []),
        (f"peccary, {recipe}", ["--config", args.recipe]),
        (f"peccary, {recipe}, 60 epochs", ["--config", args.recipe, "--epochs", "60"]),
    ]:
        rows.append((name, *run_peccary(args.binary, dataset, settings, args.folder, test, args.threads)))

    print(f"\n{'':48} recall@20   ndcg@20   seconds of training")
    for name, recall, ndcg, seconds in rows:
        print(f"{name:48} {recall:9.4f} {ndcg:9.4f} {seconds:9.1f}")
    if args.json:
        keys = ("name", "recall@20", "ndcg@20", "seconds")
        with open(args.json, "w") as out:
            json.dump([dict(zip(keys, row)) for row in rows], out, indent=2)


if __name__ == "__main__":
    sys.exit(main())
