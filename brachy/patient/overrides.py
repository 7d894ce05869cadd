"""What options mean: changes of the protocol, and keyword arguments of the planner and of post-implant dosimetry.

Text in, values out, or one line that names the option. The options themselves are in `brachy.patient.options`.
"""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brachy.errors import UsageError
from brachy.patient.access_words import access_fields
from brachy.patient.options import (
    AssessmentOptions,
    ImplantedSourceOptions,
    IntervalOptions,
    NeedleOptions,
    PlanSearchOptions,
    PrescriptionOptions,
    RegistrationOptions,
    SeedOptions,
    SourceOptions,
    VariantOptions,
    number,
)

if TYPE_CHECKING:
    from brachy.patient.case import Case
    from brachy.patient.protocol import Protocol


def changed_protocol(
    prescription: PrescriptionOptions, source: SourceOptions, needle: NeedleOptions
) -> "Protocol":
    """The protocol that is named, with what the options change in it.

    Raises
    ------
    UsageError
        If the protocol is unknown, or the value of an option cannot be meant.

    Examples
    --------
    >>> from brachy.patient.options import NeedleOptions, PrescriptionOptions, SourceOptions
    >>> changed_protocol(PrescriptionOptions(margin=3.0), SourceOptions(), NeedleOptions()).target.margin_mm
    3.0
    """
    from brachy import units
    from brachy.dosimetry.strength import question_strength
    from brachy.patient.protocol import change, load_protocol

    if source.activity is not None and source.strength is not None:
        raise UsageError("--activity and --strength exclude each other: give mCi or U, not both")
    for option, value in (
        ("--prescription", prescription.prescription), ("--strength", source.strength), ("--pitch", needle.pitch),
        ("--needle-length", needle.needle_length),
    ):  # fmt: skip
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{option} {value:g}: give a number above 0")
    margin = prescription.margin
    if margin is not None and not 0 <= margin < float("inf"):
        raise UsageError(f"--margin {margin:g}: give 0 mm or more")
    base = load_protocol(prescription.protocol)
    mci, stated = None if source.strength is None else units.mci_from_strength(source.strength), None
    if source.activity is not None:
        model = source.source or base.source.model
        mci, stated = _apparent_mci(source.activity, model, source.accept_unverified)
    azimuth, tilt = direction_of(needle.direction)
    tables: dict[str, dict[str, Any]] = {  # fields of the protocol, of as many types
        "prescription": {"dose_gy": prescription.prescription},
        "source": {
            "model": source.source,
            "activity_mCi": mci,
            "activities_mCi": None if mci is None else (),
            "stated_as": stated,
            "formalism": formalism_named(source.formalism),
            "accept_unverified": source.accept_unverified or None,
        },
        "target": {"margin_mm": margin},
        "template": {"pitch_mm": needle.pitch, "arrangement": arrangement_named(needle.arrangement)},
        "needle": {"max_needle_mm": needle.needle_length},
        "access": {} if needle.access is None else access_fields(needle.access),
        "obstacles": {
            "free": tuple(dict.fromkeys((*base.obstacles.free, *needle.free))) if needle.free else None
        },
        "direction": {"azimuth_deg": azimuth, "tilt_deg": tilt, "tilts_deg": None if azimuth is None else ()},
    }
    given = {table: {k: v for k, v in fields.items() if v is not None} for table, fields in tables.items()}
    if azimuth is not None:
        given["direction"]["tilt_limits_deg"] = None
        if (
            base.template.arrangement == "choose"
        ):  # a direction is one for all needles, unless angles are asked for
            given["template"].setdefault("arrangement", "parallel")
    changed = change(base, **{table: fields for table, fields in given.items() if fields})
    option = "--activity" if source.activity is not None else "--strength"
    stated_by = option if mci is not None else f"protocol '{changed.name}'"
    for each in changed.source.stock_mCi:
        question_strength(units.strength_from_mci(each), source.accept_strength, stated_by)
    return changed


