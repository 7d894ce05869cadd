"""TG-43 dose rate of seeds on an axis-aligned grid with numpy alone (2D: and scipy's map_coordinates).

Lengths in cm, rates in cGy/h. One slice at a time stays in the cache; every step writes into an array that is there
already. `reduced` is not TG-43 but one np.interp of the finished rate in r^2, the least that numpy can do.
"""

import numpy as np
from scipy.ndimage import map_coordinates


def squared_distance(x, y, dz, seed, out):
    np.add(((y - seed[1]) ** 2)[:, None], ((x - seed[0]) ** 2)[None, :], out=out)
    out += dz * dz
    return out


def dose_1d(source, seeds, strength, x, y, z):
    """Eq. (11) of TG-43U1: G_L by arctan, ln g and phi_an by np.interp."""
    length, radius = source.active_length_cm, source.capsule_diameter_mm / 20
    constant = source.dose_rate_constant / float(source.geometry_function(1.0, 90.0))
    nodes, log_g = source.radial_r_cm, np.log(source.radial_g)
    # one more node far out makes np.interp's last segment the exponential beyond the table
    slope = (log_g[-1] - log_g[-2]) / (nodes[-1] - nodes[-2])
    nodes, log_g = np.append(nodes, 200.0), np.append(log_g, log_g[-1] + slope * (200.0 - nodes[-1]))
    out = np.zeros((len(z), len(y), len(x)))
    r, work = np.empty((len(y), len(x))), np.empty((len(y), len(x)))
    for k, plane in enumerate(out):
        for seed, weight in zip(seeds, strength, strict=True):
            np.sqrt(squared_distance(x, y, z[k] - seed[2], seed, r), out=r)
            np.maximum(r, radius, out=r)
            rate = np.exp(np.interp(r, nodes, log_g))
            rate *= np.interp(r, source.phi_r_cm, source.phi_an)
            np.divide(0.5 * length, r, out=work)
            np.arctan(work, out=work)
            rate *= work
            rate /= r
            rate *= weight * constant * 2.0 / length
            plane += rate
    return out


def dose_1d_reduced(source, seeds, strength, x, y, z, nodes=4096):
    """One np.interp of the rate in r^2."""
    radius = source.capsule_diameter_mm / 20
    borders = np.geomspace(radius, 60.0, nodes) ** 2
    values = source.dose_rate(np.sqrt(borders))
    out = np.zeros((len(z), len(y), len(x)))
    r2 = np.empty((len(y), len(x)))
    for k, plane in enumerate(out):
        for seed, weight in zip(seeds, strength, strict=True):
            squared_distance(x, y, z[k] - seed[2], seed, r2)
            rate = np.interp(r2, borders, values)
            rate *= weight
            plane += rate
    return out


def line_tables(source):
    """What `rate_2d` interpolates in: constant, length, least r^2, g, F."""
    constant = source.dose_rate_constant / float(source.geometry_function(1.0, 90.0))
    nodes, log_g = source.radial_r_cm, np.log(source.radial_g)
    slope = (log_g[-1] - log_g[-2]) / (nodes[-1] - nodes[-2])
    nodes, log_g = np.append(nodes, 200.0), np.append(log_g, log_g[-1] + slope * (200.0 - nodes[-1]))
    angles, radii = source.anisotropy_theta_deg, source.anisotropy_r_cm
    f = angles, np.arange(len(angles)), radii, np.arange(len(radii)), source.anisotropy_F
    return constant, source.active_length_cm, (source.capsule_diameter_mm / 20) ** 2, nodes, log_g, f


def rate_2d(tables, r2, along, across, r, where):
    """Rate of a unit seed from r^2 and the distance along its axis; all arrays are there and are written over."""
    constant, length, least, nodes, log_g, (angles, angle_index, radii, radius_index, table) = tables
    np.maximum(r2, least, out=r2)
    np.sqrt(r2, out=r)
    np.abs(along, out=along)
    np.multiply(along, along, out=across)
    np.subtract(r2, across, out=across)
    np.maximum(across, 1e-12, out=across)
    np.sqrt(across, out=across)
    where[0] = np.interp(np.degrees(np.arctan2(across, along)), angles, angle_index)
    where[1] = np.interp(r, radii, radius_index)
    rate = np.exp(np.interp(r, nodes, log_g))
    rate *= map_coordinates(table, where, order=1, mode="nearest")
    across *= length
    r2 -= 0.25 * length * length
    rate *= np.arctan2(across, r2)
    rate /= across
    rate *= constant
    return rate


def dose_2d(source, seeds, axes, strength, x, y, z):
    """Eq. (1) of TG-43U1: G_L by arcs, ln g by np.interp, F by map_coordinates; without the rule for the capsule."""
    tables, shape = line_tables(source), (len(y), len(x))
    out = np.zeros((len(z), *shape))
    r2, r, along, across, where = (np.empty((*n, *shape)) for n in ((), (), (), (), (2,)))
    for k, plane in enumerate(out):
        for seed, axis, weight in zip(seeds, axes, strength, strict=True):
            squared_distance(x, y, z[k] - seed[2], seed, r2)
            along[...] = ((x - seed[0]) * axis[0])[None, :]
            along += ((y - seed[1]) * axis[1] + (z[k] - seed[2]) * axis[2])[:, None]
            rate = rate_2d(tables, r2, along, across, r, where)
            rate *= weight
            plane += rate
    return out


def influence_2d(source, points, seeds, axis):
    """Rows of unit seeds at points, float32; as `dose_2d`."""
    tables, shape = line_tables(source), (len(points),)
    x, y, z = np.ascontiguousarray(points.T)
    out = np.empty((len(seeds), len(points)), dtype=np.float32)
    r2, r, along, across, where = (np.empty((*n, *shape)) for n in ((), (), (), (), (2,)))
    for row, seed in zip(out, seeds, strict=True):
        r2[...] = 0.0
        along[...] = 0.0
        for values, place, part in zip((x, y, z), seed, axis, strict=True):
            np.subtract(values, place, out=across)
            np.multiply(across, part, out=r)
            along += r
            across *= across
            r2 += across
        row[...] = rate_2d(tables, r2, along, across, r, where)
    return out
