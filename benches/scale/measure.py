"""Runs commands and measures them: wall time, peak memory, bytes read from and written to storage. Linux only."""

import os
import subprocess
import threading
import time


def _peaks(pid, found, done):
    """Polls what the kernel keeps no high-water mark of, until the process ends."""
    while not done.wait(0.02):
        try:
            with open(f"/proc/{pid}/status") as status:
                for line in status:
                    if line.startswith("RssAnon:"):
                        found["anonymous"] = max(found["anonymous"], int(line.split()[1]) * 1024)
            with open(f"/proc/{pid}/io") as io:
                for line in io:
                    key, value = line.split(":")
                    if key in ("read_bytes", "write_bytes"):
                        found[key] = int(value)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return


def run(*commands, stdout=None):
    """Runs a pipeline; returns for each command seconds, peaks and bytes, and the standard output of the last.

    Peak anonymous memory and bytes are polled 50 times a second, and so may miss what comes and goes faster.
    """
    began = time.monotonic()
    running, feed = [], None
    for i, command in enumerate(commands):
        last = i + 1 == len(commands)
        process = subprocess.Popen(
            command, stdin=feed, stdout=subprocess.PIPE if not last or stdout is None else stdout, text=False
        )
        if feed is not None:
            feed.close()
        feed = process.stdout
        found, done = {"anonymous": 0, "read_bytes": 0, "write_bytes": 0}, threading.Event()
        thread = threading.Thread(target=_peaks, args=(process.pid, found, done))
        thread.start()
        running.append((command, process, found, done, thread))
    output = feed.read().decode() if feed is not None else ""
    results = []
    for command, process, found, done, thread in running:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        done.set()
        thread.join()
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
        results.append({
            "command": " ".join(command),
            "processor_seconds": usage.ru_utime + usage.ru_stime,
            "peak_resident": usage.ru_maxrss * 1024,
            "peak_anonymous": found["anonymous"],
            "read_bytes": found["read_bytes"],
            "write_bytes": found["write_bytes"],
        })
    seconds = time.monotonic() - began
    for result in results:
        result["seconds"] = seconds
    return results, output


def size(path):
    """Bytes of a file or folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(path) for name in names)


def gib(count):
    """A byte size to read."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


def machine():
    """What it ran on, in a line."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo") as info:
        memory = int(info.readline().split()[1]) * 1024
    return f"{model}, {os.cpu_count()} cores, {gib(memory)} of memory"
