"""Coverage of a target: cold spots, the most useful place of a further seed, dose by sector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.model import DoseModel
from brachy.dosimetry.tg43 import dose
from brachy.errors import UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.patient.records import vector
from brachy.patient.roles import SOFT_OBSTACLES
from brachy.patient.target import Target
from brachy.postimplant.record import ColdSpot, ColdSpots, FurtherSeed, SectorRow, SeedPlace

Float = NDArray[np.float64]

MOST_VOXELS = 60_000
"""Voxels of a target's lattice; it is never finer than `FINEST_MM` (engineering choice)."""
FINEST_MM = 1.0

SMALLEST_SPOT_CC = 0.02
"""A cold spot below this is counted in the total and not listed (engineering choice: 20 voxels of 1 mm)."""
MOST_SPOTS = 10

PLACES = 1500
"""Places tried for a further seed (engineering choice)."""

SEED_SPACING_MM = 5.0
"""Least distance of a further seed to the others, as of the planning rules (DESIGN: two seed centres 5 mm apart)."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """A target on a lattice: places, volumes and dose of its voxels.

    Parameters
    ----------
    grid : Grid
        The lattice round the target.
    share : (nz, ny, nx) array
        Share of each voxel inside.
    gy : (nz, ny, nx) array
        Dose, evaluated from the seeds.
    """

    grid: Grid
    share: NDArray[np.float32]
    gy: Float

    @property
    def cell_cc(self) -> Float:
        """Volume of each inside voxel, cc, (n,), z slowest."""
        return np.asarray(self.share[self.share > 0], dtype=np.float64) * self.grid.voxel_cc

    @property
    def points_mm(self) -> Float:
        """Centres (n, 3) of the same voxels, mm."""
        z, y, x = np.nonzero(self.share > 0)
        return self.grid.index_to_mm(np.stack([x, y, z], axis=1))

    @property
    def dose_gy(self) -> Float:
        """Their dose (n,), Gy."""
        return np.asarray(self.gy[self.share > 0])


def sampled(target: Structure, model: DoseModel, most: int = MOST_VOXELS) -> Sampled:
    """A target on a lattice of at most about `most` voxels, with its dose."""
    step = float(f"{max(FINEST_MM, (1000.0 * target.volume_cc / most) ** (1 / 3)):.3g}")
    low, high = target.bounds_mm
    # voxels meet at the centre of mass, where sectors meet: none is shared by two
    middle = target.centroid_mm
    first = middle - step * (np.ceil((middle - low) / step) - 0.5)
    grid = Grid.around(first, np.maximum(high, first), step)
    share = target.fraction_mask(grid)
    gy = np.zeros(grid.shape)
    inside = share > 0
    z, y, x = np.nonzero(inside)
    gy[inside] = model.at(grid.index_to_mm(np.stack([x, y, z], axis=1)))
    return Sampled(grid, share, gy)


def dose_to(cells_gy: Float, cell_cc: Float, percent: float) -> float:
    """Dose that the hottest `percent` of the volume gets at least; NaN without volume.

    Examples
    --------
    >>> round(dose_to(np.array([10.0, 20, 30, 40]), np.ones(4), 50), 6)
    25.0
    """
    if not len(cells_gy):
        return float("nan")
    order = np.argsort(-cells_gy, kind="stable")
    gy, cc = cells_gy[order], cell_cc[order]
    middle = np.cumsum(cc) - 0.5 * cc
    return float(np.interp(percent / 100.0 * cc.sum(), middle, gy))


def is_prostate(name: str) -> bool:
    """Whether a target's name is that of a prostate, which has 12 sectors.

    Examples
    --------
    >>> is_prostate("Prostate"), is_prostate("GTV")
    (True, False)
    """
    return "prostat" in name.casefold()


def sector_names(
    points_mm: Float, target: Structure, kind: str = "auto"
) -> tuple[list[str], NDArray[np.int64]]:
    """Names of a target's sectors, and the sector (n,) of each point.

    Parameters
    ----------
    points_mm : (n, 3) array
        Patient frame (LPS), mm.
    target : Structure
        Sectors meet at its centre of mass.
    kind : {"auto", "octants", "prostate"}
        Octants: right/left, anterior/posterior, inferior/superior. Prostate: 12 sectors, the four quadrants of base,
        midgland and apex, each a third of the length from head to foot.

    Raises
    ------
    UsageError
        If the kind is unknown.

    References
    ----------
    Bice et al., Int. J. Radiat. Oncol. Biol. Phys. 51, 1265 (2001): quadrants of base, midgland and apex.
    """
    points = np.asarray(points_mm, dtype=np.float64).reshape(-1, 3)
    if kind == "auto":
        kind = "prostate" if is_prostate(target.name) else "octants"
    middle = target.centroid_mm
    left = (points[:, 0] >= middle[0]).astype(np.int64)
    posterior = (points[:, 1] >= middle[1]).astype(np.int64)
    sides = ("right", "left")
    depths = ("anterior", "posterior")
    if kind == "octants":
        heights: tuple[str, ...] = ("inferior", "superior")
        level = (points[:, 2] >= middle[2]).astype(np.int64)
    elif kind == "prostate":
        heights = ("apex", "midgland", "base")
        low, high = target.bounds_mm[:, 2]
        level = np.clip(np.floor(3.0 * (points[:, 2] - low) / max(high - low, 1e-9)), 0, 2).astype(np.int64)
    else:
        raise UsageError(f"sectors '{kind}': choose auto, octants or prostate")
    names = [f"{side} {depth} {height}" for height in heights for depth in depths for side in sides]
    return names, 4 * level + 2 * posterior + left


def sector_table(cells: Sampled, target: Target, kind: str = "auto") -> tuple[SectorRow, ...]:
    """Volume, D90, V100 and least dose of each sector of a target."""
    names, of = sector_names(cells.points_mm, target.structure, kind)
    gy, cc = cells.dose_gy, cells.cell_cc
    rows = []
    for index, name in enumerate(names):
        mine = of == index
        volume = float(cc[mine].sum())
        if volume <= 0:
            rows.append(SectorRow(sector=name, volume_cc=volume))
            continue
        rows.append(
            SectorRow(
                sector=name,
                volume_cc=volume,
                D90_gy=dose_to(gy[mine], cc[mine], 90),
                V100_pct=100.0 * float(cc[mine & (gy >= target.prescription_gy)].sum()) / volume,
                min_gy=float(gy[mine].min()),
            )
        )
    return tuple(rows)


def cold_spots(cells: Sampled, target: Target, kind: str = "auto") -> ColdSpots:
    """Parts of a target below its prescription: whole volume, and the largest connected parts, the largest first."""
    from scipy import ndimage

    cold = (cells.share > 0) & (cells.gy < target.prescription_gy)
    labels, count = ndimage.label(cold, np.ones((3, 3, 3), dtype=bool))
    spots = []
    for label in range(1, count + 1):
        z, y, x = np.nonzero(labels == label)
        share = cells.share[z, y, x].astype(np.float64)
        points = cells.grid.index_to_mm(np.stack([x, y, z], axis=1))
        gy = cells.gy[z, y, x]
        centre = (share[:, None] * points).sum(axis=0) / share.sum()
        names, of = sector_names(points, target.structure, kind)
        main = int(np.bincount(of, weights=share).argmax())  # a shell's centre lies in none of it
        spots.append(
            ColdSpot(
                volume_cc=float(share.sum()) * cells.grid.voxel_cc,
                centre_mm=vector(centre),
                sector=names[main],
                min_gy=float(gy.min()),
                min_at_mm=vector(points[int(gy.argmin())]),
                extent_mm=vector(np.ptp(points, axis=0) + cells.grid.spacing_mm),
            )
        )
    spots.sort(key=lambda spot: -spot.volume_cc)
    listed = [spot for spot in spots if spot.volume_cc >= SMALLEST_SPOT_CC][:MOST_SPOTS]
    total = float(cells.share[cold].sum()) * cells.grid.voxel_cc
    return ColdSpots(volume_cc=total, count=count, spots=tuple(listed))


def further_seed(
    cells: Sampled,
    target: Target,
    implants: Sequence[Implant],
    forbidden: Sequence[Structure] = (),
    kind: str = "auto",
) -> FurtherSeed | None:
    """Place in the target where one more seed of the same kind lifts most of the cold volume to the prescription.

    Parameters
    ----------
    cells : Sampled
        The target and its dose.
    implants : sequence of Implant
        Seeds that are there; the further one is like the first of the largest implant.
    forbidden : sequence of Structure
        No seed in these (vessels and the like).

    Returns
    -------
    FurtherSeed or None
        None where nothing is cold or no place is 5 mm from every seed. The places tried are lattice points, at most
        1500.
    """
    from scipy.spatial import cKDTree

    points, gy, cc = cells.points_mm, cells.dose_gy, cells.cell_cc
    cold = gy < target.prescription_gy
    if not cold.any():
        return None
    model = max(implants, key=len)
    seeds = np.vstack([implant.positions_mm for implant in implants])
    apart = np.asarray(cKDTree(seeds).query(points)[0])
    to_cold = np.asarray(cKDTree(points[cold]).query(points)[0])
    free: NDArray[np.bool_] = (apart >= SEED_SPACING_MM) & (to_cold <= 20.0)
    for structure in forbidden:
        if free.any() and not structure.is_empty:
            inside = np.zeros(len(points), dtype=bool)
            inside[free] = structure.contains(points[free])
            free &= ~inside
    places = points[free]
    if not len(places):
        return None
    places = places[:: max(1, len(places) // PLACES)]
    strength = float(model.strength_U[0])
    at_radius = np.arange(0.0, 60.0, 0.25)
    line = np.column_stack([at_radius, np.zeros_like(at_radius), np.zeros_like(at_radius)])
    one = Implant(model.source, [[0, 0, 0]], strength_U=strength, half_life_days=model.half_life_days)
    radial = dose(line, one, formalism="1D", method="exact")
    short, weight = target.prescription_gy - gy[cold], cc[cold]
    cold_points = points[cold]
    best, best_value = 0, (-1.0, -1.0)
    for k, place in enumerate(places):
        added = np.interp(np.linalg.norm(cold_points - place, axis=1), at_radius, radial)
        lifted = float(weight[added >= short].sum())
        value = (lifted, float((weight * np.minimum(added, short)).sum()))
        if value > best_value:
            best, best_value = k, value
    place = places[best]
    after = gy + np.asarray(
        dose(points, Implant(model.source, [place], strength_U=strength, half_life_days=model.half_life_days))
    )
    names, of = sector_names(place, target.structure, kind)
    total = float(cc.sum())
    v100 = [100.0 * float(cc[dosed >= target.prescription_gy].sum()) / total for dosed in (gy, after)]
    return FurtherSeed(
        position_mm=vector(place),
        sector=names[int(of[0])],
        strength_U=strength,
        lifted_cc=float(cc[cold & (after >= target.prescription_gy)].sum()),
        V100_pct=(v100[0], v100[1]),
        D90_gy=(dose_to(gy, cc, 90), dose_to(after, cc, 90)),
    )


def places_of(
    positions_mm: Float, targets: Sequence[Structure], structures: Sequence[Structure], margin_mm: float
) -> tuple[SeedPlace, ...]:
    """Where each seed lies: distance outside the nearest target, and which vessel, lung or other organ holds it."""
    away = np.array([target.distance_mm(positions_mm) for target in targets]).reshape(len(targets), -1)
    nearest = away.argmin(axis=0)
    holders = [s for s in structures if s.role in SOFT_OBSTACLES and not s.is_empty]
    held = {s.name: s.contains(positions_mm) for s in holders}
    outlines = [s for s in structures if s.role == "external" and not s.is_empty]
    outside = np.zeros(len(positions_mm), dtype=bool)
    for outline in outlines[:1]:
        outside = ~outline.contains(positions_mm)
    found = []
    for k in range(len(positions_mm)):
        distance = float(away[nearest[k], k])
        found.append(
            SeedPlace(
                target=targets[int(nearest[k])].name,
                outside_mm=distance,
                beyond_margin=distance > margin_mm,
                organs={s.name: s.role for s in holders if held[s.name][k]},
                beyond_patient=bool(outside[k]),
            )
        )
    return tuple(found)
