"""Kernels that lay a lattice over polygons: exact area fractions of cells, voxel fractions, samples with exact weights.

Area fractions (`add_coverage`). A row of cells is cut into horizontal bands at all vertices and crossings of the edges.
Within a band no edge begins, ends or crosses another, so the edges have one order from left to right and by the
even-odd rule every second pair encloses area. The area to the right of one straight edge has a closed form in each cell
(`_add_edge`): a trapezoid in the cells that the edge passes, the full height in all cells further right. Adding it for
the first, third, fifth edge and subtracting it for those between gives the enclosed area exactly, for any polygon: with
holes, islands, crossing sides. The full heights are not written cell by cell but accumulated (a prefix sum along the
row), so the cost grows with the number of cells that edges touch; runs of cells between edges are filled at once. The
first moments of the area follow from the same closed forms and give each cell's centroid.

Tests: closed forms in tests/geometry/test_structures.py (triangle with moments, crossing edges, disc, box); counting of
points on clinical and random crossing contours in tests/independent/test_structures_real_contours.py.
"""

from typing import Any

import numpy as np

from brachy.core.compiling import njit
from brachy.core.polygon import Float, Int, Stack
from brachy.core.threads import over_range


@njit(cache=True, error_model="numpy", nogil=True)
def _add_edge(row: Any, xa: float, ya: float, xb: float, yb: float, sign: float, moments: bool) -> None:
    """Add the area to the right of one straight edge, within one row of cells, to the row's accumulators.

    `row` (5, n + 1): area in the cell; height passed on to all cells further right; and with `moments` the first
    moments in x and y within the cell and the moment in y passed on. Cells are unit squares, coordinates are in cells
    from the window's corner; x may lie outside the window. `sign` is +1 or -1.
    """
    n = row.shape[1] - 1
    if xa > xb:  # the area does not depend on the edge's direction: let it run to the right
        xa, xb, ya, yb = xb, xa, yb, ya
    if xa >= n:  # nothing of the window lies to its right
        return
    slope = (yb - ya) / (xb - xa) if xb > xa else 0.0
    if xa < 0.0:  # the part of the edge left of the window has the whole row to its right
        y = ya - xa * slope if xb > 0.0 else yb
        row[1, 0] += sign * abs(y - ya)
        row[4, 0] += sign * abs(y - ya) * 0.5 * (y + ya)
        if xb <= 0.0:
            return
        xa, ya = 0.0, y
    stop_x = min(xb, float(n))
    x0, y0 = xa, ya
    j = int(x0)
    while True:
        x1 = min(float(j + 1), stop_x)
        y1 = yb if x1 == xb else ya + (x1 - xa) * slope
        height = sign * abs(y1 - y0)
        row[0, j] += height * (j + 1 - 0.5 * (x0 + x1))
        row[1, j + 1] += height
        if moments:
            row[2, j] += height * (0.5 * (j + 1) ** 2 - (x0 * x0 + x0 * x1 + x1 * x1) / 6.0)
            row[3, j] += height * (
                0.5 * (j + 1) * (y0 + y1) - (x0 * (2.0 * y0 + y1) + x1 * (y0 + 2.0 * y1)) / 6.0
            )
            row[4, j + 1] += height * 0.5 * (y0 + y1)
        if x1 >= stop_x:
            return
        x0, y0 = x1, y1
        j += 1


@njit(cache=True, error_model="numpy", nogil=True)
def _oriented(edges: Float, to_cells: Float, ny: int) -> tuple[Float, Int]:
    """Edges (n, 4) in cell units as x0, y0, dx/dy, y1 with y0 < y1, sorted by the row in which they begin.

    Also the first edge of each of the ny rows, (ny + 1,); an edge that begins below the window belongs to row 0.
    Edges above or below the window are left out, and horizontal ones, to whose right there is no area.
    """
    found = np.empty((len(edges), 4))
    rows = np.empty(len(edges), dtype=np.int64)
    first = np.zeros(ny + 1, dtype=np.int64)
    count = 0
    for e in range(len(edges)):
        x0 = to_cells[0, 0] * edges[e, 0] + to_cells[0, 1] * edges[e, 1] + to_cells[0, 2]
        y0 = to_cells[1, 0] * edges[e, 0] + to_cells[1, 1] * edges[e, 1] + to_cells[1, 2]
        x1 = to_cells[0, 0] * edges[e, 2] + to_cells[0, 1] * edges[e, 3] + to_cells[0, 2]
        y1 = to_cells[1, 0] * edges[e, 2] + to_cells[1, 1] * edges[e, 3] + to_cells[1, 2]
        if y1 < y0:
            x0, y0, x1, y1 = x1, y1, x0, y0
        if y0 == y1 or y0 >= ny or y1 <= 0.0:
            continue
        found[count, 0], found[count, 1], found[count, 3] = x0, y0, y1
        found[count, 2] = (x1 - x0) / (y1 - y0)
        rows[count] = int(max(y0, 0.0))
        first[rows[count] + 1] += 1
        count += 1
    for j in range(ny):
        first[j + 1] += first[j]
    place = first.copy()  # counting sort: next free place of each row
    by_row = np.empty((count, 4))
    for e in range(count):
        by_row[place[rows[e]]] = found[e]
        place[rows[e]] += 1
    return by_row, first


