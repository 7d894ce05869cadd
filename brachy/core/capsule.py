"""Model of a seed's CT image, and the least-squares equations that fit several such seeds to a scan.

Model. A seed is a bright line segment of any direction, blurred in the slice plane by a Gaussian and along z by the
slice thickness (a box) and a Gaussian. Coordinates are "scan mm": voxel index times spacing, (x, y, z). A capsule is
seven numbers: centre x, y, z, unit axis u, v, w, and mass (HU mm3, the integral of its image). The blur is three
numbers, all mm: in-plane sigma, slice sigma, and the length of the bright line. The image is

    M(x, y, z) = mass / (2 pi sigma^2) sum_n W_n exp(-((x - x_n)^2 + (y - y_n)^2) / (2 sigma^2)) B_n(z - z_n)

over Gauss-Legendre nodes n on the line, where B_n is the slice's box convolved with a Gaussian whose variance is that
of the slice sigma plus that of the piece of line which node n represents. The second term matters for a steep line:
without it thin slices would show the nodes as separate spots. In the plane it is left out: neighbouring nodes are at
most 0.83 mm apart on a line of 4.5 mm, less than the in-plane FWHM of a CT (sigma of 0.4 mm and more).

Accuracy, measured in tests/independent/test_capsule_kernels.py. Against adaptive quadrature of the line the image is
within 1e-4 of its peak for a line in the slice plane (sigma 0.75 mm) and within 2 % for a tilted or upright one; the
sum over all voxels is the mass within 1e-3. Derivatives are analytic and agree with differences to 1e-5 of their
maximum, those by tilt and length to 3 %, because the change of B_n's width with the tilt is neglected. That is enough
for Gauss-Newton steps: the misfit itself, which decides whether a step is accepted, has no such error.

Fit. The residuals of several neighbouring capsules are minimised together (`assemble`, `damped_step`), because their
images overlap. Each kernel works in the voxel box that an image reaches (`reach_box`), so the cost grows with the
number of seeds and not with the size of the scan.
"""

import math
from typing import Any

import numpy as np

from brachy.core.compiling import njit

NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)
"""Eight nodes on [-1, 1] (weights sum to 2); engineering choice, with the accuracy stated above."""
SHAPE_NUMBERS = 6
"""Unknowns of a capsule in a fit: x, y, z, two tilts along `tangents`, mass."""
ROWS = 10
"""Rows of `image_rows`: value, its six derivatives, and those with respect to the three blur numbers."""


@njit(cache=True, error_model="numpy")
def tangents(axis: Any, first: Any, second: Any) -> Any:
    """Set `first` and `second` to unit vectors perpendicular to a unit axis and to each other.

    They parametrise a change of direction by two numbers, so that no angle is singular (an upright seed would be, in
    spherical angles).
    """
    ax, ay, az = axis[0], axis[1], axis[2]
    # z x axis, or x x axis where the axis is nearly z: neither product comes near zero length
    if abs(az) < 0.9:
        first[0], first[1], first[2] = -ay, ax, 0.0
    else:
        first[0], first[1], first[2] = 0.0, -az, ay
    length = math.sqrt(first[0] ** 2 + first[1] ** 2 + first[2] ** 2)
    for k in range(3):
        first[k] /= length
    second[0] = ay * first[2] - az * first[1]
    second[1] = az * first[0] - ax * first[2]
    second[2] = ax * first[1] - ay * first[0]


