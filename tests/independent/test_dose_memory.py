"""Peak memory of a dose on a whole CT, in a process of its own."""

import subprocess
import sys

import numba
import pytest

resource = pytest.importorskip("resource", reason="no peak memory of a process on this system")

CODE = """
import resource, sys
import numpy as np
from brachy.dosimetry import dose
from brachy.grid import Grid
from brachy.implant import Implant
from brachy.source import load_source

positions = np.random.default_rng(1).uniform(-30, 30, (120, 3))
implant = Implant(load_source("amersham_6711"), positions, axes=[0, 0, 1], strength_U=0.7)
grid = Grid((-179.0, -179.0, -100.0), (0.7, 0.7, 1.0), (200, 512, 512))
found = dose(grid, implant, sys.argv[1])
assert found.gy.min() > 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="6000 million pairs: compiled kernels only")
@pytest.mark.parametrize("formalism", ["1D", "2D"])
def test_a_whole_ct_with_120_seeds_stays_under_1_gb(formalism):
    """512 x 512 x 200 voxels; an array over seeds and voxels would be 25 GB in float32."""
    words = [sys.executable, "-c", CODE, formalism]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    assert int(result.stdout) * unit < 1e9