@njit(cache=True, error_model="numpy", nogil=True)
def _x_at(edge: Float, y: float) -> float:
    """The x of an edge of `_oriented` at the height y."""
    return edge[0] + (y - edge[1]) * edge[2]


@njit(cache=True, error_model="numpy", nogil=True)
def _band_end(edges: Float, order: Int, n: int, top: float, bottom: float) -> float:
    """Sort the n edges of a band by x in `order`; returns where the band must end, `bottom` or the first crossing.

    Edges are sorted at the band's middle; if two neighbours cross within the band, it is shortened to the first such
    crossing and sorted again, because the order in the shorter band may differ. Looking at neighbours is enough: if the
    order changes anywhere in the band, some pair of neighbours changes places. Crossings within 1e-9 cells of an end
    are rounding and ignored; 64 rounds end the loop whatever rounding does.
    """
    for _ in range(64):
        middle = 0.5 * (top + bottom)
        for i in range(1, n):  # insertion sort: a handful of edges, nearly sorted
            e = order[i]
            x = _x_at(edges[e], middle)
            k = i
            while k > 0 and _x_at(edges[order[k - 1]], middle) > x:
                order[k] = order[k - 1]
                k -= 1
            order[k] = e
        end = bottom
        for i in range(1, n):
            a, b = edges[order[i - 1]], edges[order[i]]
            gap0 = _x_at(b, top) - _x_at(a, top)
            gap1 = _x_at(b, bottom) - _x_at(a, bottom)
            if min(gap0, gap1) < -1e-9 and max(gap0, gap1) > 1e-9:
                y = top + (bottom - top) * gap0 / (gap0 - gap1)
                if y > top + 1e-9 and y < end - 1e-9:
                    end = y
        if end == bottom:
            break
        bottom = end
    return bottom


@njit(cache=True, error_model="numpy", nogil=True)
def add_coverage(edges: Float, to_cells: Float, weight: float, area: Any, mean_x: Any, mean_y: Any) -> None:
    """Add weight x the exact area that polygons cover in each cell of a lattice, by the even-odd rule.

    The method is described at the top of this module.

    Parameters
    ----------
    edges : (k, 4) array
        u0, v0, u1, v1 of the sides of closed polygons, mm.
    to_cells : (2, 3) array
        Affine map to cell units: cell (j, i) is the unit square [i, i + 1] x [j, j + 1].
    weight : float
        Factor.
    area : (ny, nx) array
        Covered area in units of a cell (its fraction, for weight 1), added to.
    mean_x, mean_y : (ny, nx) arrays
        First moments of that area in cell units, added to; arrays of size 0: not computed.
    """
    ny, nx = area.shape
    moments = mean_x.size > 0
    sides, first = _oriented(edges, to_cells, ny)
    active = np.empty(len(sides), dtype=np.int64)
    order = np.empty(len(sides), dtype=np.int64)
    row = np.zeros((5, nx + 1))
    full = np.empty(1, dtype=area.dtype)
    touched = np.empty((len(sides), 2), dtype=np.int64)
    count = 0
    for j in range(ny):
        # edges that touch this row: those of the row before that reach it, and those that begin in it
        for e in range(first[j], first[j + 1]):
            active[count] = e
            count += 1
        kept = 0
        for k in range(count):
            if sides[active[k], 3] > j:
                active[kept] = active[k]
                kept += 1
        count = kept
        if count == 0:
            continue
        top = float(j)
        while top < j + 1:
            # the band ends where the next edge begins or ends; edges that span it go into `order`
            bottom = float(j + 1)
            n = 0
            for k in range(count):
                e = active[k]
                if sides[e, 1] > top:
                    bottom = min(bottom, sides[e, 1])
                elif sides[e, 3] > top:
                    bottom = min(bottom, sides[e, 3])
                    order[n] = e
                    n += 1
            if n > 1:
                bottom = _band_end(sides, order, n, top, bottom)
            for k in range(n):
                xa, xb = _x_at(sides[order[k]], top), _x_at(sides[order[k]], bottom)
                _add_edge(row, xa, top, xb, bottom, 1.0 if k % 2 == 0 else -1.0, moments)
            top = bottom
        _touched(sides, active, count, j, nx, touched)
        height, height_y, i = 0.0, 0.0, 0
        for k in range(count):
            start, stop = max(touched[k, 0], i), touched[k, 1]
            if height > 1e-12 and start > i:  # between two edges the cells are covered alike: fill the run
                line = area[j, i:start]
                full[0] = weight * height  # of the array's own type, or the loop below is not vectorised
                added = full[0]
                for m in range(len(line)):
                    line[m] += added
                if moments:
                    for m in range(i, start):
                        mean_x[j, m] += weight * height * (m + 0.5)
                        mean_y[j, m] += weight * height_y
            for m in range(start, min(stop, nx)):
                height += row[1, m]
                height_y += row[4, m]
                area[j, m] += weight * (row[0, m] + height)
                if moments:
                    mean_x[j, m] += weight * (row[2, m] + height * (m + 0.5))
                    mean_y[j, m] += weight * (row[3, m] + height_y)
            for m in range(start, stop):
                row[0, m] = row[1, m] = row[2, m] = row[3, m] = row[4, m] = 0.0
            i = max(i, stop)
        if height > 1e-12 and i < nx:
            area[j, i:] += weight * height
            if moments:
                for m in range(i, nx):
                    mean_x[j, m] += weight * height * (m + 0.5)
                    mean_y[j, m] += weight * height_y


