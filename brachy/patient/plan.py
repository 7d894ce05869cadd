"""The plan as a record, and plan.json, version 2 (1 is read). All other output is made from it.

Floats are rounded to 6 significant digits on the way out, keys keep the order of the fields, and `checksum` is the
SHA-256 of the canonical text without the checksum itself and without `check`, so that the same plan is the same bytes
and files that name the checksum stay right when the independent check is added; `check` has a checksum of its own.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.model import DoseModel, dose_model
from brachy.dosimetry.source import Source
from brachy.errors import BrachyError
from brachy.messages import first_problem
from brachy.patient.access_record import AccessRecord
from brachy.patient.check_report import CheckReport
from brachy.patient.evaluation_record import Evaluation, GoalResult, RuleResult
from brachy.patient.optimiser_record import OptimiserRecord
from brachy.patient.protocol import Protocol
from brachy.patient.records import Record, Vector
from brachy.patient.target import Target, planned_name
from brachy.writing import canonical, rounded, write_text_whole

FORMAT = "brachy-plan"
VERSIONS = (1, 2)
"""Versions that are read; the last is written. 1 has no `structures`, and a rule is met or not."""
MAX_BYTES = 64_000_000
"""A plan.json larger than this is refused before it is read (engineering choice; a real one has well under 1 MB)."""


class PlanInput(Record):
    """A file the plan was made from."""

    name: str
    sha256: str


class PlanCase(Record):
    """Identity of the case. Patient name and dates are not kept here."""

    patient_id: str = ""
    study_uid: str = ""
    frame_of_reference_uid: str = ""
    ct_series_uid: str = ""
    structure_set_uid: str = ""
    inputs: tuple[PlanInput, ...] = ()


class PlanSource(Record):
    """One kind of seed: model, strength at implantation, and the TG-43 data used (`data`, a whole source file)."""

    model: str
    air_kerma_strength_U: float = Field(description="U at implant_on, per seed")
    apparent_activity_mCi: float = Field(description="mCi at implant_on, per seed")
    half_life_days: float
    strength_on: str = Field("", description="ISO date at which the strength was stated")
    implant_on: str = Field("", description="ISO date of implantation")
    # a source file, whose form `Source.from_dict` checks
    data: dict[str, Any] = Field(
        default_factory=dict, description="the source file, so that a plan stands alone"
    )


class PlanTarget(Record):
    """A target and its prescription."""

    roi: str
    prescription_gy: float
    volume_cc: float
    margin_mm: float = 0.0
    planned_volume_cc: float

    @property
    def planned_roi(self) -> str:
        """Name of the target with its margin, as it stands in RTSTRUCT.dcm; without a margin the drawn one's."""
        return planned_name(self.roi, self.margin_mm)

    @staticmethod
    def of(target: Target) -> "PlanTarget":
        """The record of a target."""
        return PlanTarget(
            roi=target.drawn.name,
            prescription_gy=target.prescription_gy,
            volume_cc=target.drawn.volume_cc,
            margin_mm=target.margin_mm,
            planned_volume_cc=target.structure.volume_cc,
        )


class PlanHole(Record):
    """A hole of an individual template: its place on the plate, mm from the origin along `column` and `row`, and the
    direction of the needle that it guides."""

    hole: str
    place_mm: tuple[float, float]
    direction: Vector


class PlanTemplate(Record):
    """A template. Parallel: hole (column c, row r) is at origin + c * spacing * column + (r - 1) * spacing * row.

    Column 0 is "A" (then B ... Z, AA ...), the first row is 1; `origin_mm` is therefore hole A1. An individual template
    has no columns and rows (0 of each) but the holes that it lists, N1, N2 ... in the order of insertion; its origin is
    where the axis through the target meets the plate.
    """

    origin_mm: Vector
    direction: Vector
    row: Vector
    column: Vector
    spacing_mm: float
    target: str
    columns: int
    rows: int
    central_row: int = Field(description="number of the row of layer 0, through the target's largest section")
    cone_deg: float = Field(
        0.0,
        ge=0,
        lt=90,
        description="largest angle of a needle to the template's axis; left out where it is 0",
    )

    arrangement: Literal["parallel", "individual"] = Field(
        "parallel", description="individual: each needle has a hole and a direction of its own"
    )
    holes: tuple[PlanHole, ...] = Field((), description="of an individual template")

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Omit what only a template for needles at angles has, from others."""
        data = _without_false(handler(self), "cone_deg")
        if self.arrangement == "parallel":
            data.pop("arrangement", None)
        return _without_false(data, "holes")


def _without_false(data: dict[str, object], name: str) -> dict[str, object]:
    """Omit a field that is false, 0 or empty: those of a plan not used in the operating room, or without angles."""
    if not data.get(name):
        data.pop(name, None)
    return data


class PlanSeed(Record):
    """A seed; depth_mm = |tip - centre|; `source` indexes the plan's sources; `placed` once it is in the patient."""

    position_mm: Vector
    depth_mm: float
    source: int = Field(0, ge=0)
    placed: bool = False

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return _without_false(handler(self), "placed")


