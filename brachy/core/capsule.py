"""The CT image of a capsule: a line of free direction seen through an in-plane Gaussian and a slice box.

Coordinates are "scan mm": voxel index times spacing, (x, y, z). A capsule is seven numbers: centre x, y, z, unit axis
u, v, w and mass (HU mm3, the integral of its image). The blur is three: in-plane sigma, slice sigma (a Gaussian on top
of its box), and the length of the line, all mm. The image is

    M(x, y, z) = mass / (2 pi sigma^2) sum_n W_n exp(-((x - x_n)^2 + (y - y_n)^2) / (2 sigma^2)) B_n(z - z_n)

over Gauss-Legendre nodes n of the line, where B_n is the slice's box convolved with a Gaussian: the slice sigma and, in
quadrature, the piece of line that the node stands for. Derivatives are analytic.
"""

import math
from typing import Any

import numpy as np
from numba import njit

NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)
SHAPE_NUMBERS = 6
"""Free numbers of a capsule: x, y, z, two tilts along `tangents`, mass."""
ROWS = 10
"""Rows of `image_rows`: value, its six derivatives, and those with respect to the three blur numbers."""


@njit(cache=True, error_model="numpy")
def tangents(axis: Any, first: Any, second: Any) -> Any:
    """Two unit vectors perpendicular to a unit axis and to each other."""
    ax, ay, az = axis[0], axis[1], axis[2]
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
    """Voxels (x0, x1, y0, y1, z0, z1; half open) within [low, high) that the capsule's image reaches."""
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
    """Fill rows (10, voxels of the box, x fastest): value; with level 1 also 6, with level 2 all 9 derivatives."""
    x0, x1, y0, y1, z0, z1 = box
    nx, ny, nz = x1 - x0, y1 - y0, z1 - z0
    rows[: 1 if level == 0 else 7 if level == 1 else ROWS, : nx * ny * nz] = 0.0
    sigma, slice_sigma, length = blur
    first, second = np.empty(3), np.empty(3)
    tangents(capsule[3:6], first, second)
    inverse, half = 1.0 / (sigma * sigma), 0.5 * spacing[2]
    many = len(NODES)
    ex, dx, ey, dy = np.empty((many, nx)), np.empty((many, nx)), np.empty((many, ny)), np.empty((many, ny))
    gz, hz, kz = np.empty((many, nz)), np.empty((many, nz)), np.empty((many, nz))
    for n in range(many):
        t = 0.5 * length * NODES[n]
        for i in range(nx):
            d = (x0 + i) * spacing[0] - capsule[0] - t * capsule[3]
            ex[n, i] = math.exp(-0.5 * d * d * inverse)
            dx[n, i] = d * inverse
        for j in range(ny):
            d = (y0 + j) * spacing[1] - capsule[1] - t * capsule[4]
            ey[n, j] = math.exp(-0.5 * d * d * inverse)
            dy[n, j] = d * inverse
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
            for n in range(many):
                t, share = 0.5 * length * NODES[n], 0.5 * NODES[n]
                here, slope, width, down = (
                    gz[n, k] * ey[n, j],
                    hz[n, k] * ey[n, j],
                    kz[n, k] * ey[n, j],
                    dy[n, j],
                )
                if level == 0:
                    for i in range(nx):
                        rows[0, start + i] += here * ex[n, i]
                    continue
                for i in range(nx):
                    value = here * ex[n, i]
                    gx, gy, g_z = value * dx[n, i], value * down, slope * ex[n, i]
                    rows[0, start + i] += value
                    rows[1, start + i] += gx
                    rows[2, start + i] += gy
                    rows[3, start + i] += g_z
                    rows[4, start + i] += t * (first[0] * gx + first[1] * gy + first[2] * g_z)
                    rows[5, start + i] += t * (second[0] * gx + second[1] * gy + second[2] * g_z)
                if level == 2:
                    for i in range(nx):
                        value = here * ex[n, i]
                        gx, gy, g_z = value * dx[n, i], value * down, slope * ex[n, i]
                        r2 = (dx[n, i] * dx[n, i] + down * down) * sigma
                        rows[7, start + i] += value * (r2 - 2.0 / sigma)
                        rows[8, start + i] += width * ex[n, i]
                        rows[9, start + i] += share * (capsule[3] * gx + capsule[4] * gy + capsule[5] * g_z)
            start += nx
    if level > 0:
        for i in range(nx * ny * nz):
            rows[6, i] = rows[0, i] / capsule[6]