@njit(cache=True, error_model="numpy")
def reach_box(capsule: Any, blur: Any, spacing: Any, low: Any, high: Any, box: Any) -> Any:
    """Set `box` to the voxels (x0, x1, y0, y1, z0, z1; half open) within [low, high) that the capsule's image reaches.

    Beyond it the image counts as zero. At 3.5 sigma in the plane a Gaussian is 0.2 % of its peak; along z the box ends
    3 slice sigma beyond the slice's half thickness, plus 0.3 mm for the widening by a node's piece of line. Both are
    engineering choices: the cost of a fit grows with the box, and 0.2 % is far below the model error (`errors`).
    """
    half_length = 0.5 * blur[2]
    for k in range(3):
        if k < 2:
            reach = half_length * abs(capsule[3 + k]) + 3.5 * blur[0]
        else:
            reach = half_length * abs(capsule[5]) + 0.5 * spacing[2] + 3.0 * blur[1] + 0.3
        first = math.ceil((capsule[k] - reach) / spacing[k])
        last = math.floor((capsule[k] + reach) / spacing[k]) + 1
        box[2 * k] = min(max(first, low[k]), high[k])
        box[2 * k + 1] = min(max(last, box[2 * k]), high[k])


@njit(cache=True, error_model="numpy")
def image_rows(capsule: Any, blur: Any, spacing: Any, box: Any, level: Any, rows: Any) -> Any:
    """Fill rows (10, voxels of the box, x fastest): value; with level 1 also 6, with level 2 all 9 derivatives.

    Row 0 is the image in HU; rows 1 to 3 its derivatives by the centre's x, y, z (per mm), 4 and 5 by the two tilts
    along `tangents` (per unit of tangent), 6 by mass; 7 to 9 by in-plane sigma, slice sigma and line length (per mm).
    A node's image is a product of a function of x, one of y and one of z. The three are tabulated once per node, so
    that the number of exponentials and error functions grows with the box's sides and not with its volume.
    """
    x0, x1, y0, y1, z0, z1 = box
    nx, ny, nz = x1 - x0, y1 - y0, z1 - z0
    rows[: 1 if level == 0 else 7 if level == 1 else ROWS, : nx * ny * nz] = 0.0
    sigma, slice_sigma, length = blur
    first, second = np.empty(3), np.empty(3)
    tangents(capsule[3:6], first, second)
    inverse, half = 1.0 / (sigma * sigma), 0.5 * spacing[2]
    nodes = len(NODES)
    # along x and y: the exponential (ex, ey) and the factor that turns it into its derivative by the centre (dx, dy)
    ex, dx, ey, dy = (
        np.empty((nodes, nx)),
        np.empty((nodes, nx)),
        np.empty((nodes, ny)),
        np.empty((nodes, ny)),
    )
    # along z, with all constants: box convolved with a Gaussian (gz), its derivatives by z (hz) and slice sigma (kz)
    gz, hz, kz = np.empty((nodes, nz)), np.empty((nodes, nz)), np.empty((nodes, nz))
    for n in range(nodes):
        t = 0.5 * length * NODES[n]
        for i in range(nx):
            d = (x0 + i) * spacing[0] - capsule[0] - t * capsule[3]
            ex[n, i] = math.exp(-0.5 * d * d * inverse)
            dx[n, i] = d * inverse
        for j in range(ny):
            d = (y0 + j) * spacing[1] - capsule[1] - t * capsule[4]
            ey[n, j] = math.exp(-0.5 * d * d * inverse)
            dy[n, j] = d * inverse
        # extent along z of the node's piece of line; a uniform distribution of that width has the variance piece^2 / 12
        piece = 0.5 * WEIGHTS[n] * length * capsule[5]
        s = math.sqrt(slice_sigma * slice_sigma + piece * piece / 12.0)
        scale = capsule[6] * inverse / (2.0 * math.pi) * 0.5 * WEIGHTS[n] / spacing[2]
        for k in range(nz):
            d = (z0 + k) * spacing[2] - capsule[2] - t * capsule[5]
            a, b = (d + half) / s, (d - half) / s
            gz[n, k] = scale * 0.5 * (math.erf(a * math.sqrt(0.5)) - math.erf(b * math.sqrt(0.5)))
            pa = math.exp(-0.5 * a * a) / math.sqrt(2.0 * math.pi)
            pb = math.exp(-0.5 * b * b) / math.sqrt(2.0 * math.pi)
            hz[n, k] = -scale * (pa - pb) / s
            kz[n, k] = -scale * (a * pa - b * pb) * slice_sigma / (s * s)
    start = 0
    for k in range(nz):
        for j in range(ny):
            for n in range(nodes):
                t, share = 0.5 * length * NODES[n], 0.5 * NODES[n]  # share: change of t with the length
                value_yz, slope_yz, width_yz, dy_row = (
                    gz[n, k] * ey[n, j],
                    hz[n, k] * ey[n, j],
                    kz[n, k] * ey[n, j],
                    dy[n, j],
                )
                if level == 0:
                    for i in range(nx):
                        rows[0, start + i] += value_yz * ex[n, i]
                    continue
                for i in range(nx):
                    value = value_yz * ex[n, i]
                    gx, gy, g_z = value * dx[n, i], value * dy_row, slope_yz * ex[n, i]
                    rows[0, start + i] += value
                    rows[1, start + i] += gx
                    rows[2, start + i] += gy
                    rows[3, start + i] += g_z
                    # a tilt moves the node at distance t from the centre by t times the tangent
                    rows[4, start + i] += t * (first[0] * gx + first[1] * gy + first[2] * g_z)
                    rows[5, start + i] += t * (second[0] * gx + second[1] * gy + second[2] * g_z)
                if level == 2:
                    for i in range(nx):
                        value = value_yz * ex[n, i]
                        gx, gy, g_z = value * dx[n, i], value * dy_row, slope_yz * ex[n, i]
                        # d/dsigma of exp(-r^2 / 2 sigma^2) / sigma^2, with dx = x / sigma^2
                        r2 = (dx[n, i] * dx[n, i] + dy_row * dy_row) * sigma
                        rows[7, start + i] += value * (r2 - 2.0 / sigma)
                        rows[8, start + i] += width_yz * ex[n, i]
                        rows[9, start + i] += share * (capsule[3] * gx + capsule[4] * gy + capsule[5] * g_z)
            start += nx
    if level > 0:
        for i in range(nx * ny * nz):
            rows[6, i] = rows[0, i] / capsule[6]


