"""Cohorts: 16 synthetic cases on one and two workers, a worker's memory over 200 cases, and 1,000 cases on paper.

Run as `python benchmarks/cohort.py`. Workers are warm: each has planned a case before the clock starts. Overhead is
what the clock shows beyond the cases' own seconds, and what a task that does nothing takes.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import processor, table
from brachy.cohort.cluster import results, workers
from brachy.cohort.listing import Row

CASES = 16
MEMORY_CASES = 200
ON_PAPER = 1000
EMPTY = 500

QUICK = "[search]\nstarts = 1\nmoves = 2000\nfine_moves = 0\n\n[direction]"


def rows(count, first=0, **options):
    given = tuple(sorted({"direction": "0", **options}.items()))
    return [Row(k, "sphere-35mm", (*given, ("seed", str(k)))) for k in range(first + 1, first + count + 1)]


def resident_mb():
    import psutil

    return psutil.Process(os.getpid()).memory_info().rss / 1e6


def nothing(number):
    return number


def batch(client, listed):
    """Seconds by the clock, and those of the cases themselves."""
    start = time.perf_counter()
    own = []
    for _, record in results(client, "plan", listed):
        assert record.done, record.reason
        own.append(record.seconds)
    return time.perf_counter() - start, own


def speed():
    found = {}
    for count in (1, 2):
        with workers(count, None) as client:
            batch(client, rows(2 * count, first=1000 * count))
            found[count] = batch(client, rows(CASES, first=100 * count))
            if count == 1:
                start = time.perf_counter()
                client.gather(client.map(nothing, range(EMPTY), pure=False))
                empty = (time.perf_counter() - start) / EMPTY
    return found, empty


def memory(protocol):
    found = []
    with workers(1, None) as client:
        for done in range(0, MEMORY_CASES, 20):
            batch(client, rows(20, first=done, protocol=protocol))
            found.append((done + 20, next(iter(client.run(resident_mb).values()))))
    return found


def main():
    from brachy import resources

    print(processor())
    found, empty = speed()
    one, two = found[1][0], found[2][0]
    own = sum(found[1][1])
    print(f"{CASES} cases: {one:.1f} s on one worker, {two:.1f} s on two: {one / two:.2f}x")
    print(f"overhead on one worker: {100 * (one - own) / own:.1f} % of the cases' own {own:.1f} s")
    busy = sum(found[2][1])
    print(f"two workers: {100 * (2 * two - busy) / busy:.1f} % idle or overhead of {busy:.1f} s")
    print(f"a task that does nothing: {1000 * empty:.2f} ms")
    case, gone = own / CASES, (one - own) / CASES
    measured = f"t = {case:.2f} s, o = {1000 * gone:.0f} ms, e = {1000 * empty:.2f} ms"
    print(f"\n{ON_PAPER} cases on paper: N (t + o) / W + N e, {measured}\n")
    lines = []
    for count in (2, 20, 200):
        seconds = ON_PAPER * (case + gone) / count + ON_PAPER * empty
        lines.append([str(count), f"{seconds:.0f} s", f"{100 * ON_PAPER * case / count / seconds:.0f} %"])
    print(table(["workers", "1,000 cases", "time spent planning"], lines))
    with tempfile.TemporaryDirectory() as folder:
        quick = Path(folder) / "quick.toml"
        text = resources.find("plans", "liver-metastasis").read_text(encoding="utf-8")
        quick.write_text(text.replace("[direction]", QUICK, 1), encoding="utf-8")
        sizes = memory(str(quick))
    print("\nmemory of a worker, MB: " + ", ".join(f"{size:.0f} after {done}" for done, size in sizes))


if __name__ == "__main__":
    main()