def must_be_rois(free: Sequence[str] | None, case: "Case") -> None:
    """Refuse a name of --free that is no ROI of the case; "Bone (from CT)" is one that planning may add.

    Raises
    ------
    UsageError
        That lists the ROIs.
    """
    from brachy.patient.anatomy import BONE_NAME

    for name in free or ():
        if name.casefold() != BONE_NAME.casefold():
            try:
                case.structure(name)
            except UsageError as error:
                raise UsageError(f"--free {name}: {error}") from None


def planner_arguments(
    prescription: PrescriptionOptions,
    source: SourceOptions,
    search: PlanSearchOptions,
    variant: VariantOptions,
) -> dict[str, Any]:  # one value for each keyword, of as many types
    """Keyword arguments of `brachy.plan`, besides case and protocol, that the options stand for.

    Raises
    ------
    UsageError
        If a value cannot be meant.

    Examples
    --------
    >>> from brachy.patient.options import PlanSearchOptions, PrescriptionOptions, SourceOptions, VariantOptions
    >>> prescription = PrescriptionOptions(target=["GTV=130"])
    >>> planner_arguments(prescription, SourceOptions(), PlanSearchOptions(), VariantOptions())["targets"]
    [('GTV', 130.0)]
    """
    return {
        "targets": targets_of(prescription.target),
        "strength_on": date_of(source.strength_on, "--strength-on"),
        "implant_on": date_of(source.implant_on, "--implant-on"),
        "seed": search.seed,
        "threads": search.threads,
        "time_limit": search.time_limit,
        "certify": variant.certify,
        "robust": variant.robust,
    }


def verify_arguments(
    seeds: SeedOptions,
    registration: RegistrationOptions,
    source: ImplantedSourceOptions,
    assessment: AssessmentOptions,
    intervals: IntervalOptions,
) -> dict[str, Any]:  # one value for each keyword, of as many types
    """Keyword arguments of `brachy.verify`, besides plan and CT, that the options stand for.

    Raises
    ------
    UsageError
        If a value cannot be meant.

    Examples
    --------
    >>> from brachy.patient import options
    >>> records = [record() for record in options.OF_VERB["verify"]]
    >>> verify_arguments(*records)["gate_mm"]
    10.0
    """
    return {
        "seeds": seeds.seeds,
        "count": seeds.count,
        "region": seeds.region,
        "register": registration.register,
        "planning_case": registration.planning_ct,
        "source": source.source,
        "accept_unverified": source.accept_unverified,
        "strength_U": source.strength,
        "accept_strength": source.accept_strength,
        "implant_on": date_of(source.implant_on, "--implant-on"),
        "prescription_gy": assessment.prescription,
        "targets": targets_of(assessment.target),
        "formalism": assessment.formalism,
        "gate_mm": assessment.gate,
        "margin_mm": assessment.margin,
        "contour_sd_mm": assessment.contour_sd,
        "sectors": assessment.sectors,
        "other_patient": assessment.other_patient,
        "seed": intervals.seed,
    }


def time_limit_of(seconds: float | None) -> float | None:
    """Seconds above 0, or None."""
    if seconds is not None and not seconds > 0:
        raise UsageError(f"--time-limit {seconds:g}: give seconds above 0")
    return seconds


_ACTIVITY = re.compile(r"\s*([-+.\deE]+)\s*(mCi|MBq)?\s*(apparent|contained)?\s*", re.IGNORECASE)