@njit(cache=True, error_model="numpy")
def add_images(capsules: Any, blur: Any, spacing: Any, low: Any, out: Any, sign: Any) -> Any:
    """Add (sign 1) or subtract (-1) the capsules' images in out [z, y, x], HU.

    `low` is the index (x, y, z) in the scan of the first voxel of `out`; capsules (n, 7) are in scan mm.
    """
    high = np.array([low[0] + out.shape[2], low[1] + out.shape[1], low[2] + out.shape[0]])
    box = np.empty(6, np.int64)
    for c in range(len(capsules)):
        reach_box(capsules[c], blur, spacing, low, high, box)
        count = (box[1] - box[0]) * (box[3] - box[2]) * (box[5] - box[4])
        if count == 0:
            continue
        rows = np.empty((ROWS, count))
        image_rows(capsules[c], blur, spacing, box, 0, rows)
        i = 0
        for z in range(box[4] - low[2], box[5] - low[2]):
            for y in range(box[2] - low[1], box[3] - low[1]):
                for x in range(box[0] - low[0], box[1] - low[0]):
                    out[z, y, x] += sign * rows[0, i]
                    i += 1


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def _weighted_product(left: Any, weight: Any, right: Any, count: Any) -> Any:
    """Sum of left x weight x right over the first `count` elements.

    "reassoc" lets the compiler sum in vector registers; the order is fixed at compile time, so results repeat.
    """
    total = 0.0
    for i in range(count):
        total += left[i] * weight[i] * right[i]
    return total


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def assemble(
    excess: Any,
    saturated: Any,
    spacing: Any,
    low: Any,
    high: Any,
    capsules: Any,
    free: Any,
    blur: Any,
    level: Any,
    errors: Any,
    matrix: Any,
    right: Any,
) -> Any:
    """Misfit in the voxel box [low, high); from level 1 also the Gauss-Newton matrix and right side.

    The misfit is sum r^2 w over voxels, r = excess - model in HU, w = 1 / ((noise^2 + (share x signal)^2) x cell) with
    errors = (noise in HU, model error as a share of the signal, voxels in one resolution cell). Dividing by the cell
    accounts for errors of neighbouring voxels being correlated: only one voxel in a cell is independent. A saturated
    voxel is a lower bound of the true HU, so it costs nothing where the model exceeds it.

    The first `free` capsules are fitted, the others only add to the model. Unknowns: six for each free capsule in the
    order of `image_rows`; with level 2 then in-plane sigma, slice sigma and line length, common to all free capsules.
    The result equals J^T W J and J^T W r of the dense Jacobian J (test_assembled_equations_are_those_of_dense_least_
    squares), but no product is formed outside the overlap of two boxes, where one of the images is zero.
    """
    nx, ny, nz = high[0] - low[0], high[1] - low[1], high[2] - low[2]
    model = np.zeros((nz, ny, nx))
    boxes = np.empty((len(capsules), 6), np.int64)
    largest = 1
    for c in range(len(capsules)):
        b = boxes[c]
        reach_box(capsules[c], blur, spacing, low, high, b)
        largest = max(largest, (b[1] - b[0]) * (b[3] - b[2]) * (b[5] - b[4]))
    # derivative rows are needed later for the free capsules only; all others share the last set of rows
    kept = free if level > 0 else 0
    rows = np.empty((kept + 1, ROWS, largest))
    # derivatives of the whole model by the three blur numbers: sums over the free capsules
    blur_rows = np.zeros((3, nz, ny, nx) if level == 2 else (3, 1, 1, 1))
    for c in range(len(capsules)):
        b, own = boxes[c], rows[min(c, kept)]
        image_rows(capsules[c], blur, spacing, b, level if c < kept else 0, own)
        i = 0
        for z in range(b[4] - low[2], b[5] - low[2]):
            for y in range(b[2] - low[1], b[3] - low[1]):
                for x in range(b[0] - low[0], b[1] - low[0]):
                    model[z, y, x] += own[0, i]
                    if level == 2 and c < kept:
                        for m in range(3):
                            blur_rows[m, z, y, x] += own[7 + m, i]
                    i += 1
    weight = np.empty((nz, ny, nx))
    censored = saturated.size > 0
    noise2, share2 = errors[0] ** 2, errors[1] ** 2
    total = 0.0
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                seen = float(excess[low[2] + z, low[1] + y, low[0] + x])
                r = seen - model[z, y, x]
                bright = max(seen, 0.0)
                w = 1.0 / ((noise2 + share2 * bright * bright) * errors[2])
                if censored and r < 0.0 and saturated[low[2] + z, low[1] + y, low[0] + x]:
                    w = 0.0
                weight[z, y, x] = w
                model[z, y, x] = (
                    w * r
                )  # the model is not needed any more: from here on it holds weighted residuals
                total += w * r * r
    if level == 0:
        return total
    matrix[:] = 0.0
    right[:] = 0.0
    weights, products = np.empty(largest), np.empty(largest)
    for c in range(free):
        b = boxes[c]
        mx, my = b[1] - b[0], b[3] - b[2]
        count = mx * my * (b[5] - b[4])
        # weights and weighted residuals in the order of the capsule's rows, so that the sums below are contiguous
        i = 0
        for z in range(b[4] - low[2], b[5] - low[2]):
            for y in range(b[2] - low[1], b[3] - low[1]):
                for x in range(b[0] - low[0], b[1] - low[0]):
                    weights[i] = weight[z, y, x]
                    products[i] = model[z, y, x]
                    i += 1
        at_c = SHAPE_NUMBERS * c  # first row and column of this capsule's block on the diagonal
        for m in range(SHAPE_NUMBERS):
            side = 0.0
            for i in range(count):
                side += rows[c, 1 + m, i] * products[i]
            right[at_c + m] = side
            for q in range(m + 1):
                value = _weighted_product(rows[c, 1 + m], weights, rows[c, 1 + q], count)
                matrix[at_c + m, at_c + q] = value
                matrix[at_c + q, at_c + m] = value
        for d in range(c + 1, free):  # blocks of two capsules: only where their boxes overlap
            e = boxes[d]
            xa, xb = max(b[0], e[0]), min(b[1], e[1])
            ya, yb = max(b[2], e[2]), min(b[3], e[3])
            za, zb = max(b[4], e[4]), min(b[5], e[5])
            if xa >= xb or ya >= yb or za >= zb:
                continue
            at_d = SHAPE_NUMBERS * d
            for z in range(za, zb):
                for y in range(ya, yb):
                    # places of the first common voxel of this row in the rows of the one and of the other capsule
                    i = ((z - b[4]) * my + y - b[2]) * mx + xa - b[0]
                    k = ((z - e[4]) * (e[3] - e[2]) + y - e[2]) * (e[1] - e[0]) + xa - e[0]
                    for m in range(SHAPE_NUMBERS):
                        for q in range(SHAPE_NUMBERS):
                            matrix[at_c + m, at_d + q] += _weighted_product(
                                rows[c, 1 + m, i:], weights[i:], rows[d, 1 + q, k:], xb - xa
                            )
            for m in range(SHAPE_NUMBERS):
                for q in range(SHAPE_NUMBERS):
                    matrix[at_d + q, at_c + m] = matrix[at_c + m, at_d + q]
    if level == 2:
        end = SHAPE_NUMBERS * free
        for p in range(3):
            for z in range(nz):
                for y in range(ny):
                    for x in range(nx):
                        right[end + p] += blur_rows[p, z, y, x] * model[z, y, x]
                        for q in range(3):
                            matrix[end + p, end + q] += (
                                weight[z, y, x] * blur_rows[p, z, y, x] * blur_rows[q, z, y, x]
                            )
            for c in range(free):
                b = boxes[c]
                i = 0
                for z in range(b[4] - low[2], b[5] - low[2]):
                    for y in range(b[2] - low[1], b[3] - low[1]):
                        for x in range(b[0] - low[0], b[1] - low[0]):
                            products[i] = weight[z, y, x] * blur_rows[p, z, y, x]
                            i += 1
                for m in range(SHAPE_NUMBERS):
                    value = 0.0
                    for k in range(i):
                        value += rows[c, 1 + m, k] * products[k]
                    matrix[SHAPE_NUMBERS * c + m, end + p] = value
                    matrix[end + p, SHAPE_NUMBERS * c + m] = value
    return total


