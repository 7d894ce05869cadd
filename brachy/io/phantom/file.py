"""Digital phantoms: makes a case (CT in HU, exact contours) and its declared seeds from a file phantoms/*.toml.

A phantom is a list of structures made of solids (`brachy.io.phantom.solids`), drawn into the CT in that order with
partial volume. Contours are computed from the solids themselves on every slice, not from the image. docs/phantoms.md
describes the file.
"""

import datetime
import hashlib
import math
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from brachy import resources
from brachy.core.threads import side_by_side
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source
from brachy.errors import UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.io.phantom.metal import Metal, add_seeds
from brachy.io.phantom.solids import Length, Number, Shape, Triple, voxel_share
from brachy.messages import first_problem
from brachy.needles.template import needle_direction
from brachy.patient.case import Case, Identity, InputFile
from brachy.patient.uids import uid
from brachy.units import strength_from_mci

Float = NDArray[np.float64]
Hounsfield = Annotated[float, Field(ge=-1024, le=30000, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=2, le=2000)]
MOST_VOXELS = 64_000_000
MOST_SEEDS = 500


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scan(_Table):
    """Geometry and noise of the CT."""

    first_voxel_mm: Triple = Field(description="centre of the first voxel: x, y, z")
    spacing_mm: tuple[Length, Length, Length]
    voxels: tuple[Count, Count, Count] = Field(description="number along x, y, z")
    ct_date: datetime.date = Field(description="date of the CT; strengths are counted from it")
    background_hu: Hounsfield = Field(-1000.0, description="where nothing is painted, HU")
    supersample: int = Field(3, ge=1, le=8, description="samples of a mixed voxel along each axis")
    noise_hu: float = Field(0.0, ge=0, le=200, description="standard deviation of white noise, HU")
    noise_seed: int = Field(0, ge=0, description="of the noise; the same seed gives the same CT")

    @model_validator(mode="after")
    def _bounded(self) -> "Scan":
        if math.prod(self.voxels) > MOST_VOXELS:
            raise ValueError(f"voxels: more than {MOST_VOXELS // 10**6} million in all")
        return self


class Part(_Table):
    """A structure: name, type, CT number, and the solids that it is made of."""

    name: str = Field(min_length=1, max_length=64)
    type: str = Field("ORGAN", description="RT ROI Interpreted Type (PS3.3 C.8.8.8)")
    hu: Hounsfield | None = Field(None, description="CT number inside; None: contoured, not painted")
    contoured: bool = Field(True, description="False: painted only")
    colour: tuple[int, int, int] | None = Field(None, description="display colour, 0-255")
    shapes: tuple[Shape, ...] = Field(min_length=1, description="solids apart from each other")


class SeedNeedle(_Table):
    """A row of seeds along a needle."""

    first_mm: Triple = Field(description="centre of the most distal seed")
    azimuth_deg: Number = Field(description="direction of insertion, as for `brachy plan --direction`")
    tilt_deg: Number = 0.0
    steps: tuple[Annotated[int, Field(le=1000)], ...] = Field(
        (0,), min_length=1, description="places that hold a seed, in steps from the first"
    )
    step_mm: Length = Field(5.0, description="distance of neighbouring places")

    @model_validator(mode="after")
    def _rising(self) -> "SeedNeedle":
        if list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 0:
            raise ValueError("steps must be 0 or more and rise")
        return self


class Placement(_Table):
    """Random errors of the placed seeds relative to the planned ones, and missing seeds."""

    shift_sd_mm: float = Field(0.0, ge=0, le=20, description="standard deviation along each axis, mm")
    tilt_sd_deg: float = Field(0.0, ge=0, le=60, description="standard deviation of the axis's tilt, degrees")
    missing: tuple[int, ...] = Field((), description="planned seeds (counted from 0) that were not placed")
    seed: int = Field(0, ge=0, description="of the random numbers")


class Seeds(_Table):
    """Implanted seeds: model, strength, needles, placement errors, and their appearance on the CT."""

    source: str = Field(description="name of a shipped source model, or a .toml file")
    activity_mCi: Length | None = Field(None, description="apparent activity of one seed, mCi; or strength_U")
    strength_U: Length | None = Field(None, description="air-kerma strength of one seed, U")
    needles: tuple[SeedNeedle, ...] = Field(min_length=1)
    placement: Placement = Placement()
    metal: Metal | None = Field(None, description="how they look on the CT; None: they are not painted")

    @model_validator(mode="after")
    def _numbered(self) -> "Seeds":
        if (self.activity_mCi is None) == (self.strength_U is None):
            raise ValueError("give either activity_mCi or strength_U")
        count = sum(len(needle.steps) for needle in self.needles)
        if count > MOST_SEEDS:
            raise ValueError(f"needles: more than {MOST_SEEDS} seeds")
        if any(not 0 <= index < count for index in self.placement.missing):
            raise ValueError(f"placement.missing names a seed outside 0-{count - 1}")
        if len(self.placement.missing) >= count:
            raise ValueError("placement.missing leaves no seed")
        return self


