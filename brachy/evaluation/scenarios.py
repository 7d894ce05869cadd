"""Scenarios of an implant: seeded random deviations of its needles, seeds and strengths.

A scenario is drawn from its own generator (seed, number), so it is the same whatever runs beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brachy import resources
from brachy.errors import UsageError
from brachy.patient.plan import Plan

Float = NDArray[np.float64]

Spread = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Chance = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NeedleErrors(_Table):
    """Needle through the template, one standard deviation."""

    entry_mm: Spread = Field(0.0, description="of the entry, along each direction across the needle")
    entry_source: str = ""
    tip_mm: Spread = Field(0.0, description="of the tip, along each of three directions")
    tip_source: str = ""
    angle_deg: Spread = Field(0.0, description="turn about the entry, about each direction across the needle")
    angle_source: str = ""
    depth_mm: Spread = Field(0.0, description="along the needle")
    depth_source: str = ""


class TemplateErrors(_Table):
    """Whole template, one standard deviation."""

    shift_mm: Spread = Field(0.0, description="along each axis of the patient")
    shift_source: str = ""
    rotation_deg: Spread = Field(
        0.0, description="about each axis of the patient, round the template's middle"
    )
    rotation_source: str = ""


class SeedErrors(_Table):
    """Each seed; one standard deviation, or a probability."""

    along_mm: Spread = Field(0.0, description="along the needle")
    along_source: str = ""
    across_mm: Spread = Field(0.0, description="along each direction across the needle")
    across_source: str = ""
    lost_probability: Chance = Field(0.0, description="a seed is not there")
    lost_source: str = ""
    migrated_probability: Chance = Field(0.0, description="a seed moves along its needle")
    migrated_source: str = ""
    migration_mm: Spread = Field(0.0, description="standard deviation of that move")
    migration_source: str = ""


class StrengthErrors(_Table):
    """Air-kerma strength, one standard deviation in %."""

    common_pct: Spread = Field(0.0, description="one factor for all seeds")
    common_source: str = ""
    seed_pct: Spread = Field(0.0, description="one factor for each seed")
    seed_source: str = ""


class ContourErrors(_Table):
    """Contours, one standard deviation."""

    target_mm: Spread = Field(0.0, description="the target's surface moves out or in by this, as a whole")
    target_source: str = ""


class Uncertainties(_Table):
    """All of them; a field that is not given is zero.

    Examples
    --------
    >>> load_uncertainties().needle.tip_mm
    3.04
    >>> Uncertainties().needle.tip_mm
    0.0
    """

    needle: NeedleErrors = NeedleErrors()
    template: TemplateErrors = TemplateErrors()
    seed: SeedErrors = SeedErrors()
    strength: StrengthErrors = StrengthErrors()
    contour: ContourErrors = ContourErrors()


def load_uncertainties(path: str | Path | None = None) -> Uncertainties:
    """Uncertainties of a file, or the shipped ones (brachy/data/uncertainty.toml).

    Raises
    ------
    UsageError
        If the file cannot be read, or a number in it is none; names the field.

    Examples
    --------
    >>> load_uncertainties().seed.lost_probability
    0.006
    """
    file = Path(path) if path is not None else resources.data_file("uncertainty.toml")
    if not file.is_file():
        raise UsageError(f"no file {file}: give a TOML file like brachy/data/uncertainty.toml")
    data = resources.toml_of(resources.read_bounded(file, file.name), file.name)
    try:
        return Uncertainties.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{file.name}: {where}: {first['msg']}") from None


@dataclass(frozen=True, eq=False)
class Layout:
    """Seeds of a plan as arrays, needle by needle; mm, patient frame (LPS).

    `seeds` (n, 3), `needle_of` (n,), `source_of` (n,), `placed` (n,) those in the patient,
    which stay where they are; `entry`, `tip`, `direction`, `across` (m, 3), (m, 3), (m, 3),
    (m, 2, 3), `template_of` (m,) and `in_place` (m,) of the needles; `middle` (t, 3) of the templates.
    """

    seeds: Float
    needle_of: NDArray[np.int64]
    source_of: NDArray[np.int64]
    placed: NDArray[np.bool_]
    entry: Float
    tip: Float
    direction: Float
    across: Float
    template_of: NDArray[np.int64]
    in_place: NDArray[np.bool_]
    middle: Float

    @staticmethod
    def of(plan: Plan) -> "Layout":
        """Arrays of a plan; the entry is where a needle meets the skin."""
        needles = plan.needles
        template_of = np.array([n.template for n in needles], dtype=np.int64)
        holes = np.array([n.hole_mm for n in needles], dtype=np.float64).reshape(-1, 3)
        return Layout.from_arrays(
            seeds=np.array([s.position_mm for n in needles for s in n.seeds], dtype=np.float64).reshape(
                -1, 3
            ),
            needle_of=np.array([k for k, n in enumerate(needles) for _ in n.seeds], dtype=np.int64),
            source_of=np.array([s.source for n in needles for s in n.seeds], dtype=np.int64),
            placed=np.array([s.placed for n in needles for s in n.seeds], dtype=bool),
            entry=np.array([n.skin_mm for n in needles], dtype=np.float64).reshape(-1, 3),
            tip=np.array([n.tip_mm for n in needles], dtype=np.float64).reshape(-1, 3),
            direction=np.array([n.direction for n in needles], dtype=np.float64).reshape(-1, 3),
            column=np.array([plan.templates[n.template].column for n in needles], dtype=np.float64).reshape(
                -1, 3
            ),
            template_of=template_of,
            in_place=np.array([n.in_place for n in needles], dtype=bool),
            middle=np.array(
                [
                    holes[template_of == t].mean(axis=0)
                    if (template_of == t).any()
                    else np.array(plate.origin_mm)
                    for t, plate in enumerate(plan.templates)
                ]
            ).reshape(-1, 3),
        )

    @staticmethod
    def from_arrays(
        *,
        seeds: Float,
        needle_of: NDArray[np.int64],
        entry: Float,
        tip: Float,
        direction: Float,
        column: Float,
        template_of: NDArray[np.int64],
        middle: Float,
        source_of: NDArray[np.int64] | None = None,
        placed: NDArray[np.bool_] | None = None,
        in_place: NDArray[np.bool_] | None = None,
    ) -> "Layout":
        """Layout of any needles; `column` (m, 3), the template's axis, is the first direction across each."""
        first = column - (column * direction).sum(axis=1, keepdims=True) * direction
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        return Layout(
            seeds=seeds,
            needle_of=needle_of,
            source_of=np.zeros(len(seeds), dtype=np.int64) if source_of is None else source_of,
            placed=np.zeros(len(seeds), dtype=bool) if placed is None else placed,
            entry=entry,
            tip=tip,
            direction=direction,
            across=np.stack([first, np.cross(direction, first)], axis=1),
            template_of=template_of,
            in_place=np.zeros(len(entry), dtype=bool) if in_place is None else in_place,
            middle=middle,
        )