@njit(cache=True, error_model="numpy")
def solve_positive(matrix: Any, right: Any) -> Any:
    """Solve a symmetric positive system by Cholesky decomposition, in place; the solution is left in `right`.

    A pivot that is zero or negative (an unknown that nothing in the image determines) is replaced by a huge number,
    which sets that unknown to 0 instead of ending in a division by zero.
    """
    n = len(right)
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i == j:
                matrix[i, i] = math.sqrt(total) if total > 0.0 else 1e150
            else:
                matrix[i, j] = total / matrix[j, j]
    for i in range(n):
        total = right[i]
        for k in range(i):
            total -= matrix[i, k] * right[k]
        right[i] = total / matrix[i, i]
    for i in range(n - 1, -1, -1):
        total = right[i]
        for k in range(i + 1, n):
            total -= matrix[k, i] * right[k]
        right[i] = total / matrix[i, i]


@njit(cache=True, error_model="numpy")
def prior(capsules: Any, free: Any, mass: Any, mass_sd: Any, slice_mm: Any) -> Any:
    """Prior of the first `free` capsules, in units of the misfit: mass near one seed's, centre near a slice's middle.

    The mass term is ((mass - one seed) / SD)^2 with `mass_sd` as a share of one seed's mass. The z term exists because
    the image of a seed that lies within one thick slice does not change when it moves along z: without it the fit could
    put the centre anywhere in the slice. Its SD is that of a uniform distribution over the slice, slice / sqrt(12).
    """
    total = 0.0
    for c in range(free):
        off = capsules[c, 2] / slice_mm - round(capsules[c, 2] / slice_mm)
        total += 12.0 * off * off + ((capsules[c, 6] / mass - 1.0) / mass_sd) ** 2
    return total


