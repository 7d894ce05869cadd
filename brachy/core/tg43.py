"""Exact TG-43 sums in float64, at points: the reference that every faster kernel is compared with.

Lengths are in cm, angles in degrees, rates in cGy/h. Each thread owns its points and adds the seeds in their order, so
the result has the same bits for any number of threads. A kernel ADDS to `out`, so that several implants are summed.

References
----------
Rivard et al., Med. Phys. 31, 633 (2004), AAPM TG-43U1: eq. (1) line source, eq. (11) point source, eq. (4)
geometry function.
"""

import math
from typing import Any

import numpy as np
from numba import float64, prange, types, void
from numpy.typing import NDArray

from brachy.core.compiling import njit

Float = NDArray[np.float64]

# inputs are declared read-only, so that the frozen tables of a source are accepted as well as any other array
_LIST = types.Array(float64, 1, "C", readonly=True)
_ROWS = types.Array(float64, 2, "C", readonly=True)
_OUT = float64[::1]


@njit(error_model="numpy", cache=True, inline="always")
def _segment(nodes: Any, x: Any) -> Any:
    """Index i of the segment nodes[i] <= x < nodes[i + 1], the first or last one outside the table."""
    low, high = 0, nodes.size - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if nodes[middle] <= x:
            low = middle
        else:
            high = middle
    return low


@njit(error_model="numpy", cache=True)
def _linear(nodes: Any, values: Any, x: Any) -> Any:
    """Linear interpolation between nodes; outside them the value of the first or last node."""
    last = nodes.size - 1
    if x <= nodes[0]:
        return values[0]
    if x >= nodes[last]:
        return values[last]
    i = _segment(nodes, x)
    return values[i] + (values[i + 1] - values[i]) * (x - nodes[i]) / (nodes[i + 1] - nodes[i])


@njit(error_model="numpy", cache=True)
def _radial_dose_function(r_cm: Any, nodes: Any, log_g: Any) -> Any:
    """g_L(r): log-linear between nodes, exponential beyond the last node, below the first node its value."""
    last = nodes.size - 1
    if r_cm > nodes[last]:
        slope = (log_g[last] - log_g[last - 1]) / (nodes[last] - nodes[last - 1])
        return math.exp(log_g[last] + slope * (r_cm - nodes[last]))
    return math.exp(_linear(nodes, log_g, r_cm))


@njit(error_model="numpy", cache=True)
def _anisotropy_function(r_cm: Any, theta_deg: Any, nodes_cm: Any, angles_deg: Any, table: Any) -> Any:
    """F(r, theta) for theta of 0 to 90 degrees: bilinear, outside the table the nearest node; rows are angles."""
    i, u = 0, 0.0
    if nodes_cm.size > 1:
        i = _segment(nodes_cm, r_cm)
        u = min(max((r_cm - nodes_cm[i]) / (nodes_cm[i + 1] - nodes_cm[i]), 0.0), 1.0)
    i1 = min(i + 1, nodes_cm.size - 1)
    j = _segment(angles_deg, theta_deg)
    v = min(max((theta_deg - angles_deg[j]) / (angles_deg[j + 1] - angles_deg[j]), 0.0), 1.0)
    low = table[j, i] + (table[j, i1] - table[j, i]) * u
    high = table[j + 1, i] + (table[j + 1, i1] - table[j + 1, i]) * u
    return low + (high - low) * v


@njit(error_model="numpy", cache=True)
def _geometry_function(across_cm: Any, along_cm: Any, length_cm: Any) -> Any:
    """G_L in cm^-2, eq. (4): beta / (L across) with beta = atan2(L across, r^2 - L^2/4); on the axis its limit.

    This form of beta, the angle that the line subtends, needs one arc tangent and has no branch for the region beside
    the line. On the axis the limit is 1 / (r^2 - L^2/4).
    """
    x = length_cm * across_cm
    q = across_cm * across_cm + along_cm * along_cm - 0.25 * length_cm * length_cm
    if x <= 1e-12 * abs(q):
        return 1.0 / abs(q)
    return math.atan2(x, q) / x


