"""Speed of the dose kernels beside plain numpy, in one run: ns per seed-voxel pair, interleaved rounds.

`python benchmarks/dose.py [--rounds 7] [--quick]` prints the tables; `tables()` gives them to `benchmarks/run.py`.
Compile time is left out (warm), random numbers are seeded, one core unless a row says two. The process's CPU time
is counted, not the clock, so that other work on the machine weighs less; rows with two threads count the clock.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numba

from benchmarks.peers import numpy_dose
from brachy.dosimetry import dose, influence
from brachy.grid import Grid
from brachy.implant import Implant
from brachy.source import load_source

SOURCE = load_source("amersham_6711")
SLICES = 2
"""Slices of the grid that the numpy peers compute: they cost the same everywhere."""

Job = tuple[Callable[[], object], int]


def implant(count: int, seed: int = 1) -> Implant:
    """Seeds in a 44 x 40 x 44 mm ellipsoid, growing with the count, along z and tilted by about 6 degrees."""
    rng = np.random.default_rng(seed)
    scale = max(1.0, (count / 80) ** (1 / 3))
    ball = rng.normal(size=(count, 3))
    ball *= rng.uniform(size=(count, 1)) ** (1 / 3) / np.linalg.norm(ball, axis=1, keepdims=True)
    axes = np.array([0.0, 0.0, 1.0]) + rng.normal(0, 0.1, (count, 3)) * [1, 1, 0]
    return Implant(SOURCE, ball * [22, 20, 22] * scale, axes=axes, strength_U=0.7)


def grid(spacing: float) -> Grid:
    """160 x 160 x 100 mm about the origin."""
    shape = (round(100 / spacing), round(160 / spacing), round(160 / spacing))
    return Grid(-0.5 * spacing * (np.array(shape[::-1]) - 1), (spacing,) * 3, shape)


def interleaved(
    jobs: dict[str, Job], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Median ns per pair of each job; the jobs take turns, so that a slow spell hits all of them."""
    for work, _ in jobs.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, (work, pairs) in jobs.items():
            start = clock()
            work()
            times[name].append((clock() - start) / pairs * 1e9)
    return {name: float(np.median(values)) for name, values in times.items()}


def worst(where: Grid, seeds: Implant, formalism: str, method: str) -> float:
    """Greatest relative error against the exact sum on 20 000 voxels outside the capsules."""
    points = where.centres_mm()
    chosen = np.random.default_rng(2).choice(len(points), 20_000, replace=False)
    d = points[chosen][:, None] - seeds.positions_mm[None]
    nearest = np.sqrt((d**2).sum(axis=2).min(axis=1))
    chosen = chosen[nearest > np.hypot(SOURCE.capsule_length_mm, SOURCE.capsule_diameter_mm) / 2]
    exact = dose(points[chosen], seeds, formalism, "exact")
    found = dose(where, seeds, formalism, method).gy.ravel()[chosen]
    return float(np.abs(found / exact - 1).max())


def numpy_jobs(where: Grid, seeds: Implant) -> dict[str, Job]:
    x, y, z = (where.origin_mm[i] + np.arange(where.shape[2 - i]) * where.spacing_mm[i] for i in range(3))
    centre = len(z) // 2
    x, y, z = x / 10, y / 10, z[centre : centre + SLICES] / 10
    positions = seeds.positions_mm / 10
    pairs = len(x) * len(y) * len(z) * len(seeds)
    return {
        "numpy 1D": (lambda: numpy_dose.dose_1d(SOURCE, positions, seeds.strength_U, x, y, z), pairs),
        "numpy 1D, one table": (
            lambda: numpy_dose.dose_1d_reduced(SOURCE, positions, seeds.strength_U, x, y, z),
            pairs,
        ),
        "numpy 2D": (
            lambda: numpy_dose.dose_2d(SOURCE, positions, seeds.axes, seeds.strength_U, x, y, z),
            pairs,
        ),
    }


def kernel_jobs(where: Grid, seeds: Implant, methods: tuple[str, ...] = ("direct", "tree")) -> dict[str, Job]:
    pairs = where.size * len(seeds)

    def job(formalism: str, method: str) -> Job:
        return (lambda: dose(where, seeds, formalism, method)), pairs

    return {
        f"{formalism} {method}": job(formalism, method) for formalism in ("1D", "2D") for method in methods
    }


def influence_jobs() -> dict[str, Job]:
    rng = np.random.default_rng(3)
    points, positions = rng.uniform(-35, 35, (20_000, 3)), rng.uniform(-25, 25, (2000, 3))
    axis = np.array([0.0, 0.0, 1.0])
    few = positions[:20]
    return {
        "numpy 2D influence": (
            lambda: numpy_dose.influence_2d(SOURCE, points / 10, few / 10, axis),
            len(few) * len(points),
        ),
        "1D influence": (lambda: influence(points, positions, SOURCE, 0.7), len(positions) * len(points)),
        "2D influence": (
            lambda: influence(points, positions, SOURCE, 0.7, axis, "2D"),
            len(positions) * len(points),
        ),
    }


