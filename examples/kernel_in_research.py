"""A research question answered inside one's own compiled code: how far does D90 fall if every seed shifts at random?

The kernels of `brachy.core.tg43` can be called from numba code: here `influence_rows`, once for each sample, so that
nothing returns to Python between them. Lengths are cm there; a weight is strength times what turns cGy/h into Gy.
"""

import numpy as np
from numba import njit

import brachy
from brachy.core.tg43 import influence_rows
from brachy.dosimetry.tg43 import dose_table
from brachy.units import total_dose_hours


@njit
def d90_of_shifted_implants(x, y, z, seeds, axes, weight, table, sd_cm, samples, generator):
    """Dose that the hottest 90 % of the points receive, Gy, in each sample."""
    rows = np.empty((len(seeds), len(x)), np.float32)
    found = np.empty(samples)
    for sample in range(samples):
        shift = generator.normal(0.0, sd_cm, seeds.shape).astype(np.float32)
        influence_rows(x, y, z, seeds + shift, axes, weight, table, rows)
        total = np.zeros(len(x), np.float32)
        for row in rows:
            total += row
        found[sample] = np.percentile(total, 10)
    return found


def main(samples: int = 200) -> np.ndarray:
    """D90 of seeds of 0.5 U on a 10 mm lattice in a ball of 20 mm radius: as planned, and shifted by 2 mm (SD)."""
    source = brachy.load_source("amersham_6711")
    lattice = np.stack(np.meshgrid(*3 * [np.arange(-20.0, 21.0, 10.0)], indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    seeds = lattice[np.linalg.norm(lattice, axis=1) <= 20.0]
    generator = np.random.default_rng(2)
    points = generator.uniform(-20, 20, (4000, 3))
    points = points[np.linalg.norm(points, axis=1) <= 20.0]

    hours = total_dose_hours(source.half_life_days)
    single = np.float32
    x, y, z = np.ascontiguousarray(points.T / 10, single)
    arguments = (
        np.ascontiguousarray(seeds / 10, single),
        np.tile(np.array([0, 0, 1], single), (len(seeds), 1)),
        np.full(len(seeds), 0.5 * hours * 0.01, single),
        dose_table(source, "2D"),
    )
    planned = d90_of_shifted_implants(x, y, z, *arguments, 0.0, 1, generator)[0]
    shifted = d90_of_shifted_implants(x, y, z, *arguments, 0.2, samples, generator)
    low, high = np.percentile(shifted, [2.5, 97.5])
    print(f"{len(seeds)} seeds: D90 {planned:.1f} Gy as planned")
    print(f"each shifted by 2 mm (SD): {shifted.mean():.1f} Gy, 95 % of samples {low:.1f} to {high:.1f}")
    return np.append(planned, shifted)


if __name__ == "__main__":
    main()
