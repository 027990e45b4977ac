"""Ingests the same log with DuckDB and with Peccary under the same memory and threads, one after the other.

Called by ingest.sh. The work: read user, item and time; give users and items dense numbers; merge rows of the same user
and item into one with a count and the last time; sort by user and item; write. Each side runs as a process of its own,
whose wall-clock time and peak of resident memory are taken. Prints a table, and with --json FILE writes the figures there.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time

# Dense numbers come from sorting the distinct ids, as Peccary's come from sorting their hashes: both orders are total and
# need no insertion order. Written as zstd Parquet, DuckDB's smallest common output; Peccary writes its own shards.
DUCKDB = """
import sys, duckdb
log, out, memory, threads, temp = sys.argv[1:]
db = duckdb.connect(out + ".db", config={"memory_limit": memory, "threads": threads, "temp_directory": temp,
                                         "preserve_insertion_order": "false"})
# Its progress bar would go to standard output.
db.execute("SET enable_progress_bar = false")
source = f"read_parquet('{log}')" if log.endswith(".parquet") else \\
    f"read_csv('{log}', header=true, columns={{'user': 'VARCHAR', 'item': 'VARCHAR', 'time': 'BIGINT'}})"
db.execute(f"CREATE TABLE merged AS SELECT user, item, count(*)::INTEGER AS count, max(time) AS time FROM {source} "
           "GROUP BY user, item")
for what in ("user", "item"):
    db.execute(f"CREATE TABLE {what}s AS SELECT {what}, (row_number() OVER (ORDER BY {what}) - 1)::UINTEGER AS id "
               f"FROM (SELECT DISTINCT {what} FROM merged)")
    db.execute(f"COPY (SELECT {what}, id FROM {what}s ORDER BY id) TO '{out}.{what}s.parquet' (FORMAT parquet, COMPRESSION zstd)")
db.execute("COPY (SELECT users.id AS user, items.id AS item, count, time FROM merged JOIN users USING (user) "
           "JOIN items USING (item) ORDER BY 1, 2) "
           f"TO '{out}.parquet' (FORMAT parquet, COMPRESSION zstd)")
print(db.execute(f"SELECT count(*) FROM '{out}.parquet'").fetchone()[0])
"""


def size(text):
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if text.endswith(unit):
            return int(float(text[:-3]) * scale)
    raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 2GiB or 128MiB")


def measure(command):
    """Exit code, seconds, peak resident MiB, standard output, last line of standard error."""
    begun = time.time()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        out, errors = child.stdout.read(), child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    lines = [line for line in errors.splitlines() if line.strip()]
    return child.returncode, time.time() - begun, usage.ru_maxrss / 1024, out, lines[-1] if lines else ""


def clean(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)



def run_duckdb(log, memory, threads, folder):
    clean(folder)
    limit = f"{size(memory) // (1 << 20)}MiB"
    command = [sys.executable, "-c", DUCKDB, log, f"{folder}/out", limit, str(threads), f"{folder}/temp"]
    code, seconds, peak, out, error = measure(command)
    result = {"seconds": seconds, "peak_mib": peak, "interactions": int(out) if code == 0 else None,
              "error": None if code == 0 else error or f"ended by {code}"}
    shutil.rmtree(folder)
    return result


def run_peccary(binary, log, memory, threads, folder):
    clean(folder)
    command = [binary, "ingest", log, "--output", f"{folder}/out.pec", "--memory", memory, "--threads", str(threads),
               "--json", "--quiet"]
    code, seconds, peak, out, error = measure(command)
    done = code == 0
    result = {"seconds": seconds, "peak_mib": peak,
              "interactions": json.loads(out)["parts"][0][1]["interactions"] if done else None,
              "error": None if done else error or f"ended by {code}"}
    shutil.rmtree(folder)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="1000000,10000000", help="sizes to compare, in rows")
    parser.add_argument("--formats", default="csv,parquet")
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--small", default="64MiB,128MiB", help="budgets under which the largest size runs once more")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--binary", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--json")
    args = parser.parse_args()
    import duckdb

    sizes = sorted(int(rows) for rows in args.rows.split(","))
    print(f"DuckDB {duckdb.__version__}, {args.threads} threads; one run each, output on the disk of {args.folder}")
    print("user and item as strings, time in seconds; a twentieth as many users as rows, a hundredth as many items, at most 500,000")
    print(f"\n{'rows':>12} {'log':8} {'--memory':>9}  {'':8} {'seconds':>8} {'M rows/s':>9} {'peak MiB':>9}")
    results = []
    for rows in sizes:
        for form in args.formats.split(","):
            log = os.path.join(args.folder, f"log-{rows}.{form}")
            if os.path.exists(log):
                os.remove(log)
            subprocess.run([args.binary, "synth", "--quiet", "--output", log, "--users", str(max(rows // 20, 1)), "--items",
                            str(min(max(rows // 100, 1), 500_000)), "--interactions", str(rows), "--repeats", "0.2"],
                           check=True, stdout=subprocess.DEVNULL)
            with open(log, "rb") as file:  # both sides find it in the system's cache, as far as it fits
                while file.read(1 << 24):
                    pass
            small = [m for m in args.small.split(",") if m] if rows == sizes[-1] and form == "csv" else []
            for memory in [args.memory, *small]:
                counts = set()
                for name in ("duckdb", "peccary"):
                    work = os.path.join(args.folder, name)
                    found = run_duckdb(log, memory, args.threads, work) if name == "duckdb" else \
                        run_peccary(args.binary, log, memory, args.threads, work)
                    results.append({"rows": rows, "format": form, "memory": memory, "name": name, **found})
                    if found["error"]:
                        print(f"{rows:12,} {form:8} {memory:>9}  {name:8} gave up after {found['seconds']:.1f} s: {found['error'][:90]}")
                        continue
                    counts.add(found["interactions"])
                    print(f"{rows:12,} {form:8} {memory:>9}  {name:8} {found['seconds']:8.2f} "
                          f"{rows / found['seconds'] / 1e6:9.2f} {found['peak_mib']:9.0f}", flush=True)
                assert len(counts) <= 1, f"the two sides found different numbers of interactions: {counts}"
            os.remove(log)
    print("""
What differs: DuckDB sorts ids by name and writes zstd Parquet; Peccary orders them by hash and writes its own files, whose
checksums, positives by user and popularity are part of its time. Peccary syncs what it writes. DuckDB's --memory bounds its
buffers, Peccary's the process.""")
    if args.json:
        with open(args.json, "w") as out:
            json.dump(results, out, indent=2)


if __name__ == "__main__":
    sys.exit(main())