def cpu() -> str:
    """Name of the processor."""
    for path in (Path("/proc/cpuinfo"),):
        if path.exists():
            for line in path.read_text().splitlines():
                if line.startswith("model name"):
                    return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def tables(rounds: int = 7, quick: bool = False) -> str:
    """All tables as Markdown."""
    numba.set_num_threads(1)
    lines = [
        f"CPU: {cpu()}; numpy {np.__version__}, numba {numba.__version__}; {rounds} interleaved rounds.",
        "",
    ]
    where, seeds = grid(1.0), implant(80)
    found = interleaved({**numpy_jobs(where, seeds), **kernel_jobs(where, seeds)}, rounds)
    lines += [
        "80 seeds, 160 x 160 x 100 voxels of 1 mm, one core",
        "",
        "| what | ns a pair | ratio | to | greatest error |",
    ]
    lines += ["|---|---|---|---|---|"]
    for name, value in found.items():
        if name.startswith("numpy"):
            lines.append(f"| {name} | {value:.1f} | | | |")
            continue
        formalism, method = name.split()
        ratio = found[f"numpy {formalism}"] / value
        error = worst(where, seeds, formalism, method)
        lines.append(f"| {name} | {value:.3f} | {ratio:.0f} | numpy {formalism} | {error:.1e} |")
    for formalism in ("1D", "2D"):
        ratio = found[f"{formalism} direct"] / found[f"{formalism} tree"]
        lines.append(
            f"| {formalism} tree | {found[f'{formalism} tree']:.3f} | {ratio:.1f} | {formalism} direct | |"
        )
    found = interleaved(influence_jobs(), rounds)
    lines += [
        "",
        "Influence, 2000 seeds x 20 000 points, float32, one core",
        "",
        "| what | ns a pair | ratio |",
        "|---|---|---|",
    ]
    for name, value in found.items():
        ratio = f"{found['numpy 2D influence'] / value:.0f}" if name.startswith("2D") else ""
        lines.append(f"| {name} | {value:.2f} | {ratio} |")
    lines += growth(rounds, quick)
    return "\n".join(lines) + "\n"


def growth(rounds: int, quick: bool) -> list[str]:
    """How the tree's time grows with seeds and voxels, and with a second thread."""
    lines = [
        "",
        "Tree, time of a whole grid, one core",
        "",
        "| voxel mm | seeds | 1D ms | 2D ms |",
        "|---|---|---|---|",
    ]
    seconds: dict[tuple[float, int, str], float] = {}
    cases = [(1.0, 10), (1.0, 80), (1.0, 320), (2.0, 80)] + (
        [] if quick else [(1.0, 300), (1.0, 1000), (0.5, 80)]
    )
    for spacing, count in cases:
        jobs = {
            name: (work, 1)
            for name, (work, _) in kernel_jobs(grid(spacing), implant(count), ("tree",)).items()
        }
        found = interleaved(jobs, max(3, rounds // 2))
        for name, value in found.items():
            seconds[spacing, count, name] = value * 1e-9
        lines.append(
            f"| {spacing:g} | {count} | {found['1D tree'] * 1e-6:.0f} | {found['2D tree'] * 1e-6:.0f} |"
        )
    for name in ("1D tree", "2D tree"):
        ratio = seconds[1.0, 320, name] / seconds[1.0, 80, name]
        exponent = np.log(ratio) / np.log(4)
        lines.append("")
        lines.append(f"{name}: 320 seeds take {ratio:.2f} times as long as 80 (exponent {exponent:.2f}).")
        ratio = seconds[1.0, 80, name] / seconds[2.0, 80, name]
        lines[-1] += (
            f" 8 times the voxels take {ratio:.1f} times as long (exponent {np.log(ratio) / np.log(8):.2f})."
        )
    if numba.config.NUMBA_NUM_THREADS > 1:
        for name, (work, _) in kernel_jobs(grid(1.0), implant(80), ("tree",)).items():

            def with_threads(count: int, work: Callable[[], object] = work) -> Callable[[], object]:
                def run() -> object:
                    numba.set_num_threads(count)
                    return work()

                return run

            jobs = {str(count): (with_threads(count), 1) for count in (1, 2)}
            found = interleaved(jobs, rounds, time.perf_counter)
            lines += [
                "",
                f"{name}: two threads are {found['1'] / found['2']:.2f} times as fast as one (by the clock).",
            ]
        numba.set_num_threads(1)
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="leave out 0.5 mm and 1000 seeds")
    arguments = parser.parse_args()
    print(tables(arguments.rounds, arguments.quick))