@njit(cache=True, error_model="numpy", nogil=True)
def _touched(sides: Float, active: Int, count: int, j: int, nx: int, touched: Int) -> None:
    """Columns [start, stop) that each active edge may write to in row j, sorted by start.

    That is the columns it passes and the one after them, which receives the height passed on.
    """
    for k in range(count):
        side = sides[active[k]]
        xa, xb = _x_at(side, max(side[1], float(j))), _x_at(side, min(side[3], j + 1.0))
        # one column more on either side: at the ends of a band within the row, rounding may put the edge across a bound
        start = max(int(min(max(min(xa, xb), 0.0), float(nx))) - 1, 0)
        stop = int(min(max(max(xa, xb), 0.0), float(nx))) + 3
        m = k
        while m > 0 and touched[m - 1, 0] > start:
            touched[m, 0], touched[m, 1] = touched[m - 1, 0], touched[m - 1, 1]
            m -= 1
        touched[m, 0], touched[m, 1] = start, min(stop, nx + 1)


def fractions(stack: Stack, to_cells: Float, low: Float, high: Float, out: Any) -> None:
    """Add to `out` [z, y, x] the fraction of each voxel in the solid; slice z reaches from low[z] to high[z] (mm) on w.

    A voxel and an extruded slab share the product of a common height and a common area, so the fraction is exact. It
    runs on all threads.
    """

    def part(first: int, last: int) -> None:
        slice_fractions(stack, to_cells, low[first:last], high[first:last], out[first:last])

    over_range(part, len(out))


@njit(cache=True, error_model="numpy", nogil=True)
def slice_fractions(stack: Stack, to_cells: Float, low: Float, high: Float, out: Any) -> None:
    """`fractions` on one thread."""
    nothing = np.empty((0, 0))
    for z in range(out.shape[0]):
        for s in range(len(stack.low)):
            common = min(high[z], stack.high[s]) - max(low[z], stack.low[s])
            if common > 1e-9:
                edges = stack.edges[stack.first_edge[s] : stack.first_edge[s + 1]]
                add_coverage(edges, to_cells, common / (high[z] - low[z]), out[z], nothing, nothing)


@njit(cache=True, error_model="numpy", nogil=True)
def _odd(edges: Float, u: float, v: float) -> bool:
    """Whether a point of the plane lies inside the polygons, by the even-odd rule."""
    odd = False
    for e in range(len(edges)):
        v0 = edges[e, 1]
        v1 = edges[e, 3]
        if (v0 <= v) != (v1 <= v) and u < edges[e, 0] + (v - v0) * (edges[e, 2] - edges[e, 0]) / (v1 - v0):
            odd = not odd
    return odd


@njit(cache=True, error_model="numpy", nogil=True)
def _draw(state: int, numbers: Float) -> int:
    """Fill `numbers` with random numbers between 0 and 1 and return the generator's next state."""
    for k in range(len(numbers)):
        state = state * 48271 % 2147483647
        numbers[k] = state / 2147483647.0
    return state


