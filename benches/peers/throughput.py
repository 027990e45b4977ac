"""Triples a second of BPR: 64 dimensions, one uniform negative, no biases where they can be left out.

Called by throughput.sh. Each side trains on the same log, one after the other, once for a few epochs and once for more; the
rate comes from the difference, so that neither loading nor setting up counts. A triple is one (user, positive, negative)
drawn, whether it leads to an update or not. Prints a table, and with --json FILE writes the same figures there.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np
import scipy.sparse as sparse


def rate(fit, epochs, triples):
    """Triples a second between a short and a long run."""
    few, many = epochs
    short, long = fit(few), fit(many)
    return (many - few) * triples / (long - short) if long > short else None


def implicit_fit(train, threads):
    from implicit.bpr import BayesianPersonalizedRanking

    def fit(epochs):
        model = BayesianPersonalizedRanking(factors=64, num_threads=threads, iterations=epochs, random_state=1,
                                            use_gpu=False, verify_negative_samples=True)
        begun = time.time()
        model.fit(train, show_progress=False)
        return time.time() - begun
    return fit


def buffalo_fit(train, threads, folder):
    import buffalo_bpr

    data = buffalo_bpr.prepare(train, folder)
    return lambda epochs: buffalo_bpr.fit(data, threads, epochs)[1]


def lightfm_fit(train, threads):
    from lightfm import LightFM

    train = train.tocoo()

    def fit(epochs):
        model = LightFM(no_components=64, loss="bpr", random_state=1)
        begun = time.time()
        model.fit(train, epochs=epochs, num_threads=threads)
        return time.time() - begun
    return fit


def peccary_fit(binary, dataset, threads, folder):
    def fit(epochs):
        begun = time.time()
        subprocess.run([binary, "train", dataset, "--output", f"{folder}/speed.model", "--force", "--dim", "64", "--epochs",
                        str(epochs), "--biases", "false", "--threads", str(threads), "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
        return time.time() - begun
    return fit


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=138_493)
    parser.add_argument("--items", type=int, default=26_744)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--binary", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--json")
    args = parser.parse_args()

    log, dataset = f"{args.folder}/speed.csv", f"{args.folder}/speed.pec"
    subprocess.run([args.binary, "synth", "--quiet", "--force", "--integer-ids", "--output", log, "--users", str(args.users),
                    "--items", str(args.items), "--interactions", str(args.rows)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([args.binary, "ingest", log, "--output", dataset, "--force", "--quiet"], check=True,
                   stdout=subprocess.DEVNULL)
    with open(log) as lines:
        pairs = np.loadtxt(lines, dtype=np.int32, delimiter=",", skiprows=1, usecols=(0, 1))
    train = sparse.csr_matrix((np.ones(len(pairs), dtype=np.float32), (pairs[:, 0], pairs[:, 1])))
    train.sum_duplicates()
    os.remove(log)
    print(f"{args.users:,} users x {args.items:,} items, {train.nnz:,} interactions, 64 dimensions, {args.threads} threads")
    # Buffalo draws until it finds an item that is no positive, for ever where there is none.
    assert np.diff(train.indptr).max() < train.shape[1] // 2, "a user has half of all items: choose more --items"
    results = []
    for name, differs, epochs, make in [
        ("implicit", "item bias; a pair drawn that is a positive is skipped", (1, 4), lambda: implicit_fit(train, args.threads)),
        ("buffalo", "no biases, positives rejected", (1, 4), lambda: buffalo_fit(train, args.threads, args.folder)),
        ("peccary", "no biases, positives rejected", (2, 12),
         lambda: peccary_fit(args.binary, dataset, args.threads, args.folder)),
        ("lightfm", "item and user biases, Adagrad", (1, 2), lambda: lightfm_fit(train, args.threads)),
    ]:
        try:
            speed = rate(make(), epochs, train.nnz)
        except ImportError as error:
            print(f"{name:10} cannot be loaded: {error}")
            continue
        text = f"{speed / 1e6:8.2f} M triples/s" if speed else "too short to measure"
        print(f"{name:10} {text}   {differs}", flush=True)
        results.append({"name": name, "triples_per_second": speed, "differs": differs})
    if args.json:
        with open(args.json, "w") as out:
            json.dump(results, out, indent=2)


if __name__ == "__main__":
    sys.exit(main())
