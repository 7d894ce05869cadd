"""Kernel of the influence matrix: dose of single seeds at many points from a table in distance and angle.

The table holds dose times distance squared, which changes slowly, on equal steps of distance r and of
u = sqrt(1 - |cos theta|), which is fine near the seed's axis; linear in both. Meant for searching, where a part in a
thousand of one seed's dose decides nothing; finished plans are evaluated from the formulas themselves.
"""

from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, error_model="numpy")
def fill_rows(
    points: Any, positions: Any, axes: Any, table: Any, per_mm: Any, least_mm: Any, out: Any
) -> Any:
    """Dose of one seed at each position: out (m, n) float32.

    points (n, 3) and positions, axes (m, 3) in mm relative to one anchor; `table` (radii, angles) float64 holds dose
    times r^2 in mm^2 at r = k / per_mm; distances below `least_mm` count as that. One angle means none matters.
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