@njit(cache=True, error_model="numpy")
def damped_step(
    now: Any, free: Any, mass: Any, mass_sd: Any, slice_mm: Any, matrix: Any, right: Any, damping: Any
) -> Any:
    """Capsules after one Levenberg-Marquardt step on the misfit and `prior`; matrix and right side as of `assemble`.

    A step is limited to 1 mm in plane, 2 mm along z, 0.4 in tilt and half a mass, because the linearisation holds over
    about one blur width only; the mass stays between 2 % and six times one seed's (engineering choices). The caller
    accepts the step if the misfit falls and raises `damping` if not.
    """
    n = SHAPE_NUMBERS * free
    damped, step = matrix.copy(), right.copy()
    # inverse variances of the two priors, in the units of the matrix
    mass_precision, z_precision = 1.0 / (mass_sd * mass) ** 2, 12.0 / slice_mm**2
    for c in range(free):
        z, m = SHAPE_NUMBERS * c + 2, SHAPE_NUMBERS * c + 5
        damped[z, z] += z_precision
        step[z] -= z_precision * (now[c, 2] - slice_mm * round(now[c, 2] / slice_mm))
        damped[m, m] += mass_precision
        step[m] += mass_precision * (mass - now[c, 6])
    # damping relative to the diagonal does not depend on units; the small constant keeps an unknown without any
    # information (a zero row) solvable, scaled for mass, whose derivative is per HU mm3
    for i in range(n):
        damped[i, i] += damping * damped[i, i] + (1e-6 * mass_precision if i % SHAPE_NUMBERS == 5 else 1e-6)
    solve_positive(damped, step)
    new = now.copy()
    first, second = np.empty(3), np.empty(3)
    for c in range(free):
        s = step[SHAPE_NUMBERS * c : SHAPE_NUMBERS * (c + 1)]
        for k in range(3):
            most = 1.0 if k < 2 else 2.0
            new[c, k] += min(max(s[k], -most), most)
        tangents(now[c, 3:6], first, second)
        a, b = min(max(s[3], -0.4), 0.4), min(max(s[4], -0.4), 0.4)
        length = math.sqrt(1.0 + a * a + b * b)
        for k in range(3):
            new[c, 3 + k] = (now[c, 3 + k] + a * first[k] + b * second[k]) / length
        change = min(max(s[5], -0.5 * mass), 0.5 * mass)
        new[c, 6] = min(max(now[c, 6] + change, 0.02 * mass), 6.0 * mass)
    return new


@njit(cache=True, error_model="numpy")
def closest_axes(first: Any, second: Any, length_mm: Any) -> Any:
    """Least distance in mm of two capsules' axes over the inner 80 % of `length_mm`, on 17 x 17 points of them.

    The outer tenths are left out: seeds that touch end to end in a needle are allowed to meet at their tips.
    """
    best = 1e30
    for i in range(17):
        s = (i / 16 - 0.5) * 0.8 * length_mm
        for j in range(17):
            t = (j / 16 - 0.5) * 0.8 * length_mm
            d2 = 0.0
            for k in range(3):
                d2 += (first[k] + s * first[3 + k] - second[k] - t * second[3 + k]) ** 2
            best = min(best, d2)
    return math.sqrt(best)