@njit(cache=True, error_model="numpy", nogil=True)
def samples(stack: Stack, step: float, zones: Float) -> tuple[Float, Float]:
    """One random point in each cell of a stack, (n, 3) in u, v, w (mm), and the cells' exact volumes (n,) in mm3.

    A lattice of square cells is laid over each slab, and the slab is cut along w into equal layers no thicker than a
    cell. Cells are `step` wide within zone 0, twice as wide within zone 1, and so on; outside the last zone twice as
    wide again. A cell that the outline cuts has the volume of its part inside and is represented by a point of that
    part. Volumes are exact, so a histogram of the samples has the structure's exact volume; only the dose within a
    cell is sampled. Points are random and not at cell centres, so that no gradient of the dose lines up with the
    lattice; the sequence is fixed, so the same structure gives the same samples. Where 16 tries in a cut cell all lie
    outside (a thin sliver), the centroid of its part inside is taken.

    Parameters
    ----------
    stack : Stack
        The structure.
    step : float
        Width of the smallest cells, mm.
    zones : (k, 6) array
        Nested boxes: u min, v min, u max, v max as multiples of the cells' width OUTSIDE the box (so that its border
        lies on borders of both lattices), w min, w max in mm.

    References
    ----------
    Random numbers: Park & Miller, Commun. ACM 31, 1192 (1988), with the multiplier of 36(7), 108 (1993).
    """
    at = np.empty(3)
    state = 1
    capacity = 1024
    points = np.empty((capacity, 3))
    volumes = np.empty(capacity)
    count = 0
    for s in range(len(stack.low)):
        edges = stack.edges[stack.first_edge[s] : stack.first_edge[s + 1]]
        box = stack.slab_boxes[s]
        thickness = stack.high[s] - stack.low[s]
        finest = 0  # innermost zone that this slab meets
        while finest < len(zones) and (stack.high[s] <= zones[finest, 4] or stack.low[s] >= zones[finest, 5]):
            finest += 1
        for level in range(finest, len(zones) + 1):
            cell = step * 2.0**level
            window = np.floor(box[:4] / cell)
            window[2:] += 1.0
            if level < len(zones):
                window[:2] = np.maximum(window[:2], 2.0 * zones[level, :2])
                window[2:] = np.minimum(window[2:], 2.0 * zones[level, 2:4])
            nx = int(window[2] - window[0])
            ny = int(window[3] - window[1])
            if nx <= 0 or ny <= 0:
                continue
            area = np.zeros((ny, nx))
            mean_x = np.zeros((ny, nx))
            mean_y = np.zeros((ny, nx))
            to_cells = np.array([[1.0 / cell, 0.0, -window[0]], [0.0, 1.0 / cell, -window[1]]])
            add_coverage(edges, to_cells, 1.0, area, mean_x, mean_y)
            layers = int(np.ceil(thickness / cell - 1e-9))
            for j in range(ny):
                for i in range(nx):
                    part = area[j, i]
                    if part < 1e-7:  # rounding of the area: no cell at all
                        continue
                    if level > finest:  # cells within the next finer zone are sampled there
                        hole = zones[level - 1]
                        if hole[0] <= window[0] + i < hole[2] and hole[1] <= window[1] + j < hole[3]:
                            continue
                    if count + layers > capacity:
                        capacity = 2 * capacity + layers
                        more_points = np.empty((capacity, 3))
                        more_points[:count] = points[:count]
                        points = more_points
                        more_volumes = np.empty(capacity)
                        more_volumes[:count] = volumes[:count]
                        volumes = more_volumes
                    for layer in range(layers):
                        state = _draw(state, at)
                        if part < 1.0 - 1e-7:
                            tries = 0
                            while tries < 16 and not _odd(
                                edges, (window[0] + i + at[0]) * cell, (window[1] + j + at[1]) * cell
                            ):
                                state = _draw(state, at)
                                tries += 1
                            if tries == 16:
                                at[0] = min(max(mean_x[j, i] / part - i, 0.0), 1.0)
                                at[1] = min(max(mean_y[j, i] / part - j, 0.0), 1.0)
                        points[count, 0] = (window[0] + i + at[0]) * cell
                        points[count, 1] = (window[1] + j + at[1]) * cell
                        points[count, 2] = stack.low[s] + (layer + at[2]) * thickness / layers
                        volumes[count] = part * cell * cell * thickness / layers
                        count += 1
    return points[:count].copy(), volumes[:count].copy()
