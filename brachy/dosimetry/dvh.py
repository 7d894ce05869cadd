"""Dose-volume histogram of an implant, or of a dose that was read.

The dose of a known implant is evaluated from the seeds at every sample, never interpolated; only a dose
that was read from elsewhere is interpolated, trilinearly, and the result says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.core import histogram
from brachy.dosimetry.implant import Implant, seeds_mm
from brachy.dosimetry.metrics import DVH
from brachy.dosimetry.model import DoseModel, dose_model
from brachy.dosimetry.sampling import ORGAN_REACH, REACH, Lattice, lattice_for, sample
from brachy.geometry.grid import Dose, Grid
from brachy.geometry.structures import Structure
from brachy.units import I125_HALF_LIFE_DAYS

Float = NDArray[np.float64]
DoseAt = Callable[[Float], Float]

FIRST_SAMPLES = 30_000
"""Samples of the first lattice; each further one has twice as many (engineering choice)."""

MOST_SAMPLES = 500_000
"""No lattice has many more samples than this; where it is reached, the uncertainty says what is left."""

SETTLED_DOSE = 1e-3
"""D90 has stopped moving when it changes by less than this part of itself or of the prescription."""

SETTLED_VOLUME_PCT = 0.1
"""Volumes have stopped moving when none changes by more than this part of the structure's, in percent."""

ORGAN_FIRST_SAMPLES, ORGAN_MOST_SAMPLES = 20_000, 160_000
"""The same for a structure that is no target (engineering choice)."""

ORGAN_SETTLED = 1e-2
"""D2cc, mean and volumes of an organ have stopped moving when they change by less than this part of themselves."""

EXACT_PAIRS = 100_000
"""With more pairs of seed and sample the dose is summed from tables, within 0.1 % outside the capsules; fewer than for
a dose alone, since a histogram takes the dose on several lattices (engineering choice)."""

VARIANT_SAMPLES = 12_000
"""Samples of each other shape that the same contours allow."""


def dvh(
    dose_or_implants: Dose | Implant | Sequence[Implant],
    structure: Structure,
    *,
    formalism: str = "1D",
    days: float | None = None,
    sampling: float | None = None,
    prescription_gy: float | None = None,
    organ: bool = False,
) -> DVH:
    """Dose-volume histogram of one structure.

    Parameters
    ----------
    dose_or_implants : Dose, Implant or sequence of Implant
        Seeds, whose dose is evaluated at each sample; or a dose on a grid, which is interpolated
        trilinearly. What lies outside that grid counts as 0 Gy (`no_dose_fraction`).
    structure : Structure
        Region.
    formalism : {"1D", "2D"}
        Of the seeds.
    days : float, optional
        Dose delivered in so many days; to complete decay by default.
    sampling : float, optional
        Width of all cells, mm. By default the lattice is refined until D90 and the volumes at or above D2, D10, D50,
        D90, D98 (and the prescription, if given) stop moving.
    prescription_gy : float, optional
        Its V100 must have settled too, and D90 need not settle to less than 0.1 % of it.
    organ : bool
        Refine only until D2cc (up to twice the prescription), the mean and the volumes at or above 10, 50 and 100 %
        of the prescription stop moving by 1 %: enough for a structure that is no target, and quick for a large one.

    Returns
    -------
    DVH
        With `.D(percent)`, `.D_cc(cc)`, `.V(gy)`, `.volume_cc`, `.uncertainty(name)`. The error of the
        slices, within the uncertainty, comes from six more histograms of other shapes that the same
        contours allow: every second contour left out, and the ends half a slice farther out or in.

    Examples
    --------
    >>> from brachy.dosimetry.implant import Implant
    >>> from brachy.dosimetry.source import load_source
    >>> angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    >>> ring = 10 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    >>> disc = Structure("disc", [ring + [0, 0, z] for z in (-2, 0, 2)])
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], strength_U=1.0)
    >>> found = dvh(seed, disc)
    >>> bool(found.min_gy < found.D(90) < found.mean_gy < found.max_gy)
    True
    """
    if isinstance(dose_or_implants, Dose):
        source: DoseModel | Dose = dose_or_implants
    else:
        source = dose_model(dose_or_implants, formalism, days)
    return histogram_of(source, structure, sampling=sampling, prescription_gy=prescription_gy, organ=organ)