class Phantom(_Table):
    """Contents of a phantom file."""

    name: str = Field(min_length=1, max_length=48, pattern=r"^[A-Za-z0-9._-]+$")
    title: str = ""
    scan: Scan
    structures: tuple[Part, ...] = Field(min_length=1)
    seeds: Seeds | None = None

    @model_validator(mode="after")
    def _unique(self) -> "Phantom":
        names = [part.name for part in self.structures]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"structures has '{name}' twice: give each its own name")
        return self


@dataclass(frozen=True, eq=False)
class PhantomSeeds:
    """The seeds of a phantom.

    Parameters
    ----------
    planned : Implant
        As listed in the file.
    placed : Implant
        As they lie and are seen on the CT: the truth for a finder.
    planned_of : (n,) array
        Index of each placed seed among the planned.
    """

    planned: Implant
    placed: Implant
    planned_of: NDArray[np.int64]


def load_phantom(name: str | Path) -> Case:
    """Case of a shipped phantom, or of a phantom file.

    Parameters
    ----------
    name : str or Path
        Name of a shipped phantom, or path of a .toml file.

    Returns
    -------
    Case
        CT (int16, HU), structures with their RT ROI Interpreted Type and without roles, and an artificial identity
        that depends only on the content of the file. Patient frame (LPS), mm.

    Raises
    ------
    UsageError
        If there is no such phantom or its file is not valid; the message names the field.

    Examples
    --------
    >>> case = load_phantom("sphere-35mm")
    >>> round(case.structure("GTV").volume_cc, 1), case.identity.patient_id
    (22.4, 'PHANTOM-sphere-35mm')
    """
    phantom, content, file = _read(name)
    scan = phantom.scan
    grid = _grid(scan)
    volume = np.full(grid.shape, scan.background_hu)

    def outline() -> tuple[Structure, ...]:
        return tuple(
            _structure(part, index + 1, grid, file)
            for index, part in enumerate(phantom.structures)
            if part.contoured
        )

    def paint() -> tuple[Structure, ...]:
        for part in phantom.structures:
            if part.hu is None:
                continue
            for shape in part.shapes:
                found = voxel_share(shape, grid, scan.supersample)
                if found is not None:
                    where, share = found
                    volume[where] += share * (part.hu - volume[where])
        return ()

    structures, _ = side_by_side([outline, paint])
    if phantom.seeds is not None and phantom.seeds.metal is not None:
        placed = _seeds(phantom.seeds).placed
        capsule = placed.source.capsule_length_mm, placed.source.capsule_diameter_mm
        assert placed.axes is not None
        volume = add_seeds(volume, grid, placed.positions_mm, placed.axes, *capsule, phantom.seeds.metal)
    if scan.noise_hu > 0:
        rng = np.random.default_rng(scan.noise_seed)
        for plane in volume:
            plane += rng.normal(0.0, scan.noise_hu, plane.shape)
    ceiling = (
        3071.0 if phantom.seeds is None or phantom.seeds.metal is None else phantom.seeds.metal.ceiling_hu
    )
    ct = np.clip(np.round(volume), -1024, min(max(ceiling, scan.background_hu), 32767)).astype(np.int16)
    return Case(ct, grid, structures, _identity(phantom, content), (InputFile(file, content),))


def phantom_seeds(name: str | Path) -> PhantomSeeds:
    """Planned and placed seeds of a phantom that declares seeds.

    Raises
    ------
    UsageError
        If it declares none, and as `load_phantom`.

    Examples
    --------
    >>> seeds = phantom_seeds("single-seed-water")
    >>> seeds.placed.positions_mm.tolist(), seeds.placed.strength_U.tolist()
    ([[0.0, 0.0, 0.0]], [1.0])
    """
    phantom, _, file = _read(name)
    if phantom.seeds is None:
        raise UsageError(f"phantom {file} declares no seeds: add a [seeds] table (docs/phantoms.md)")
    return _seeds(phantom.seeds)