def _apparent_mci(text: str, model: str, accept_unverified: bool) -> tuple[float, str | None]:
    """Apparent activity in mCi of `0.7`, `25.9 MBq` or `0.945 mCi contained`, and how it was stated if otherwise.

    A number alone is apparent mCi. Contained activity needs the factor of the source file.
    """
    from brachy import units
    from brachy.dosimetry.source import load_source

    match = _ACTIVITY.fullmatch(text)
    if match is None:
        raise UsageError(
            f"--activity {text}: give mCi apparent as in 0.7, or 25.9MBq, or '0.945 mCi contained'"
        )
    given = number(match[1], "--activity")
    if not given > 0:
        raise UsageError(f"--activity {text}: give more than 0")
    mci = given / units.MBQ_PER_MCI if (match[2] or "").lower() == "mbq" else given
    if (match[3] or "").lower() != "contained":
        return mci, None if (match[2] or "").lower() != "mbq" else f"{given:g} MBq apparent"
    source = load_source(model, accept_unverified)
    if source.U_per_contained_mCi is None:
        raise UsageError(
            f"--activity {text}: the source file of {source.name} does not say how much of a contained activity leaves "
            "the capsule: give the apparent activity, or --strength"
        )
    apparent = units.mci_from_strength(units.strength_from_contained_mci(mci, source.U_per_contained_mCi))
    return (
        apparent,
        f"{given:g} {match[2] or 'mCi'} CONTAINED, {source.U_per_contained_mCi:g} U/mCi for {source.name}",
    )


def formalism_named(text: str | None) -> str | None:
    """`1D` or `2D`, in capitals."""
    if text is not None and text.upper() not in {"1D", "2D"}:
        raise UsageError(f"--formalism {text}: choose 1D or 2D")
    return None if text is None else text.upper()


def arrangement_named(text: str | None) -> str | None:
    """`parallel` or `individual`."""
    if text is not None and text.lower() not in {"parallel", "individual"}:
        raise UsageError(f"--arrangement {text}: choose parallel or individual")
    return None if text is None else text.lower()


def direction_of(text: str | None) -> tuple[float | None, float | None]:
    """Azimuth and tilt in degrees of `AZ[,TILT]`."""
    if text is None:
        return None, None
    parts = [number(part, "--direction") for part in text.split(",")]
    if len(parts) > 2:
        raise UsageError(f"--direction {text}: give azimuth, or azimuth,tilt in degrees")
    return parts[0], parts[1] if len(parts) == 2 else None


def targets_of(given: list[str] | None) -> list[tuple[str, float | None]] | None:
    """ROI and prescription in Gy (None: the protocol's) of each `ROI[=GY]`."""
    if not given:
        return None
    found: list[tuple[str, float | None]] = []
    for text in given:
        name, _, dose = text.rpartition("=")
        found.append((name, number(dose, f"--target {text}")) if name else (text, None))
    return found


def masks_of(given: list[str] | None) -> dict[str, str] | None:
    """Structure and file of each `NAME=FILE`."""
    if not given:
        return None
    found: dict[str, str] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise UsageError(f"--mask {text}: give NAME=FILE")
        if name in found:
            raise UsageError(f"--mask {name} is given twice")
        found[name] = file
    return found


def prescriptions_of(given: list[str] | None) -> dict[str | None, float]:
    """Gy by ROI of each `[ROI=]GY`; None stands for every ROI."""
    found: dict[str | None, float] = {}
    for text in given or []:
        name, _, dose = text.rpartition("=")
        value = number(dose, f"--prescription {text}")
        if value <= 0:
            raise UsageError(f"--prescription {text}: give a dose above 0 Gy")
        found[name or None] = value
    return found


def date_of(text: str | None, option: str) -> date | None:
    """The day of `YYYY-MM-DD`."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text}: give a date as YYYY-MM-DD") from None


def case_name(case: str) -> str:
    """Name for the output folder: the file's stem, for a .dcm file its folder's name."""
    path = Path(case)
    if path.suffix.lower() in {".dcm", ""} and path.is_file():
        path = path.resolve().parent
    stem = path.resolve().name if path.exists() else path.name
    for suffix in (".gz", ".nii", ".nrrd", ".mha", ".zip", ".toml"):
        stem = stem.removesuffix(suffix)
    return re.sub(r"[^\w.-]+", "_", stem) or "case"
