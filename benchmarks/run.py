"""Every benchmark, written to docs/performance.md: `make bench`."""

import argparse
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numba
import numpy as np

from benchmarks import dose, dvh
from benchmarks.measure import processor, table

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
NOTES_1D, NOTES_2D = 26.0, 250.0
"""ns a pair that plain numpy takes at most on the processor that the asked ratios were set on (EPYC gen 3, AVX2)."""


def goals(pairs, influence, growth, threads, dvh_seconds, narrow):
    """What is asked for beside what was measured; at the peer's speed of the notes too, where a peer is numpy."""
    masks = dvh_seconds["DVH of 8 structures, 2.56 M voxels"]
    contour = dvh_seconds["Contour of 200 points on 512 x 512"]
    peer = "skimage.draw.polygon" if "skimage.draw.polygon" in contour else "matplotlib Path"
    rows = []
    for name, least, aim in (
        ("1D direct", 12, 30),
        ("1D tree", 100, 180),
        ("2D direct", 40, 60),
        ("2D tree", 280, 400),
    ):
        numpy_name, notes = ("numpy 1D", NOTES_1D) if name.startswith("1D") else ("numpy 2D", NOTES_2D)
        ratio = pairs[numpy_name] / pairs[name]
        rows.append(
            [
                f"{name} vs {numpy_name}",
                f"{least}x",
                f"{aim}x",
                f"{ratio:.0f}x",
                f"{notes / pairs[name]:.0f}x",
            ]
        )
        if narrow:
            there = narrow["pairs"]
            ratio = f"{there[numpy_name] / there[name]:.0f}x"
            rows.append([f"{name} vs {numpy_name}, without AVX-512", f"{least}x", f"{aim}x", ratio, ""])
    rows.append(
        ["2D tree vs own 2D direct", "5x", "12x", f"{pairs['2D direct'] / pairs['2D tree']:.1f}x", ""]
    )
    for name in ("1D tree", "2D tree"):
        if name in threads:
            clock, own = threads[name]
            measured = f"{clock:.2f}x by the clock, {own:.2f}x by CPU time"
            rows.append([f"{name}, two threads vs one", "1.7x", "1.9x", measured, ""])
    for name in ("1D tree", "2D tree"):
        rows.append([f"320 seeds over 80, {name}", "<= 2.2x", "<= 1.6x", f"{growth[name]:.2f}x", ""])
        if narrow:
            ratio = f"{narrow['growth'][name]:.2f}x"
            rows.append([f"320 seeds over 80, {name}, without AVX-512", "<= 2.2x", "<= 1.6x", ratio, ""])
    ratio = influence["numpy 2D"] / influence["2D"]
    rows.append(
        ["influence 2000 x 20000, 2D", "40x", "70x", f"{ratio:.0f}x", f"{NOTES_2D / influence['2D']:.0f}x"]
    )
    ratio = masks["numpy mask + histogram"] / masks["one pass"]
    rows.append(["DVH of 8 structures vs numpy mask + histogram", "3x", "5x", f"{ratio:.1f}x", ""])
    ratio = contour[peer] / contour["area fractions"]
    rows.append([f"contour on 512 x 512 vs {peer}", "300x", "", f"{ratio:.0f}x", ""])
    return table(
        ["ratio", "required: at least", "desired", "measured", "against numpy at 26 (1D), 250 ns (2D)"], rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--plan-rounds", type=int, default=3, help="of whole plans, after one that is not counted"
    )
    parser.add_argument("--quick", action="store_true", help="leave out 0.5 mm, 1000 seeds and whole plans")
    arguments = parser.parse_args()
    numba.set_num_threads(1)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    print("dose", flush=True)
    pairs_text, pairs = dose.pairs(arguments.rounds)
    narrow_text, narrow = dose.without_avx512(arguments.rounds)
    influence_text, influence = dose.rows_of_influence(arguments.rounds)
    threads_text, threads = dose.threads(arguments.rounds)
    growth_text, growth = dose.growth(arguments.rounds, arguments.quick)
    print("dose-volume", flush=True)
    dvh_text, seconds = dvh.tables(arguments.rounds)
    plans = ""
    if not arguments.quick:
        print("planning", flush=True)
        for script in ("planning.py", "robustness.py", "growth.py"):
            words = [sys.executable, str(ROOT / "benchmarks" / script)]
            if script != "robustness.py":
                words.append(str(arguments.plan_rounds))
            plans += subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    text = TEMPLATE.format(
        cpu=processor(),
        versions=f"numpy {np.__version__}, numba {numba.__version__}, Python {sys.version.split()[0]}",
        today=date.today().isoformat(),
        load=load,
        rounds=arguments.rounds,
        goals=goals(pairs, influence, growth, threads, seconds, narrow),
        pairs=pairs_text,
        narrow=narrow_text,
        influence=influence_text,
        threads=threads_text,
        growth=growth_text,
        dvh=dvh_text.strip(),
        plans=f"## Whole plans\n\n```\n{plans.strip()}\n```\n" if plans else "",
    )
    PAGE.write_text(text.rstrip() + "\n")
    print(f"written: {PAGE.relative_to(ROOT)}")