def _read(name: str | Path) -> tuple[Phantom, str, str]:
    """Phantom, SHA-256 of its file, and the file's name."""
    path = resources.find("phantoms", str(name))
    what = f"phantom {path.name}"
    content = resources.read_bounded(path, what)
    data = resources.toml_of(content, what)
    try:
        phantom = Phantom.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"phantom {path.name}: {first_problem(error)}") from None
    return phantom, hashlib.sha256(content).hexdigest(), path.name


def _grid(scan: Scan) -> Grid:
    nx, ny, nz = scan.voxels
    return Grid(scan.first_voxel_mm, scan.spacing_mm, (nz, ny, nx))


def _structure(part: Part, number: int, grid: Grid, file: str) -> Structure:
    """Exact contours of a structure on the slices of the CT."""
    contours = []
    heights = (grid.origin_mm[2] + grid.spacing_mm[2] * np.arange(grid.shape[0])).tolist()
    sections = [shape.sections(heights) for shape in part.shapes]
    for k, height in enumerate(heights):
        cuts = [of_shape[k] for of_shape in sections]
        for (one, cut), (other, cut_other) in combinations(enumerate(cuts), 2):
            # contours combine by the even-odd rule, which would make a hole where two solids overlap
            if _meet(part.shapes[other], cut, height) or _meet(part.shapes[one], cut_other, height):
                raise UsageError(
                    f"phantom {file}: shapes of structure '{part.name}' overlap: give each its own"
                )
        contours += [np.column_stack([c, np.full(len(c), height)]) for cut in cuts for c in cut]
    if not contours:
        raise UsageError(
            f"phantom {file}: structure '{part.name}' lies on no slice of the CT: move it or the scan"
        )
    return Structure(
        part.name,
        tuple(contours),
        interpreted_type=part.type,
        number=number,
        colour=part.colour,
        slice_spacing_mm=float(grid.spacing_mm[2]),
    )


def _meet(shape: Shape, outlines: list[Float], height_mm: float) -> bool:
    """Whether any corner of the outlines at a height lies in a solid."""
    low, high = shape.bounds_mm
    for outline in outlines:
        near = (outline.min(axis=0) <= high[:2]).all() and (outline.max(axis=0) >= low[:2]).all()
        near = near and low[2] <= height_mm <= high[2]
        if near and shape.contains(outline[:, 0], outline[:, 1], np.array(height_mm)).any():
            return True
    return False


def _seeds(seeds: Seeds) -> PhantomSeeds:
    source = load_source(seeds.source, accept_unverified=True)
    positions, axes = [], []
    for needle in seeds.needles:
        direction = needle_direction(needle.azimuth_deg, needle.tilt_deg)
        for step in needle.steps:
            positions.append(np.asarray(needle.first_mm) - step * needle.step_mm * direction)
            axes.append(direction)
    strength = seeds.strength_U or strength_from_mci(seeds.activity_mCi or 0.0)
    planned = Implant(source, positions, axes, strength_U=strength)
    rng = np.random.default_rng(seeds.placement.seed)
    shift = rng.normal(0.0, 1.0, (len(planned), 3)) * seeds.placement.shift_sd_mm
    # a tilt by t about a random axis perpendicular to the seed moves the tip of its unit axis by at most tan t
    lean = rng.normal(0.0, 1.0, (len(planned), 3)) * np.tan(np.radians(seeds.placement.tilt_sd_deg))
    kept = np.array([i for i in range(len(planned)) if i not in seeds.placement.missing])
    placed = Implant(
        source,
        (planned.positions_mm + shift)[kept],
        (np.array(axes) + lean)[kept],
        strength_U=strength,
    )
    return PhantomSeeds(planned, placed, kept)


def _identity(phantom: Phantom, content: str) -> Identity:
    """An artificial patient; every identifier is derived from the content of the file."""
    day = phantom.scan.ct_date.strftime("%Y%m%d")
    return Identity(
        patient_id=f"PHANTOM-{phantom.name}",
        patient_name=f"Phantom^{phantom.name}",
        study_uid=uid("phantom study", content),
        study_id=content[:8].upper(),
        study_date=day,
        study_time="000000",
        frame_of_reference_uid=uid("phantom frame", content),
        ct_series_uid=uid("phantom CT", content),
        structure_set_uid=uid("phantom structures", content),
        patient_position="HFS",
        ct_date=phantom.scan.ct_date,
    )
