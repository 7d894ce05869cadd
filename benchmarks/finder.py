"""Finder of seeds on scans of known truth: recall, precision, errors, axis, each kind of pair, time.

    .venv/bin/python benchmarks/finder.py [--counts 60,119] [--seeds 1,2] [--only "5 mm"] [--big]

Scans come from tests/postimplant/seed_finder/synthetic.py, which shares no model with the finder. `--big`
times 200 slices of 512 x 512. Seeded: the same numbers each time; only the times differ.
"""

import argparse
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from brachy.geometry.grid import Grid
from brachy.patient.case import Case
from brachy.postimplant.seed_finder import Capsule, find_seeds
from tests.postimplant.seed_finder import synthetic


def row(name: str, count: int, seed: int) -> None:
    scanner = synthetic.SCANNERS[name]
    scene, hu = synthetic.scan(scanner, count, seed)
    begin = time.perf_counter()
    found = find_seeds(Case(hu, scene.grid), Capsule())
    seconds = time.perf_counter() - begin
    gate = 1.0 if scanner.spacing_mm[2] <= 3 else 2.0
    got = synthetic.score(scene, found.positions_mm, found.axes, gate)
    kinds = "; ".join(f"{kind} {n}/{of}, {axis:.0f} deg" for kind, (n, of, axis) in got.kinds.items())
    print(
        f"| {name} | {count} | {seed} | {100 * got.recall:.1f} | {100 * got.precision:.1f} | {got.error_mm:.2f} "
        f"| {got.axis_deg:.1f} | {kinds} | {seconds:.1f} |",
        flush=True,
    )


def big() -> None:
    """200 slices of 512 x 512 at 0.977 x 0.977 x 2 mm, 60 seeds."""
    scanner = synthetic.Scanner((0.977, 0.977, 2.0), 2.0, cutoff_per_mm=0.6)
    scene, part = synthetic.scan(scanner, 60, 1)
    rng = np.random.default_rng(0)
    hu = rng.normal(40, scanner.noise_hu, (200, 512, 512)).astype(np.int16)
    at = [(a - b) // 2 for a, b in zip(hu.shape, part.shape, strict=True)]
    hu[tuple(slice(a, a + n) for a, n in zip(at, part.shape, strict=True))] = part
    origin = scene.grid.index_to_mm([[-at[2], -at[1], -at[0]]])[0]
    begin = time.perf_counter()
    found = find_seeds(Case(hu, Grid(origin, scene.grid.spacing_mm, hu.shape)), Capsule())
    seconds = time.perf_counter() - begin
    got = synthetic.score(scene, found.positions_mm, found.axes, 1.0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"200 slices of 512 x 512: {seconds:.1f} s, peak {peak:.0f} MB, recall {100 * got.recall:.1f} %, "
        f"precision {100 * got.precision:.1f} %, {os.cpu_count()} cores"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", default="60")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--only", default="")
    parser.add_argument("--big", action="store_true")
    given = parser.parse_args()
    if given.big:
        big()
        return
    print("| scan | seeds | scene | recall % | precision % | error mm | axis deg | kinds | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in synthetic.SCANNERS if not given.only else given.only.split(","):
        for count in given.counts.split(","):
            for seed in given.seeds.split(","):
                row(name, int(count), int(seed))


if __name__ == "__main__":
    main()
