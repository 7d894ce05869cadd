"""Peak memory of a dose on a whole CT, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numba
import pytest

CODE = """
import sys
from pathlib import Path
import numpy as np
from brachy.dosimetry.tg43 import dose
from brachy.geometry.grid import Grid
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source

positions = np.random.default_rng(1).uniform(-30, 30, (120, 3))
implant = Implant(load_source("amersham_6711"), positions, axes=[0, 0, 1], strength_U=0.7)
grid = Grid((-179.0, -179.0, -100.0), (0.7, 0.7, 1.0), (200, 512, 512))
found = dose(grid, implant, sys.argv[1])
assert found.gy.min() > 0
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


# getrusage is no help: under Linux its peak is handed on from the process that started this one
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no /proc: peak memory is not told here")
@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="6000 million pairs: compiled kernels only")
@pytest.mark.parametrize("formalism", ["1D", "2D"])
def test_a_whole_ct_with_120_seeds_stays_under_1_gb(formalism):
    """512 x 512 x 200 voxels; an array over seeds and voxels would be 25 GB in float32."""
    words = [sys.executable, "-c", CODE, formalism]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(result.stdout) * 1024 < 1e9
