"""Kernel: histograms of one dose array over many structures in one pass."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, error_model="numpy", nogil=True)
def counts(dose: Any, region: Any, regions: int, top: float, bins: int) -> NDArray[np.int32]:
    """Voxels of each region in each of `bins` equal dose bins from 0 to `top`; the last takes all above.

    A region is a set of voxels that belong to the same structures, so that a voxel is counted once however many
    structures overlap there; the histogram of a structure is the sum of its regions'.

    Parameters
    ----------
    dose : (n,) float array
        Gy, 0 or more.
    region : (n,) unsigned integer array
        0 for no structure at all, which is not counted.
    regions : int
        Number of regions, region 0 included.
    top : float
        Upper edge of the last bin, Gy.
    bins : int
        Number of bins.

    Returns
    -------
    (regions, bins) int32 array
        Row 0 is empty.
    """
    found = np.zeros((regions, bins), dtype=np.int32)
    per_gy = bins / top
    for i in range(len(dose)):
        r = region[i]
        if r != 0:
            found[r, min(int(dose[i] * per_gy), bins - 1)] += 1
    return found