def histogram_of(
    dose: DoseModel | Dose,
    structure: Structure,
    *,
    sampling: float | None = None,
    prescription_gy: float | None = None,
    organ: bool = False,
) -> DVH:
    """Dose-volume histogram of one structure under a dose model, or in a dose that was read.

    Parameters
    ----------
    dose : DoseModel or Dose
        A model is evaluated at each sample; a dose on a grid is interpolated.
    structure, sampling, prescription_gy, organ
        As `dvh` takes them.

    Examples
    --------
    >>> from brachy.dosimetry.implant import Implant
    >>> from brachy.dosimetry.source import load_source
    >>> square = np.array([[-5.0, -5, 0], [5, -5, 0], [5, 5, 0], [-5, 5, 0]])
    >>> box = Structure("box", [square + [0, 0, z] for z in (-4, -2, 0, 2, 4)])
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], strength_U=1.0)
    >>> histogram_of(dose_model(seed), box).D(90) == dvh(seed, box).D(90)
    True
    """
    base: dict[str, Any] = {"structure_notes": structure.notes}  # keywords of DVH
    if isinstance(dose, Dose):
        seeds, dose_at = None, cast(DoseAt, partial(interpolated, dose))
        base |= {"half_life_days": I125_HALF_LIFE_DAYS, "formalism": "", "interpolated": True}
    else:
        seeds, dose_at = seeds_mm(dose.implants), for_samples(dose).at
        base |= {"half_life_days": _half_life(dose), "formalism": dose.formalism}
    if sampling is not None or structure.is_empty:
        result = _histogram(structure, seeds, dose_at, Lattice(sampling or 1.0, sampling or 1.0), base)
    else:
        result = _settled(structure, seeds, dose_at, prescription_gy, organ, base)

    def other_shapes() -> tuple[DVH, ...]:
        return tuple(
            _histogram(other, seeds, dose_at, lattice_for(other, seeds, VARIANT_SAMPLES), base)
            for other in _other_shapes(structure)
        )

    return replace(result, other_shapes=other_shapes)


def _settled(
    structure: Structure,
    seeds: Float | None,
    dose_at: DoseAt,
    prescription_gy: float | None,
    organ: bool,
    base: Mapping[str, Any],
) -> DVH:
    """Histogram on lattices of twice as many samples each, until nothing moves."""
    count, most = (ORGAN_FIRST_SAMPLES, ORGAN_MOST_SAMPLES) if organ else (FIRST_SAMPLES, MOST_SAMPLES)
    still = _organ_still if organ else _target_still
    reach = ORGAN_REACH if organ else REACH
    before = _histogram(structure, seeds, dose_at, lattice_for(structure, seeds, count, reach), base)
    while True:
        count *= 2
        now = _histogram(structure, seeds, dose_at, lattice_for(structure, seeds, count, reach), base)
        now = replace(now, coarser=before)
        if still(before, now, prescription_gy):
            return now
        if 2 * count > most:
            return replace(now, settled=False)
        before = replace(now, coarser=None)


def _target_still(before: DVH, now: DVH, prescription_gy: float | None) -> bool:
    levels = [before.D(percent) for percent in (2, 10, 50, 90, 98)]
    if prescription_gy is not None:
        levels.append(prescription_gy)
    volumes = max(abs(now.V_pct(gy) - before.V_pct(gy)) for gy in levels)
    scale = max(now.D(90), prescription_gy or 0.0)
    return abs(now.D(90) - before.D(90)) <= SETTLED_DOSE * scale and volumes <= SETTLED_VOLUME_PCT


def _organ_still(before: DVH, now: DVH, prescription_gy: float | None) -> bool:
    full = prescription_gy if prescription_gy is not None else before.D(50)
    pairs = [(one.mean_gy, min(one.D_cc(min(2.0, one.volume_cc)), 2.0 * full)) for one in (before, now)]
    doses = all(abs(b - a) <= ORGAN_SETTLED * max(b, 0.01 * full) for a, b in zip(*pairs, strict=True))
    return doses and all(
        abs(now.V(gy) - before.V(gy)) <= ORGAN_SETTLED * now.V(gy) + 2e-4 * now.volume_cc
        for gy in (0.1 * full, 0.5 * full, full)
    )


