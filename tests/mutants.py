"""`make mutants`: twenty formulas, each broken in one place, and whether the tests named for it notice.

`python -m tests.mutants [WORD]` breaks each formula (whose description has the word) in a copy of the tree, in which
the tests pass before; exit 1 if a mutant survives. tests/project/test_suite.py asserts that the formulas are there.
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
    """`old` becomes `new` in a file; one of the tests must fail. Without `compiled` they run with NUMBA_DISABLE_JIT."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    compiled: bool = True


PUBLISHED, LINE = "tests/published", "tests/independent/test_dose_line_integral.py"
NEEDLES, OFFERS = "tests/needles/test_needles.py", "tests/property/test_template_offers.py"
RULES, SEARCH = "tests/evaluation/test_rules.py", "tests/independent/test_search_kernels.py"

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
    Mutant(
        "first contact of a needle, sign: the chord falls where it rises",
        "brachy/needles/needle_path.py",
        "lowest * (lowest - width + chord)",
        "lowest * (lowest - width - chord)",
        (NEEDLES,),
    ),
    Mutant(
        "target on a needle's axis, index: first exit, not last",
        "brachy/needles/needle_path.py",
        "float(inside[0, 0]), float(inside[-1, 1])",
        "float(inside[0, 0]), float(inside[0, 1])",
        (NEEDLES, OFFERS),
    ),
    Mutant(
        "distance of two needles, sign",
        "brachy/needles/needle_path.py",
        "(vw * gw - ww * gv)",
        "(vw * gw + ww * gv)",
        (NEEDLES,),
    ),
    Mutant(
        "tip that covers an edge point, sign: as far behind it as before it",
        "brachy/needles/lateral.py",
        "depth - np.sqrt(",
        "depth + np.sqrt(",
        (NEEDLES, OFFERS),
    ),
    Mutant(
        "needle to obstacle, factor: twice the needle's radius",
        "brachy/evaluation/rules.py",
        "gap -= protocol.needle.radius_mm",
        "gap -= 2.0 * protocol.needle.radius_mm",
        (RULES,),
    ),
    Mutant(
        "distal edge, index: of the shallowest seed",
        "brachy/evaluation/rules.py",
        "line.span[1] - float(line.depths.max())",
        "line.span[1] - float(line.depths.min())",
        (RULES,),
    ),
    Mutant(
        "edge of the target to a needle, factor: part of the length, not of its square",
        "brachy/evaluation/lateral_rule.py",
        "@ along / (along @ along)",
        "@ along / np.sqrt(along @ along)",
        (RULES,),
    ),
    Mutant(
        "search, sign: covering the edge costs",
        "brachy/core/loading.py",
        "total -= arrays.cover_cost[g]",
        "total += arrays.cover_cost[g]",
        (SEARCH,),
        compiled=False,
    ),
    Mutant(
        "search, sign: a gap of a strand that is replaced counts twice",
        "brachy/core/loading.py",
        "made -= _pitch_error(arrays, before, after)",
        "made += _pitch_error(arrays, before, after)",
        (SEARCH,),
        compiled=False,
    ),
    Mutant(
        "search, index: one seed more than the limit",
        "brachy/core/loading.py",
        "state.counts[0] >= arrays.limits[1]",
        "state.counts[0] > arrays.limits[1]",
        (SEARCH,),
        compiled=False,
    ),
)


def times_found(mutant, folder=ROOT):
    """How often a mutant's formula stands in its file: once, or the list is out of date."""
    file = folder / mutant.file
    return file.read_text("utf-8").count(mutant.old) if file.is_file() else 0


def failed(tests, folder, cache, compiled=True):
    """Whether a test fails in the copy of the tree, and pytest's last line."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(folder)}
    environment["NUMBA_DISABLE_JIT"] = "0" if compiled else "1"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=folder, capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(tests)}: pytest ended with {done.returncode}: {done.stdout[-500:]}")
    return done.returncode == 1, done.stdout.strip().splitlines()[-1]


def killed(mutant, folder, cache):
    """Whether a test fails once the formula is broken."""
    file = folder / mutant.file
    whole = file.read_text("utf-8")
    if times_found(mutant, folder) != 1:
        raise SystemExit(
            f"{mutant.file} has '{mutant.old}' {times_found(mutant, folder)} times: correct tests/mutants.py"
        )
    file.write_text(whole.replace(mutant.old, mutant.new), "utf-8")
    try:
        with tempfile.TemporaryDirectory() as fresh:
            # numba does not see a change in a callee: a broken kernel needs a cache of its own
            own = fresh if mutant.file.startswith("brachy/core/") else cache
            return failed(mutant.tests, folder, own, mutant.compiled)
    finally:
        file.write_text(whole, "utf-8")


def main():
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [mutant for mutant in MUTANTS if word in mutant.what]
    survived = 0
    with tempfile.TemporaryDirectory() as base:
        folder, cache = Path(base) / "tree", Path(base) / "kernels"
        shutil.copytree(
            ROOT, folder, ignore=shutil.ignore_patterns(".venv", ".git", "build", "__pycache__", ".*_cache")
        )
        for compiled in (True, False):
            tests = sorted({test for m in chosen if m.compiled == compiled for test in m.tests})
            if tests and (wrong := failed(tests, folder, cache, compiled))[0]:
                raise SystemExit(f"a test fails without any mutant: {wrong[1]}")
        for mutant in chosen:
            caught, line = killed(mutant, folder, cache)
            survived += not caught
            print(f"{'caught  ' if caught else 'SURVIVED'} {mutant.what} ({mutant.file}): {line}", flush=True)
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
