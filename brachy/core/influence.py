"""Kernel of the influence matrix of the seed search: dose of single seeds at many points, from a table.

The table holds dose times distance squared, which varies slowly, on equal steps of the distance r and of
u = sqrt(1 - |cos theta|), whose steps are fine in angle near the seed's axis, where the dose changes fastest; it is
linear in both. It is meant for the search, where an error of 0.1 % of one seed's dose decides nothing; finished plans
are evaluated from the TG-43 formulas themselves.
"""

from typing import Any

import numpy as np

from brachy.core.compiling import njit


@njit(nogil=True, cache=True, error_model="numpy")
def fill_rows(
    points: Any, positions: Any, axes: Any, table: Any, per_mm: Any, least_mm: Any, out: Any
) -> Any:
    """Set row i of `out` (m, n; float32, Gy) to the dose of one seed at position i at every point.

    `points` (n, 3) and `positions` (m, 3) are in mm relative to a common anchor, `axes` (m, 3) unit vectors. `table`
    (radii, angles; float64) holds dose times r^2 in Gy mm^2 at r = k / per_mm. Smaller distances than `least_mm` count
    as `least_mm`. A table with one angle has no dependence on the angle (1D).
    """
    last_r = table.shape[0] - 2
    last_u = table.shape[1] - 2
    for i in range(positions.shape[0]):
        x, y, z = positions[i, 0], positions[i, 1], positions[i, 2]
        a, b, c = axes[i, 0], axes[i, 1], axes[i, 2]
        row = out[i]
        for k in range(points.shape[0]):
            dx = points[k, 0] - x
            dy = points[k, 1] - y
            dz = points[k, 2] - z
            square = dx * dx + dy * dy + dz * dz
            distance = max(np.sqrt(square), least_mm)
            place = distance * per_mm
            low = min(int(place), last_r)
            part = min(place - low, 1.0)
            if last_u < 0:
                value = table[low, 0] + part * (table[low + 1, 0] - table[low, 0])
            else:
                cosine = min(abs(dx * a + dy * b + dz * c) / distance, 1.0)
                angle = np.sqrt(1.0 - cosine) * (last_u + 1)
                left = min(int(angle), last_u)
                share = angle - left
                near = table[low, left] + share * (table[low, left + 1] - table[low, left])
                far = table[low + 1, left] + share * (table[low + 1, left + 1] - table[low + 1, left])
                value = near + part * (far - near)
            row[k] = np.float32(value / (distance * distance))
