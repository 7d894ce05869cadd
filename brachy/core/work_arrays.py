"""Work arrays of the kernels in `tree`, one set for each thread, and the options of those kernels for numba."""

# numba infers the types
# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np

from brachy.core.compiling import njit
from brachy.core.tables import ORDER, Cells, Work

CHUNK = 512
"""Places that are summed together: their work arrays fit the processor's first-level cache."""

LANES = 32
"""Places are summed in multiples of this many, so that no vector register is half full."""

# `error_model="numpy"`: a check for division by zero would keep the loops out of vector registers
FAST = {"error_model": "numpy", "fastmath": True, "cache": True}


@njit(**FAST)
def padded(count):
    """The next multiple of LANES from `count` on."""
    return (count + LANES - 1) // LANES * LANES


@njit(**FAST)
def make_cells():
    """Work arrays for a lookup of CHUNK places."""
    return Cells(
        np.zeros(CHUNK, np.int32),
        np.zeros(CHUNK, np.float32),
        np.zeros(CHUNK, np.float32),
        np.zeros(CHUNK + LANES, np.int32),
        np.zeros(CHUNK, np.float32),
        np.zeros(CHUNK, np.float32),
    )


@njit(**FAST)
def make_work(blocks, seeds):
    """Work arrays of one thread for blocks of a grid and so many seeds."""
    mz, my, mx = blocks.sizes[0]
    leaf = blocks.sizes[-1].prod()
    places = padded(max(ORDER * ORDER * ORDER + padded(blocks.check.shape[1]), leaf))
    return Work(
        np.zeros(places, np.float32),
        np.zeros(places, np.float32),
        np.zeros(places, np.float32),
        np.zeros(places, np.float32),
        np.zeros(padded(blocks.check.shape[1]), np.float32),
        np.empty(seeds, np.int32),
        np.zeros((ORDER, mx), np.float32),
        np.zeros((ORDER, my * mx), np.float32),
        np.empty(padded(mz * my * mx), np.float32),
        np.zeros((mz, my, mx), np.float32),
    )