@njit(cache=True, error_model="numpy")
def add_images(capsules: Any, blur: Any, spacing: Any, low: Any, out: Any, sign: Any) -> Any:
    """Add (sign 1) or subtract (-1) the capsules' images in out [z, y, x]; its first voxel is index `low` (x, y, z)."""
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
    """Misfit in the box [low, high); level 1: also the Gauss-Newton matrix and right side of the first `free` capsules.

    The misfit is the sum of squared residuals over their expected size; errors = (noise HU, share of signal, voxels a
    cell). A saturated voxel is a lower bound: it costs nothing where the model exceeds it. Unknowns: six for each free
    capsule in the order of `image_rows`, with level 2 then in-plane sigma, slice sigma and length.
    """
    nx, ny, nz = high[0] - low[0], high[1] - low[1], high[2] - low[2]
    model = np.zeros((nz, ny, nx))
    boxes = np.empty((len(capsules), 6), np.int64)
    largest = 1
    for c in range(len(capsules)):
        b = boxes[c]
        reach_box(capsules[c], blur, spacing, low, high, b)
        largest = max(largest, (b[1] - b[0]) * (b[3] - b[2]) * (b[5] - b[4]))
    kept = free if level > 0 else 0
    rows = np.empty((kept + 1, ROWS, largest))
    bend = np.zeros((3, nz, ny, nx) if level == 2 else (3, 1, 1, 1))
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
                            bend[m, z, y, x] += own[7 + m, i]
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
                model[z, y, x] = w * r
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
        i = 0
        for z in range(b[4] - low[2], b[5] - low[2]):
            for y in range(b[2] - low[1], b[3] - low[1]):
                for x in range(b[0] - low[0], b[1] - low[0]):
                    weights[i] = weight[z, y, x]
                    products[i] = model[z, y, x]
                    i += 1
        at = SHAPE_NUMBERS * c
        for m in range(SHAPE_NUMBERS):
            side = 0.0
            for i in range(count):
                side += rows[c, 1 + m, i] * products[i]
            right[at + m] = side
            for q in range(m + 1):
                value = _weighted_product(rows[c, 1 + m], weights, rows[c, 1 + q], count)
                matrix[at + m, at + q] = value
                matrix[at + q, at + m] = value
        for d in range(c + 1, free):
            e = boxes[d]
            xa, xb = max(b[0], e[0]), min(b[1], e[1])
            ya, yb = max(b[2], e[2]), min(b[3], e[3])
            za, zb = max(b[4], e[4]), min(b[5], e[5])
            if xa >= xb or ya >= yb or za >= zb:
                continue
            to = SHAPE_NUMBERS * d
            for z in range(za, zb):
                for y in range(ya, yb):
                    i = ((z - b[4]) * my + y - b[2]) * mx + xa - b[0]
                    k = ((z - e[4]) * (e[3] - e[2]) + y - e[2]) * (e[1] - e[0]) + xa - e[0]
                    for m in range(SHAPE_NUMBERS):
                        for q in range(SHAPE_NUMBERS):
                            matrix[at + m, to + q] += _weighted_product(
                                rows[c, 1 + m, i:], weights[i:], rows[d, 1 + q, k:], xb - xa
                            )
            for m in range(SHAPE_NUMBERS):
                for q in range(SHAPE_NUMBERS):
                    matrix[to + q, at + m] = matrix[at + m, to + q]
    if level == 2:
        end = SHAPE_NUMBERS * free
        for p in range(3):
            for z in range(nz):
                for y in range(ny):
                    for x in range(nx):
                        right[end + p] += bend[p, z, y, x] * model[z, y, x]
                        for q in range(3):
                            matrix[end + p, end + q] += weight[z, y, x] * bend[p, z, y, x] * bend[q, z, y, x]
            for c in range(free):
                b = boxes[c]
                i = 0
                for z in range(b[4] - low[2], b[5] - low[2]):
                    for y in range(b[2] - low[1], b[3] - low[1]):
                        for x in range(b[0] - low[0], b[1] - low[0]):
                            products[i] = weight[z, y, x] * bend[p, z, y, x]
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
    """Solve a symmetric positive system by Cholesky's decomposition, in place; a zero pivot leaves its unknown 0."""
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
    """Price of the first `free` capsules' masses that differ from one seed's, and of centres between two slices.

    A seed within one thick slice may lie anywhere in it: its distance from the slice's middle has the SD of a uniform
    distribution, slice / sqrt(12).
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

    A step is limited to 1 mm in plane, 2 mm along z, 0.4 in tilt and half a mass (engineering choice).
    """
    n = SHAPE_NUMBERS * free
    damped, step = matrix.copy(), right.copy()
    pull, hold = 1.0 / (mass_sd * mass) ** 2, 12.0 / slice_mm**2
    for c in range(free):
        z, m = SHAPE_NUMBERS * c + 2, SHAPE_NUMBERS * c + 5
        damped[z, z] += hold
        step[z] -= hold * (now[c, 2] - slice_mm * round(now[c, 2] / slice_mm))
        damped[m, m] += pull
        step[m] += pull * (mass - now[c, 6])
    for i in range(n):
        damped[i, i] += damping * damped[i, i] + (1e-6 * pull if i % SHAPE_NUMBERS == 5 else 1e-6)
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
    """Least distance of two capsules' axes over the inner 80 % of a length."""
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


