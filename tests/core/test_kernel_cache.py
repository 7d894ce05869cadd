"""Compiled kernels: kept once, said once, and nothing breaks where nothing can be kept. In processes of their own."""

import os
import subprocess
import sys

import numba
import pydicom
import pytest

from tests.small_plan import small_plan

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")

PROBE = """
__name__ = "brachy.probe"
import brachy.core, numba
print(numba.config.CACHE_DIR)
numba.njit(lambda x: x + 1)(1)
numba.njit(lambda x: x + 2)(1)
"""


def run(code, home, check=True):
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    environment["HOME"] = str(home)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=check, env=environment
    )


def test_compiling_is_said_once(tmp_path):
    result = run(PROBE, tmp_path)
    assert result.stdout.strip() == str(tmp_path / ".cache" / "brachy" / "kernels")
    assert result.stderr.splitlines() == ["brachy: compiling kernels, once"]


def test_a_second_run_compiles_nothing(tmp_path):
    kernel = (
        "import brachy.core, numba\n@numba.njit('int64(int64)', cache=True)\ndef f(x):\n    return x + 1\n"
    )
    (tmp_path / "probe.py").write_text(kernel)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import probe; print(len(probe.f.stats.cache_hits))"
    assert [run(code, tmp_path).stdout.strip() for _ in range(2)] == ["0", "1"]
    assert list((tmp_path / ".cache" / "brachy" / "kernels").rglob("*.nbi"))


def test_a_home_that_cannot_be_written(tmp_path):
    """A file stands where the folder would be: even root cannot make it."""
    home = tmp_path / "home"
    home.write_text("not a folder")
    result = run(PROBE, home)
    folder = result.stdout.strip()
    assert "brachy-kernels-" in folder
    assert not os.path.exists(folder)
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"brachy: cannot write {home}")
    assert "compiled for this run only" in lines[0]
    assert lines[1:] == ["brachy: compiling kernels, once"]


FULL = """
import resource, signal
import numpy as np
from brachy.core import segments
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if {full}:
    resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
side, up = np.array([3.0, 0, 0]), np.array([0.0, 0, 1])
print(segments.segment_gap(np.zeros(3), up, side, up), sum(segments.segment_gap.stats.cache_hits.values()))
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="a limit on the size of files stands for the disk"
)
@pytest.mark.parametrize("room", [0, 2000])
def test_a_disk_that_is_full_while_kernels_are_compiled(tmp_path, room):
    """The kernel works for this run; what was cut off is found and compiled again once there is room."""
    first = run(FULL.format(full=True, room=room), tmp_path)
    assert first.stdout.split() == ["3.0", "0"]
    assert "Traceback" not in first.stderr
    assert run(FULL.format(full=False, room=0), tmp_path).stdout.split() == ["3.0", "0"]
    assert run(FULL.format(full=False, room=0), tmp_path).stdout.split() == ["3.0", "1"]


def test_reading_help_needs_no_compiler():
    code = "import sys, brachy, brachy.dosimetry.source, brachy.dosimetry.tg43; print('numba' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.slow
def test_the_second_dose_compiles_nothing(tmp_path):
    """`brachy dose` in a home of its own, twice: said once, at the first; and the same bytes of dose."""
    plan = tmp_path / "plan.json"
    small_plan().save(plan)
    said = []
    for name in ("first.dcm", "second.dcm"):
        words = f"import sys; sys.argv[1:] = ['dose', {str(plan)!r}, '-o', {str(tmp_path / name)!r}]"
        result = run(f"{words}; from brachy.cli.app import main; main()", tmp_path, check=False)
        assert result.returncode == 0, result.stderr
        said.append(result.stderr.count("compiling kernels, once"))
    assert said == [1, 0]
    first, second = (pydicom.dcmread(tmp_path / name).PixelData for name in ("first.dcm", "second.dcm"))
    assert first == second


def test_dose_kernels_are_compiled_for_one_signature_each():
    """So that importing them loads all from disk, and no input can have them compiled again."""
    from brachy.core import tg43, tree

    for kernel in (
        tg43.point_source_dose,
        tg43.line_source_dose,
        tg43.influence_rows,
        tree.grid_blocks,
        tree.dose_of_points,
    ):
        assert len(kernel.signatures) == 1
        assert not kernel._can_compile
