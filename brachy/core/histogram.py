"""Kernel: histograms of one dose array over many structures in one pass."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, error_model="numpy", nogil=True)
def counts(dose: Any, voxel: Any, region: Any, regions: int, top: float, bins: int) -> NDArray[np.int32]:
    """Voxels of each region in each of `bins` equal dose bins from 0 to `top`; the last takes all above.

    A region is a set of voxels that belong to the same structures, so that a voxel is counted once however many
    structures overlap there; the histogram of a structure is the sum of its regions'.

    Parameters
    ----------
    dose : (n,) float array
        Gy, 0 or more.
    voxel : (m,) integer array
        Places in `dose` that belong to any structure, ascending.
    region : (m,) integer array
        Region of each.
    regions : int
        Number of regions.
    top : float
        Upper edge of the last bin, Gy.
    bins : int
        Number of bins.

    Returns
    -------
    (regions, bins) int32 array
    """
    found = np.zeros((regions, bins), dtype=np.int32)
    per_gy = bins / top
    for i in range(len(voxel)):
        found[region[i], min(int(dose[voxel[i]] * per_gy), bins - 1)] += 1
    return found