def _histogram(
    structure: Structure, seeds: Float | None, dose_at: DoseAt, lattice: Lattice, base: Mapping[str, Any]
) -> DVH:
    samples = sample(structure, seeds, lattice)
    gy = dose_at(samples.points_mm)
    known = np.isfinite(gy)
    order = np.argsort(np.where(known, gy, 0.0))
    total = float(samples.cell_cc.sum())
    return DVH(
        roi=structure.name,
        dose_gy=np.where(known, gy, 0.0)[order],
        cell_cc=samples.cell_cc[order],
        volume_cc=structure.volume_cc,
        no_dose_fraction=float(samples.cell_cc[~known].sum()) / total if total else 0.0,
        step_mm=lattice.step_mm,
        widest_mm=lattice.widest_mm,
        **base,
    )


def on_lattice_of(found: DVH, structure: Structure, model: DoseModel) -> DVH:
    """The same structure on the same samples as `found`, under another dose model.

    Examples
    --------
    >>> from brachy.dosimetry.implant import Implant
    >>> from brachy.dosimetry.source import load_source
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], axes=[0, 0, 1], strength_U=1.0)
    >>> square = np.array([[-5.0, -5, 0], [5, -5, 0], [5, 5, 0], [-5, 5, 0]])
    >>> box = Structure("box", [square + [0, 0, z] for z in (-4, -2, 0, 2, 4)])
    >>> one = dvh(seed, box)
    >>> other = on_lattice_of(one, box, dose_model(seed, "2D"))
    >>> one.samples == other.samples, 0.9 < other.mean_gy / one.mean_gy < 1.1
    (True, True)
    """
    lattice = Lattice(found.step_mm, found.widest_mm)
    dose_at = for_samples(model).at
    return _histogram(structure, seeds_mm(model.implants), dose_at, lattice, {"formalism": model.formalism})


def for_samples(model: DoseModel) -> DoseModel:
    """The model as histograms use it: exact up to EXACT_PAIRS pairs of seed and sample.

    Examples
    --------
    >>> for_samples(dose_model([])).exact_pairs == EXACT_PAIRS
    True
    """
    return model.of(model.implants, exact_pairs=EXACT_PAIRS)


def _half_life(model: DoseModel) -> float:
    """Half-life of all seeds, for the BED; NaN where there are several or the dose is not that to complete decay.

    The formula of the BED is for a dose that one half-life delivers to complete decay, and for nothing else.
    """
    half_lives = {implant.half_life_days for implant in model.implants}
    return half_lives.pop() if len(half_lives) == 1 and model.days is None else float("nan")


def _other_shapes(structure: Structure) -> tuple[Structure, ...]:
    """Other shapes that the same contours allow, for the error of the slices.

    Every second contour left out, both ways: what drawing on slices of twice the spacing would have
    changed. And the ends, each between the last contour and a whole slice beyond it: both out, both in, one
    out and one in.
    """
    if structure.is_empty:
        return ()
    planes = structure.planes()
    spacing = structure.slab_stack.spacing
    found = []
    if len(planes) >= 3:
        for start in (0, 1):
            kept = tuple(contour for plane in planes[start::2] for contour in plane.contours_mm)
            found.append(replace(structure, contours_mm=kept, slice_spacing_mm=2.0 * spacing))
    half = 0.5 * spacing * (1.0 if len(planes) > 1 else 0.5)
    for low, high in ((half, half), (-half, -half), (half, -half), (-half, half)):
        found.append(structure.with_ends(low, high))
    return tuple(found)