@njit(
    void(_ROWS, _ROWS, _LIST, float64, float64, float64, _LIST, _LIST, _LIST, _LIST, _OUT),
    error_model="numpy",
    parallel=True,
    cache=True,
)
def point_source_dose(
    points_cm: Float,
    seeds_cm: Float,
    weight: Float,
    constant: float,
    length_cm: float,
    radius_cm: float,
    radial_r_cm: Float,
    radial_log_g: Float,
    phi_r_cm: Float,
    phi_an: Float,
    out: Float,
) -> None:
    """Add the 1D dose of all seeds to `out`, TG-43U1 eq. (11).

    Parameters
    ----------
    points_cm, seeds_cm : (n, 3), (s, 3) arrays
        Positions in one frame, cm.
    weight : (s,) array
        Strength of each seed, U, times the factor that turns the initial rate into the wanted result (hours).
    constant : float
        Lambda / G_L(1 cm, 90 degrees).
    length_cm, radius_cm : float
        Active length; half the capsule's outer diameter, which is the least distance used.
    radial_r_cm, radial_log_g, phi_r_cm, phi_an : arrays
        Published tables; `radial_log_g` is the natural logarithm of g.
    out : (n,) array
        Added to.
    """
    for p in prange(points_cm.shape[0]):
        total = 0.0
        for s in range(seeds_cm.shape[0]):
            dx = points_cm[p, 0] - seeds_cm[s, 0]
            dy = points_cm[p, 1] - seeds_cm[s, 1]
            dz = points_cm[p, 2] - seeds_cm[s, 2]
            r = max(math.sqrt(dx * dx + dy * dy + dz * dz), radius_cm)
            g = _radial_dose_function(r, radial_r_cm, radial_log_g)
            total += weight[s] * _geometry_function(r, 0.0, length_cm) * g * _linear(phi_r_cm, phi_an, r)
        out[p] += constant * total


@njit(
    void(
        *(_ROWS, _ROWS, _ROWS, _LIST, float64, float64, float64, float64),
        *(_LIST, _LIST, _LIST, _LIST, _ROWS, _OUT),
    ),
    error_model="numpy",
    parallel=True,
    cache=True,
)
def line_source_dose(
    points_cm: Float,
    seeds_cm: Float,
    axes: Float,
    weight: Float,
    constant: float,
    length_cm: float,
    radius_cm: float,
    half_capsule_cm: float,
    radial_r_cm: Float,
    radial_log_g: Float,
    anisotropy_r_cm: Float,
    anisotropy_theta_deg: Float,
    anisotropy_table: Float,
    out: Float,
) -> None:
    """Add the 2D dose of all seeds to `out`, TG-43U1 eq. (1).

    Parameters as in `point_source_dose`, with `axes` (s, 3) of unit vectors and F in rows of angles, 0 to 90 degrees. A
    point inside a capsule (`radius_cm`, `half_capsule_cm`) is moved outward, perpendicular to the axis, to its side.
    """
    for p in prange(points_cm.shape[0]):
        total = 0.0
        for s in range(seeds_cm.shape[0]):
            dx = points_cm[p, 0] - seeds_cm[s, 0]
            dy = points_cm[p, 1] - seeds_cm[s, 1]
            dz = points_cm[p, 2] - seeds_cm[s, 2]
            ux, uy, uz = axes[s, 0], axes[s, 1], axes[s, 2]
            along = abs(dx * ux + dy * uy + dz * uz)
            # the distance from the axis as the length of a cross product: r^2 - along^2 would lose digits near the axis
            cx, cy, cz = dy * uz - dz * uy, dz * ux - dx * uz, dx * uy - dy * ux
            across = math.sqrt(cx * cx + cy * cy + cz * cz)
            if along <= half_capsule_cm and across < radius_cm:
                across = radius_cm
            r = math.sqrt(across * across + along * along)
            theta = math.degrees(math.atan2(across, along))
            g = _radial_dose_function(r, radial_r_cm, radial_log_g)
            f = _anisotropy_function(r, theta, anisotropy_r_cm, anisotropy_theta_deg, anisotropy_table)
            total += weight[s] * _geometry_function(across, along, length_cm) * g * f
        out[p] += constant * total


def __getattr__(name: str) -> Any:
    # a public name of this module whose kernel is in the tree's file; imported here on demand, so that users of the
    # exact sum alone do not wait for the tree to be compiled or loaded
    if name == "influence_rows":
        from brachy.core.tree import influence_rows

        return influence_rows
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
