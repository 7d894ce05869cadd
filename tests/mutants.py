"""`make mutants`: ten core formulas, each broken in one place, and whether the tests named for it notice.

`python -m tests.mutants`: every mutant is made in a copy of the tree; exit 1 if one survives.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in a file; one of the tests must fail."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


PUBLISHED, LINE = "tests/published", "tests/independent/test_dose_line_integral.py"

MUTANTS = (
    Mutant(
        "G_L, sign: r^2 + L^2/4",
        "brachy/dosimetry/source.py",
        "along_cm**2 - length_cm**2 / 4.0",
        "along_cm**2 + length_cm**2 / 4.0",
        (PUBLISHED, LINE),
    ),
    Mutant(
        "G_L of the kernel, factor: L^2/2",
        "brachy/core/tg43.py",
        "- 0.25 * length_cm * length_cm",
        "- 0.5 * length_cm * length_cm",
        ("tests/dosimetry/test_dosimetry.py", LINE),
    ),
    Mutant(
        "F, index: angles and radii one node off",
        "brachy/dosimetry/source.py",
        "u * f[j1, i1]",
        "u * f[j1, i]",
        (PUBLISHED, "tests/dosimetry/test_source.py"),
    ),
    Mutant(
        "F, sign: not mirrored",
        "brachy/dosimetry/source.py",
        "np.minimum(theta, 180.0 - theta)",
        "np.minimum(theta, 180.0 + theta)",
        (PUBLISHED, "tests/dosimetry/test_source.py"),
    ),
    Mutant(
        "g beyond the table, sign",
        "brachy/dosimetry/source.py",
        "np.exp(inside + slope",
        "np.exp(inside - slope",
        ("tests/dosimetry/test_source.py", PUBLISHED),
    ),
    Mutant(
        "dose to a day, factor: 2 ln 2",
        "brachy/units.py",
        "complete * -math.expm1(-math.log(2.0) * days",
        "complete * -math.expm1(-2.0 * math.log(2.0) * days",
        ("tests/ground/test_units.py",),
    ),
    Mutant(
        "volume of slabs, factor: lower slice only",
        "brachy/core/slabs.py",
        "half = np.where(parts, 0.5 * spacing, 0.5 * gaps)",
        "half = np.where(parts, 0.5 * spacing, 0.4 * gaps)",
        ("tests/geometry/test_structures.py",),
    ),
    Mutant(
        "grid, index: direction not transposed",
        "brachy/geometry/grid.py",
        "self.spacing_mm) @ self.direction.T + self.origin_mm",
        "self.spacing_mm) @ self.direction + self.origin_mm",
        ("tests/geometry/test_grid.py",),
    ),
    Mutant(
        "D90, index: of the cold end",
        "brachy/dosimetry/metrics.py",
        "self._dose_of(percent / 100.0",
        "self._dose_of((100.0 - percent) / 100.0",
        ("tests/dosimetry/test_dose_volume.py",),
    ),
    Mutant(
        "BED, sign: repopulation gains",
        "brachy/dosimetry/bed.py",
        "delivered + quadratic - lost",
        "delivered + quadratic + lost",
        ("tests/dosimetry/test_bed.py",),
    ),
)


def killed(mutant, folder):
    """Whether a test fails once the formula is broken; the tests pass before."""
    file = folder / mutant.file
    whole = file.read_text("utf-8")
    if whole.count(mutant.old) != 1:
        raise SystemExit(
            f"{mutant.file} holds '{mutant.old}' {whole.count(mutant.old)} times: correct this list"
        )
    file.write_text(whole.replace(mutant.old, mutant.new), "utf-8")
    try:
        with tempfile.TemporaryDirectory() as cache:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests],
                cwd=folder, capture_output=True, text=True, check=False,
                env={**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(folder)},
            )  # fmt: skip
    finally:
        file.write_text(whole, "utf-8")
    if done.returncode not in (0, 1):
        raise SystemExit(f"{mutant.what}: pytest ended with {done.returncode}: {done.stdout[-500:]}")
    return done.returncode == 1, done.stdout.strip().splitlines()[-1]


def main():
    survived = 0
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "tree"
        shutil.copytree(
            ROOT, folder, ignore=shutil.ignore_patterns(".venv", ".git", "build", "__pycache__", ".*_cache")
        )
        for mutant in MUTANTS:
            caught, told = killed(mutant, folder)
            survived += not caught
            print(f"{'caught  ' if caught else 'SURVIVED'} {mutant.what} ({mutant.file}): {told}", flush=True)
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
