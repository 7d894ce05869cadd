"""Speed of the dose kernels beside plain numpy, in one run: ns per pair of seed and voxel.

`python -m benchmarks.dose [--rounds 7] [--quick]` prints the tables; `benchmarks/run.py` writes them to
docs/performance.md. Compile time is left out (warm), random numbers are seeded, rounds are interleaved, one core unless
a row says two.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np

from benchmarks.measure import interleaved, processor, table
from benchmarks.peers import numpy_dose
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source
from brachy.dosimetry.tg43 import dose, influence
from brachy.geometry.grid import Grid

SOURCE = load_source("amersham_6711")
SLICES = 2
"""Slices of the grid that the numpy peers compute: they cost the same everywhere."""

FEW_ROWS = 20
"""Rows of the influence matrix that the numpy peer computes."""


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


def numpy_jobs(where: Grid, seeds: Implant) -> dict[str, Callable[[], object]]:
    x, y, z = (where.origin_mm[i] + np.arange(where.shape[2 - i]) * where.spacing_mm[i] for i in range(3))
    x, y, z = x / 10, y / 10, z[len(z) // 2 : len(z) // 2 + SLICES] / 10
    positions, strength, axes = seeds.positions_mm / 10, seeds.strength_U, seeds.axes
    return {
        "numpy 1D": lambda: numpy_dose.dose_1d(SOURCE, positions, strength, x, y, z),
        "numpy 1D, one table": lambda: numpy_dose.dose_1d_reduced(SOURCE, positions, strength, x, y, z),
        "numpy 2D": lambda: numpy_dose.dose_2d(SOURCE, positions, axes, strength, x, y, z),
    }


def kernel_job(where: Grid, seeds: Implant, name: str) -> Callable[[], object]:
    formalism, method = name.split()
    return lambda: dose(where, seeds, formalism, method)


def pygrpm_ns(rounds: int) -> float | None:
    """ns per pair of pygrpm 2D, from the interpreter that BRACHY_BENCH_PYGRPM names."""
    python = os.environ.get("BRACHY_BENCH_PYGRPM")
    if not python:
        return None
    script = Path(__file__).parent / "peers" / "pygrpm_dose.py"
    words = [python, "-W", "ignore", str(script), str(rounds)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def pairs(rounds: int) -> tuple[str, dict[str, float]]:
    """80 seeds on 1 mm voxels: ns per pair of each way, as a table and by name."""
    where, seeds = grid(1.0), implant(80)
    names = [f"{formalism} {method}" for formalism in ("1D", "2D") for method in ("direct", "tree")]
    peers = numpy_jobs(where, seeds)
    seconds = interleaved({**peers, **{name: kernel_job(where, seeds, name) for name in names}}, rounds)
    plane = where.shape[1] * where.shape[2]
    size = {name: plane * SLICES if name in peers else where.size for name in seconds}
    ns = {name: value / size[name] / len(seeds) * 1e9 for name, value in seconds.items()}
    grpm = pygrpm_ns(min(rounds, 7))
    if grpm is not None:
        ns["pygrpm 2D"] = grpm
    rows = []
    for name, value in ns.items():
        if name not in names:
            rows.append([name, f"{value:.1f}", "", ""])
            continue
        formalism, method = name.split()
        ratio = f"{ns[f'numpy {formalism}'] / value:.0f}"
        rows.append([name, f"{value:.3f}", ratio, f"{worst(where, seeds, formalism, method):.1e}"])
    header = ["what", "ns a pair", "times as fast as numpy", "greatest error"]
    return table(header, rows), ns


def rows_of_influence(rounds: int) -> tuple[str, dict[str, float]]:
    """2000 seeds x 20 000 points, float32."""
    rng = np.random.default_rng(3)
    points, positions = rng.uniform(-35, 35, (20_000, 3)), rng.uniform(-25, 25, (2000, 3))
    axis = np.array([0.0, 0.0, 1.0])
    seconds = interleaved(
        {
            "numpy 2D": lambda: numpy_dose.influence_2d(SOURCE, points / 10, positions[:FEW_ROWS] / 10, axis),
            "1D": lambda: influence(points, positions, SOURCE, 0.7),
            "2D": lambda: influence(points, positions, SOURCE, 0.7, axis, "2D"),
        },
        rounds,
    )
    ns = {
        name: value / len(points) / (FEW_ROWS if name == "numpy 2D" else len(positions)) * 1e9
        for name, value in seconds.items()
    }
    ratio = {"2D": f"{ns['numpy 2D'] / ns['2D']:.0f}"}
    rows = [[name, f"{value:.2f}", ratio.get(name, "")] for name, value in ns.items()]
    return table(["what", "ns a pair", "times as fast as numpy"], rows), ns


def growth(rounds: int, quick: bool) -> tuple[str, dict[str, float]]:
    """Time of a whole grid by voxels and seeds, one core, and the exponents of its growth."""
    cases = [(1.0, 10), (1.0, 80), (1.0, 300), (1.0, 320), (2.0, 80)]
    cases += [] if quick else [(1.0, 1000), (0.5, 80)]
    seconds: dict[tuple[float, int, str], float] = {}
    jobs: dict[str, Callable[[], object]] = {}
    keys: dict[str, tuple[float, int, str]] = {}
    for spacing, count in cases:
        where, seeds = grid(spacing), implant(count)
        for name in ("1D tree", "2D tree"):
            label = f"{name} {spacing} {count}"
            keys[label] = spacing, count, name
            jobs[label] = kernel_job(where, seeds, name)
    for label, value in interleaved(jobs, rounds).items():
        seconds[keys[label]] = value
    rows = []
    for spacing, count in sorted(cases, key=lambda case: (-case[0], case[1])):
        size = grid(spacing).size * count
        cells = [f"{spacing:g}", str(count)]
        for name in ("1D tree", "2D tree"):
            value = seconds[spacing, count, name]
            cells += [f"{value * 1e3:.0f}", f"{value / size * 1e9:.3f}"]
        rows.append(cells)
    header = ["voxel mm", "seeds", "1D tree ms", "1D ns a pair", "2D tree ms", "2D ns a pair"]
    lines, numbers = [], {}
    for name in ("1D tree", "2D tree"):
        more = seconds[1.0, 320, name] / seconds[1.0, 80, name]
        finer = seconds[1.0, 80, name] / seconds[2.0, 80, name]
        numbers[name] = more
        lines.append(
            f"{name}: 320 seeds take {more:.2f} times as long as 80 (exponent {np.log(more) / np.log(4):.2f}); 8 times"
            f" the voxels {finer:.1f} times as long (exponent {np.log(finer) / np.log(8):.2f}).\n"
        )
    return table(header, rows) + "\n" + "".join(lines), numbers


def busy() -> dict[str, int]:
    """ns that each thread of this process has run, where the system tells (Linux)."""
    return {
        path.parent.name: int(path.read_text().split()[0])
        for path in Path("/proc/self/task").glob("*/schedstat")
    }


def shared(work: Callable[[], object], rounds: int) -> float:
    """CPU time of one thread over that of the busier of two: what a machine without other work would show."""
    spent: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for count, times in spent.items():
            numba.set_num_threads(count)
            before = busy()
            work()
            times.append(max((after - before.get(name, 0) for name, after in busy().items()), default=np.nan))
    return float(np.median(spent[1]) / np.median(spent[2]))


def without_avx512(rounds: int) -> tuple[str, dict[str, dict[str, float]]]:
    """`pairs` and `growth` in a process in which numpy and the kernels do without AVX-512; empty where there is none.

    numpy leaves out what NPY_DISABLE_CPU_FEATURES names; the kernels are compiled for a Zen 3 processor with what this
    one has but AVX-512. Caches and clock are this processor's all the same.
    """
    host = llvmlite.binding.get_host_cpu_features()
    if not host.get("avx512f"):
        return "This processor has no AVX-512: the tables above hold.\n", {}
    dispatched = np._core._multiarray_umath.__cpu_dispatch__
    features = [("+" if on and not name.startswith("avx512") else "-") + name for name, on in host.items()]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "NPY_DISABLE_CPU_FEATURES": " ".join(
                name for name in dispatched if name.startswith("AVX512") or name == "X86_V4"
            ),
            "NUMBA_CPU_NAME": "znver3",
            "NUMBA_CPU_FEATURES": ",".join(features),
            "NUMBA_CACHE_DIR": folder,
        }
        words = [sys.executable, "-m", "benchmarks.dose", "--json", "--rounds", str(rounds)]
        run = subprocess.run(
            words, check=True, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[1]
        )
    found = json.loads(run.stdout.splitlines()[-1])
    ns, more = found["pairs"], found["growth"]
    rows = [[name, f"{value:.3f}", ""] for name, value in ns.items()]
    for row in rows:
        if row[0] in ("1D direct", "1D tree", "2D direct", "2D tree"):
            row[2] = f"{ns['numpy ' + row[0][:2]] / ns[row[0]]:.0f}"
    lines = [f"{name}: 320 seeds take {value:.2f} times as long as 80.\n" for name, value in more.items()]
    return table(["what", "ns a pair", "times as fast as numpy"], rows) + "\n" + "".join(lines), found


def threads(rounds: int) -> tuple[str, dict[str, tuple[float, float]]]:
    """One thread and two: the best of many rounds by the clock, and by the threads' own CPU time."""
    if numba.config.NUMBA_NUM_THREADS < 2:
        return "One core: not measured.\n", {}

    def with_threads(count: int, work: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            numba.set_num_threads(count)
            return work()

        return run

    where, seeds = grid(1.0), implant(80)
    rows, numbers = [], {}
    for name in ("1D direct", "1D tree", "2D direct", "2D tree"):
        work = kernel_job(where, seeds, name)
        jobs = {str(count): with_threads(count, work) for count in (1, 2)}
        found = interleaved(jobs, 3 * rounds, time.perf_counter, min)
        numbers[name] = found["1"] / found["2"], shared(work, rounds)
        times = [f"{found[count] * 1e3:.0f}" for count in ("1", "2")]
        rows.append([name, *times, *(f"{ratio:.2f}" for ratio in numbers[name])])
    numba.set_num_threads(1)
    header = [
        "what",
        "one thread ms",
        "two threads ms",
        "times as fast by the clock",
        "by the threads' CPU time",
    ]
    return table(header, rows), numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="leave out 0.5 mm and 1000 seeds")
    parser.add_argument("--json", action="store_true", help="print pairs and growth as JSON alone")
    arguments = parser.parse_args()
    numba.set_num_threads(1)
    if arguments.json:
        found = {
            "pairs": pairs(arguments.rounds)[1],
            "growth": growth(max(3, arguments.rounds // 2), True)[1],
        }
        print(json.dumps(found))
        return
    print(processor())
    for part in (pairs, without_avx512, rows_of_influence, threads):
        print(part(arguments.rounds)[0])
    print(growth(max(3, arguments.rounds // 2), arguments.quick)[0])


if __name__ == "__main__":
    sys.exit(main())
