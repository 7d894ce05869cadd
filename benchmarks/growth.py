"""How the time of `brachy plan` grows with the target's volume and with the number of CT slices.

Run as `python benchmarks/growth.py [ROUNDS]`. Whole commands, warm, from a fixed direction; the cases take turns, and
of each the least CPU time counts. The exponent is the slope of the logarithm of the time over that of the size.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measure import table

VOLUMES_CC = (20, 45, 90, 170, 340)
SLICES = (50, 100, 200, 400)
SPACING_MM = 2.5

PHANTOM = """name = "{name}"

[scan]
ct_date = 2026-01-15
first_voxel_mm = [-119.0, -119.0, {low}]
spacing_mm = [2.0, 2.0, {spacing}]
voxels = [120, 120, {slices}]

[[structures]]
name = "Water"
type = "EXTERNAL"
hu = 0.0
[[structures.shapes]]
kind = "elliptic_cylinder"
centre_mm = [0.0, 0.0]
semi_axes_mm = [105.0, 105.0]
z_mm = [{bottom}, {top}]

[[structures]]
name = "GTV"
type = "GTV"
hu = 20.0
[[structures.shapes]]
kind = "ellipsoid"
centre_mm = [0.0, {deep}, 0.0]
semi_axes_mm = [{a}, {a}, {a}]
"""


def phantom(folder: Path, volume_cc: float, slices: int) -> Path:
    """A sphere in a cylinder of water, its top 25 mm below the skin so that needles of 150 mm reach it."""
    radius = (volume_cc * 1000.0 * 3.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
    low = -SPACING_MM * (slices - 1) / 2
    name = f"sphere-{volume_cc:g}cc-{slices}"
    file = folder / f"{name}.toml"
    edge = -low + SPACING_MM / 2
    file.write_text(
        PHANTOM.format(
            name=name, low=low, spacing=SPACING_MM, slices=slices, bottom=-edge, top=edge, a=f"{radius:.2f}",
            deep=f"{-105.0 + 25.0 + radius:.2f}",
        ),
        encoding="utf-8",
    )  # fmt: skip
    return file


def seconds_of(file: Path, out: Path) -> float:
    """CPU seconds of one command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "brachy", "plan", str(file), "--direction", "0", "-o", str(out), "--force"]
    subprocess.run(words, check=True, capture_output=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def exponent(sizes: list[float], seconds: list[float]) -> float:
    """Slope of log time over log size, by least squares.

    Examples
    --------
    >>> round(exponent([1, 2, 4], [3, 6, 12]), 6)
    1.0
    """
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def series(folder: Path, sizes: tuple[int, ...], make: Callable[[int], Path], rounds: int) -> list[float]:
    """Least seconds of each size, the sizes taking turns."""
    files = [make(size) for size in sizes]
    found = [[seconds_of(file, folder / "out") for file in files] for _ in range(rounds + 1)][1:]
    return np.min(found, axis=0).tolist()


def tables(rounds: int) -> str:
    """Both tables with their exponents."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        by_volume = series(folder, VOLUMES_CC, lambda cc: phantom(folder, cc, 60), rounds)
        by_slices = series(folder, SLICES, lambda count: phantom(folder, 45, count), rounds)
    shown = []
    for title, sizes, seconds in (
        ("target, cc", VOLUMES_CC, by_volume),
        ("CT slices (45 cc)", SLICES, by_slices),
    ):
        power = exponent([float(size) for size in sizes], seconds)
        rows = [["CPU seconds", *(f"{value:.1f}" for value in seconds), f"{power:.2f}"]]
        shown.append(table([title, *map(str, sizes), "exponent"], rows))
    return "\n".join(shown)


if __name__ == "__main__":
    print(tables(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