@njit(cache=True, error_model="numpy")
def is_local_maximum(image: Any, points: Any, reach: Any, found: Any) -> Any:
    """Whether each voxel (z, y, x) is the highest within `reach` voxels (z, y, x); of equal ones the first counts."""
    nz, ny, nx = image.shape
    for p in range(len(points)):
        z0, y0, x0 = points[p, 0], points[p, 1], points[p, 2]
        top, highest = image[z0, y0, x0], True
        for z in range(max(0, z0 - reach[0]), min(nz, z0 + reach[0] + 1)):
            for y in range(max(0, y0 - reach[1]), min(ny, y0 + reach[1] + 1)):
                for x in range(max(0, x0 - reach[2]), min(nx, x0 + reach[2] + 1)):
                    value = image[z, y, x]
                    if value > top or (value == top and (z, y, x) < (z0, y0, x0)):
                        highest = False
                        break
                if not highest:
                    break
            if not highest:
                break
        found[p] = highest


@njit(cache=True, error_model="numpy")
def elongations(excess: Any, spacing: Any, peaks: Any, length_mm: Any, directions: Any) -> Any:
    """How far straight in-plane lines carry each peak: (n, directions) share of the peak's HU.

    For each direction, the best over all 8 mm segments through the peak (to 1.5 voxels) of the least HU on them.
    A capsule alone scores low in every direction, a row of capsules or the rim of a bone high in one or two, a solid
    in all.
    """
    ny, nx = excess.shape[1:]
    step = min(spacing[0], spacing[1])
    samples = math.ceil(length_mm / step) + 1
    line = np.empty(2 * samples - 1)
    found = np.zeros((len(peaks), directions))
    for p in range(len(peaks)):
        z, y0, x0 = peaks[p, 0], peaks[p, 1], peaks[p, 2]
        top = 1.0
        for y in range(max(0, y0 - 1), min(ny, y0 + 2)):
            for x in range(max(0, x0 - 1), min(nx, x0 + 2)):
                top = max(top, float(excess[z, y, x]))
        for d in range(directions):
            angle = math.pi * d / directions
            ux, uy = math.cos(angle) * step / spacing[0], math.sin(angle) * step / spacing[1]
            for i in range(2 * samples - 1):
                t = i - samples + 1
                x, y = round(x0 + t * ux), round(y0 + t * uy)
                line[i] = float(excess[z, y, x]) if 0 <= x < nx and 0 <= y < ny else 0.0
            best = -1e30
            for first in range(samples):
                least = line[first]
                for i in range(first + 1, first + samples):
                    least = min(least, line[i])
                best = max(best, least)
            found[p, d] = best / top
    return found