TEMPLATE = """# How fast it is

Written by `make bench`; do not edit. Measured on {today}:

- {cpu}; {versions}; load {load} when it began.
- Seeded, warm, medians of {rounds} interleaved rounds on one core, by the process's CPU time.
- Two threads against one: the best of many rounds by wall-clock time, because other work on the machine only adds to
  it; and the CPU time of one thread divided by that of the busier of two, which other work does not affect.

## Required ratios

{goals}
The peers are optimised numpy (`benchmarks/peers/numpy_dose.py`: slice by slice, in place). The
ratios were set on a processor without AVX-512, where numpy takes 19 to 26 ns (1D) and 135 to 250 ns (2D) a pair. With
AVX-512 numpy's arc tangents and exponentials are several times as fast, but not the kernels, whose time is spent on
reading tables. The last column is the ratio of the peer's time there to that of the kernels here.

Where a ratio is missed:

- **Two threads.** The wall-clock ratio is meaningful only on an idle machine; the CPU-time ratio shows how evenly the
  blocks are distributed. Of the 23 ms of the 1D tree a part is serial: new memory pages of the grid, and Python.
- **Influence.** A pair costs about 1 ns of arithmetic and of reading a table's cell, as in the direct sum. But the
  scattered points of an influence matrix find their cells in the second-level cache and not in the first, in every
  list of points some are so near that G_L is computed, and the matrix itself is 160 MB of new memory pages.
- **Growth with seeds, 2D.** 320 seeds fill four times the volume of 80 at the same spacing, so each has as many voxels
  near it as before, and near seeds are summed directly. F is published at steps of 5 or 10 degrees and linear between:
  kinks determine which seeds count as near, and only many seeds average them out (see `brachy/core/tree.py`). Where 100
  seeds or more are far from a block, 125 nodes are tried before 216. Fewer nodes for all blocks brought the ratio to
  1.9, but 80 seeds took longer, and the error was 1.9e-3 on random implants; a reach of 2 in place of 3 gained nothing,
  because more interpolations failed.

## Dose: 80 seeds, 160 x 160 x 100 voxels of 1 mm

{pairs}
The greatest error is that of 20 000 voxels outside the capsules, against the float64 sum. On 257 random implants of six
models (25 to 420 seeds in balls, discs, lines and rows, six spacings, all voxels) the tree was within 6.5e-4 (1D) and
8.3e-4 (2D) of the direct sum (`benchmarks/tree_error.py`).
pygrpm is listed if `BRACHY_BENCH_PYGRPM` names a Python that has it (see
`benchmarks/peers/pygrpm_dose.py`).

## Dose: the same without AVX-512

{narrow}
## Dose: threads

{threads}
## Dose: voxels and seeds, tree, one core

{growth}
## Influence matrix: 2000 seeds x 20 000 points, float32

{influence}
## Dose-volume histograms and contours

{dvh}

{plans}"""


if __name__ == "__main__":
    main()