def interpolated(dose: Dose, points_mm: Float) -> Float:
    """Trilinear dose at points (n, 3), Gy; NaN outside the voxels' edges, constant in their outer half.

    Examples
    --------
    >>> from brachy.geometry.grid import Grid
    >>> ramp = Dose(Grid((0, 0, 0), (2, 2, 2), (1, 1, 2)), np.array([[[0.0, 10.0]]]))
    >>> interpolated(ramp, np.array([[0.5, 0, 0], [2.9, 0, 0], [3.1, 0, 0]]))
    array([ 2.5, 10. ,  nan])
    """
    from scipy.ndimage import map_coordinates

    index = dose.grid.mm_to_index(points_mm)
    found: Float = map_coordinates(
        np.asarray(dose.gy, dtype=np.float64), index[:, ::-1].T, order=1, mode="nearest"
    )
    found[~dose.grid.contains(points_mm)] = np.nan
    return found


class Regions(NamedTuple):
    """Voxels of a grid by the structures they belong to: made once, counted for every dose on that grid."""

    names: tuple[str, ...]
    voxel: NDArray[np.int64]
    """Places, z slowest, of the voxels that belong to any structure."""
    region: NDArray[np.int64]
    """Region of each: a region's voxels belong to the same structures."""
    members: tuple[NDArray[np.int64], ...]
    """For each structure the regions it is made of."""
    regions: int
    voxel_cc: float


def regions_of(structures: Sequence[Structure], grid: Grid) -> Regions:
    """Voxels at least half inside each structure, as regions that do not overlap.

    Examples
    --------
    >>> square = np.array([[-5.0, -5, 0], [5, -5, 0], [5, 5, 0], [-5, 5, 0]])
    >>> outer = Structure("outer", [square + [0, 0, z] for z in (-4, -2, 0, 2, 4)])
    >>> inner = Structure("inner", [0.4 * square + [0, 0, z] for z in (-1, 1)])
    >>> found = regions_of([outer, inner], Grid.around([-8, -8, -8], [8, 8, 8], 2.0))
    >>> found.names, found.regions  # inside outer alone, and inside both
    (('outer', 'inner'), 2)
    """
    held = [structure.fraction_mask(grid).ravel() >= 0.5 for structure in structures]
    voxel = np.flatnonzero(np.any(held, axis=0)) if held else np.zeros(0, dtype=np.int64)
    region = np.zeros(len(voxel), dtype=np.int64)
    table = np.zeros((1, 0), dtype=bool)  # region x structure
    for mask in held:  # split what there is by one structure at a time
        old, region = np.unique(2 * region + mask[voxel], return_inverse=True)
        table = np.column_stack([table[old // 2], old % 2 == 1])
    members = tuple(np.flatnonzero(table[:, s]) for s in range(len(held)))
    names = tuple(structure.name for structure in structures)
    return Regions(names, voxel, region, members, len(table), grid.voxel_cc)


def voxel_curves(gy: ArrayLike, regions: Regions, top_gy: float, bins: int = 4096) -> tuple[Float, Float]:
    """Cumulative histograms of all structures from one dose array, in one pass over its voxels.

    For many doses on one grid (scenarios, live edits), where 1-2 % will do; `dvh` is the exact way.

    Parameters
    ----------
    gy : (nz, ny, nx) array
        Dose on the grid of `regions`, Gy.
    regions : Regions
        From `regions_of`.
    top_gy : float
        Upper edge of the last bin; it takes all above.
    bins : int
        Number of bins.

    Returns
    -------
    (bins,) array
        Lower edge of each bin, Gy.
    (structures, bins) array
        Volume in cc at or above it.

    Examples
    --------
    >>> square = [[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0]]
    >>> grid = Grid((0.5, 0.5, 0), (1, 1, 1), (1, 4, 8))
    >>> held = regions_of([Structure("box", [square], slice_spacing_mm=1.0)], grid)
    >>> edges, volume = voxel_curves(np.full(grid.shape, 7.5), held, 10.0, bins=10)
    >>> round(float(volume[0, 7]), 6), float(volume[0, 8])
    (0.016, 0.0)
    """
    flat = np.ascontiguousarray(gy).ravel()
    counted = histogram.counts(flat, regions.voxel, regions.region, regions.regions, float(top_gy), bins)
    rows = np.array([counted[own].sum(axis=0) for own in regions.members]).reshape(-1, bins)
    volume = rows[:, ::-1].cumsum(axis=1)[:, ::-1] * regions.voxel_cc
    edges: Float = top_gy / bins * np.arange(bins, dtype=np.float64)
    return edges, volume