@dataclass(frozen=True, eq=False)
class Scenario:
    """One outcome: `seeds` (n, 3) mm, unit `axes` (n, 3), `factor` (n,) on the strength (0 where a seed is lost), and
    `target_mm` by which the target's surface lies farther out.
    """

    seeds: Float
    axes: Float
    factor: Float
    target_mm: float


def nominal(layout: Layout) -> Scenario:
    """The plan itself."""
    return Scenario(layout.seeds, layout.direction[layout.needle_of], np.ones(len(layout.seeds)), 0.0)


def draw(
    layout: Layout, errors: Uncertainties, seed: int, number: int, only: Sequence[int] | None = None
) -> Scenario:
    """Scenario `number` of a series.

    Parameters
    ----------
    layout : Layout
        The plan.
    errors : Uncertainties
        Standard deviations of needle, seed and strength errors.
    seed, number : int
        Which series, and which of it.
    only : sequence of int, optional
        Needles that deviate; the others, the templates and the common strength stay as planned.

    Notes
    -----
    A needle is the line from its displaced entry to its displaced tip; a seed keeps its distance from the tip.
    Template, needle and seed errors are normal and independent. What is in the patient is not moved: a placed seed has
    errors of strength alone; a seed still to be placed through a measured needle has the errors along and across it.
    """
    rng = np.random.default_rng([seed, number])
    needles, seeds = len(layout.entry), len(layout.seeds)
    all_err = only is None
    errs = np.full(needles, all_err)
    if only is not None:
        errs[list(only)] = True
    moves = errs & ~layout.in_place
    frame = np.concatenate([layout.across, layout.direction[:, None, :]], axis=1)
    entry_off = np.einsum(
        "mk,mkx->mx", errors.needle.entry_mm * rng.standard_normal((needles, 2)), layout.across
    )
    tip_off = np.einsum("mk,mkx->mx", errors.needle.tip_mm * rng.standard_normal((needles, 3)), frame)
    length = np.linalg.norm(layout.tip - layout.entry, axis=1)
    bend = np.tan(np.radians(errors.needle.angle_deg * rng.standard_normal((needles, 2)))) * length[:, None]
    tip_off += np.einsum("mk,mkx->mx", bend, layout.across)
    tip_off += errors.needle.depth_mm * rng.standard_normal((needles, 1)) * layout.direction
    entry = layout.entry + np.where(moves[:, None], entry_off, 0.0)
    tip = layout.tip + np.where(moves[:, None], tip_off, 0.0)
    axis, planned = _unit(tip - entry), _unit(layout.tip - layout.entry)

    of = layout.needle_of
    back = np.linalg.norm(
        layout.seeds - layout.tip[of], axis=1
    )  # distance from the tip, which the loading sets
    along = errors.seed.along_mm * rng.standard_normal(seeds)
    migrated = rng.random(seeds) < errors.seed.migrated_probability
    along += np.where(migrated, errors.seed.migration_mm * rng.standard_normal(seeds), 0.0)
    side = errors.seed.across_mm * rng.standard_normal((seeds, 2))
    moved = along[:, None] * axis[of] + np.einsum("nk,nkx->nx", side, layout.across[of])
    # added as a displacement, so that a seed without error keeps its place to the last digit
    places = layout.seeds + (tip - layout.tip)[of] - back[:, None] * (axis - planned)[of]
    places += np.where(errs[of, None], moved, 0.0)

    factor = 1.0 + 0.01 * errors.strength.seed_pct * rng.standard_normal(seeds)
    factor *= (rng.random(seeds) >= errors.seed.lost_probability) | layout.placed
    factor = np.where(errs[of], factor, 1.0)
    common = 1.0 + 0.01 * errors.strength.common_pct * rng.standard_normal()
    shift = errors.template.shift_mm * rng.standard_normal((len(layout.middle), 3))
    turn = np.radians(errors.template.rotation_deg) * rng.standard_normal((len(layout.middle), 3))
    target = errors.contour.target_mm * rng.standard_normal()
    axes = axis[of]
    if all_err:
        places, axes = _with_template(places, axes, layout, shift, turn)
        factor = factor * common
    places = np.where(layout.placed[:, None], layout.seeds, places)
    axes = np.where(layout.placed[:, None], planned[of], axes)
    return Scenario(places, axes, np.maximum(factor, 0.0), float(target) if all_err else 0.0)


def _unit(vectors: Float) -> Float:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float64)


def _with_template(
    places: Float, axes: Float, layout: Layout, shift: Float, turn: Float
) -> tuple[Float, Float]:
    """Seeds carried along by their templates: turned round the template's middle, then shifted."""
    if not (shift.any() or turn.any()):
        return places, axes
    from scipy.spatial.transform import Rotation

    places, axes = places.copy(), axes.copy()
    template = layout.template_of[layout.needle_of]
    for t, middle in enumerate(layout.middle):
        mine = (template == t) & ~layout.in_place[layout.needle_of]
        if mine.any():
            rotation = Rotation.from_rotvec(turn[t])
            places[mine] = rotation.apply(places[mine] - middle) + middle + shift[t]
            axes[mine] = rotation.apply(axes[mine])
    return places, axes
