"""Kernel: histograms of one dose array over many structures in one pass."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.core.compiling import njit


@njit(cache=True, error_model="numpy", nogil=True)
def counts(dose: Any, voxel: Any, region: Any, regions: int, top: float, bins: int) -> NDArray[np.int32]:
    """Number of voxels of each region in `bins` equal dose bins from 0 to `top`; the last bin takes all above.

    A region is the set of voxels that belong to exactly the same structures. So a voxel is counted once however many
    structures overlap there, and the histogram of a structure is the sum of the histograms of its regions.

    Parameters
    ----------
    dose : (n,) float array
        Gy, 0 or more.
    voxel : (m,) integer array
        Indices in `dose` of the voxels that belong to any structure, ascending.
    region : (m,) integer array
        Region of each of these voxels.
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