class PlanNeedle(Record):
    """A loaded needle; depth_mm = |tip - hole|; seeds from the tip backwards.

    `in_place` is a needle whose line was measured; a needle that is, or holds a placed seed, need not lie on the
    lattice.
    """

    hole: str
    template: int = Field(0, ge=0)
    hole_mm: Vector
    skin_mm: Vector
    tip_mm: Vector
    direction: Vector
    depth_mm: float
    depth_from_skin_mm: float
    seeds: tuple[PlanSeed, ...]
    in_place: bool = False

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return _without_false(handler(self), "in_place")

    @property
    def begun(self) -> bool:
        """Whether it is in place, or some of its seeds are."""
        return self.in_place or any(seed.placed for seed in self.seeds)


class PlanStructure(Record):
    """A ROI of the case: the role it was given and why, and whether a needle must not meet it and why."""

    roi: str
    role: str
    source: str = Field(
        description="protocol, type, code, name, ct, given, or default: nothing is known of it"
    )
    why: str
    understood: bool = Field(
        True, description="false: nothing is known of it, or its name contradicts its type"
    )
    obstacle: bool
    obstacle_why: str


class Plan(Record):
    """A plan; plan.json is described in docs/formats.md."""

    format: Literal["brachy-plan"] = "brachy-plan"
    version: Literal[1, 2] = 2
    software: str = ""
    parent: str | None = None
    checksum: str = ""
    case: PlanCase = PlanCase()
    protocol: Protocol
    assumed: tuple[str, ...] = ()
    limits: tuple[str, ...] = Field((), description="limits of the dose calculation, as printed")
    sources: tuple[PlanSource, ...]
    targets: tuple[PlanTarget, ...]
    structures: tuple[PlanStructure, ...] = Field((), description="every ROI; what was not understood first")
    access: AccessRecord | None = Field(
        None, description="from where needles may come; plans of before have none"
    )
    templates: tuple[PlanTemplate, ...]
    needles: tuple[PlanNeedle, ...]
    evaluation: Evaluation
    rules: tuple[RuleResult, ...] = ()
    check: CheckReport = Field(CheckReport(), description="the independent check of the written files")
    optimiser: OptimiserRecord = OptimiserRecord()

    @model_serializer(mode="wrap")
    def _as_versioned(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        if self.access is None:
            data.pop("access", None)
        if self.version == 1:
            data.pop("structures", None)
            data["rules"] = [rule.as_version_1() for rule in self.rules]
            for goal in data["evaluation"]["goals"]:
                for name in ("uncertainty", "reason"):
                    goal.pop(name, None)
        return data

    @model_validator(mode="after")
    def _indices_exist(self) -> "Plan":
        for needle in self.needles:
            if needle.template >= len(self.templates):
                raise ValueError(
                    f"needle {needle.hole} is of template {needle.template}, which the plan does not have"
                )
            if any(seed.source >= len(self.sources) for seed in needle.seeds):
                raise ValueError(f"a seed of needle {needle.hole} is of a source that the plan does not have")
        return self

    @property
    def implant_date_assumed(self) -> bool:
        """Whether nobody gave the day of the implantation: it was taken from the planning CT."""
        return any(note.startswith("implanted on the day of the CT") for note in self.assumed)

    @property
    def individual(self) -> bool:
        """Whether its needles have angles of their own."""
        return any(template.arrangement == "individual" for template in self.templates)

    @property
    def seed_count(self) -> int:
        """Number of seeds."""
        return sum(len(needle.seeds) for needle in self.needles)

    def target_of(self, template: int) -> PlanTarget:
        """The target that a template of that index serves; `PlanTemplate.target` names it with its margin.

        Raises
        ------
        BrachyError
            If the plan has no such target.
        """
        name = self.templates[template].target
        for target in self.targets:
            if name in (target.planned_roi, target.roi):
                return target
        raise BrachyError(
            f"template {template + 1} is for target '{name}', which the plan does not have: plan again"
        )

    def implants(self) -> list[Implant]:
        """Seeds as implants, one for each source of the plan, in needle order; axes are the needles' directions."""
        found = []
        for index, entry in enumerate(self.sources):
            seeds = [(s.position_mm, n.direction) for n in self.needles for s in n.seeds if s.source == index]
            found.append(
                Implant(
                    Source.from_dict(entry.data, name=entry.model),
                    np.array([position for position, _ in seeds], dtype=np.float64).reshape(-1, 3),
                    axes=np.array([axis for _, axis in seeds], dtype=np.float64).reshape(-1, 3),
                    strength_U=entry.air_kerma_strength_U,
                    half_life_days=entry.half_life_days,
                )
            )
        return found

    def dose_model(self) -> DoseModel:
        """Dose of the plan's seeds to complete decay, by the model of its evaluation."""
        return dose_model(self.implants(), self.evaluation.formalism)

    def sealed(self) -> "Plan":
        """Return the plan with floats rounded as they will be written and with its checksum."""
        data = rounded(self.model_dump(mode="json"))
        data["checksum"] = checksum_of(data)
        sealed = Plan.model_validate(data)
        evaluation = sealed.evaluation.with_curves(self.evaluation.curves)
        return sealed.model_copy(update={"evaluation": evaluation})

    def checked(self, report: CheckReport) -> "Plan":
        """Return the plan with the result of an independent check, sealed to this plan."""
        plan = self.sealed()
        check = rounded({key: value for key, value in report.data().items() if key != "checksum"})
        sealed = {**check, "checksum": _check_checksum(check, plan.checksum)}
        return plan.model_copy(update={"check": CheckReport.model_validate(sealed)})

    def to_json(self) -> str:
        """Text of plan.json: 6 significant digits, stable order, ends with a newline."""
        return canonical(self.sealed().model_dump(mode="json"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write plan.json, whole or not at all."""
        write_text_whole(Path(path), self.to_json())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Plan":
        """Read a plan.json, or the one in a plan folder, and verify its checksum.

        Raises
        ------
        BrachyError
            If it is missing, not a plan, of a newer version, broken, or changed since it was written.
        """
        file = Path(path)
        try:
            if file.is_dir():
                file = file / "plan.json"
            if not file.is_file():
                raise BrachyError(f"no plan at {path}: give a plan folder or its plan.json")
            if file.stat().st_size > MAX_BYTES:
                raise BrachyError(f"{file} is larger than {MAX_BYTES // 1_000_000} MB: this is no plan.json")
            content = file.read_bytes()
        except (OSError, ValueError) as error:
            raise BrachyError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
        try:
            data = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise BrachyError(f"{file} is not valid JSON ({error}): restore it from its backup") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise BrachyError(f"{file} is not a brachy plan: its 'format' is not '{FORMAT}'")
        if data.get("version") not in VERSIONS or isinstance(data.get("version"), bool):
            found = repr(data.get("version"))[:20]
            read = " and ".join(map(str, VERSIONS))
            raise BrachyError(f"{file} has version {found}; this program reads versions {read}")
        try:
            unchanged = data.get("checksum") == checksum_of(data) and _check_unchanged(data)
        except (ValueError, RecursionError):
            unchanged = False  # a number beyond all bounds, half a character: we never wrote that
        if not unchanged:
            raise BrachyError(
                f"{file} was changed after it was written (its checksum differs): plan again, "
                "or use --from PLAN --edit CSV for a change by hand"
            )
        try:
            return Plan.model_validate(data)
        except ValidationError as error:
            raise BrachyError(f"{file}: {first_problem(error)}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def checksum_of(data: Mapping[str, object]) -> str:
    """SHA-256 of the canonical text of the data without its `checksum` and its `check`."""
    rest = {key: value for key, value in data.items() if key not in ("checksum", "check")}
    return hashlib.sha256(canonical(rest).encode("utf-8")).hexdigest()


def _check_checksum(check: Mapping[str, object], of: str) -> str:
    """SHA-256 of an independent check together with the checksum of its plan."""
    return hashlib.sha256((of + canonical(check)).encode("utf-8")).hexdigest()


def _check_unchanged(data: Mapping[str, object]) -> bool:
    check = data.get("check")
    if not check:
        return True
    if not isinstance(check, dict):
        return False
    rest = {key: value for key, value in check.items() if key != "checksum"}
    return bool(check.get("checksum") == _check_checksum(rest, str(data.get("checksum"))))


__all__ = [
    "Evaluation",
    "GoalResult",
    "Plan",
    "PlanCase",
    "PlanInput",
    "PlanNeedle",
    "PlanSeed",
    "PlanSource",
    "PlanTarget",
    "PlanTemplate",
    "RuleResult",
    "Vector",
    "checksum_of",
]
