"""Reads the seeds of a permanent implant from an RT Plan of any planning system; other plans are refused."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy.spatial import cKDTree

from brachy import resources, units
from brachy.errors import BrachyError
from brachy.io.dicom.ct import day
from brachy.io.dicom.files import declared_charset, integer, items, number, numbers, shown, text
from brachy.io.dicom.imported_plan import ImportedPlan, ImportedSetup, ImportedSource

Float = NDArray[np.float64]

# Ranges of a permanent seed (engineering choices). Seeds of 125I, 103Pd and 131Cs have 0.1 to 10 U, an HDR source
# 40 000 U; half-lives of nuclides for permanent implants are 2.7 d (198Au) to 60 d.
STRENGTH_RANGE_U = (0.001, 200.0)
HALF_LIFE_RANGE_DAYS = (1.0, 100.0)
SAME_PLACE_MM = 0.01
CAPSULE_MM = 0.8
"""Centres of seeds nearer than this are questioned (engineering choice: the diameter of most seeds)."""
MOST_PRESCRIBED_GY = 1000.0
"""Prescriptions above this are questioned (engineering choice: monotherapy with 125I is 145 Gy, TG-64)."""
MOST_SEEDS = 5000
TIME_TOLERANCE = 0.02
TIME_UNITS = {"days": 86400.0, "hours": 3600.0, "minutes": 60.0}
"""Units other than seconds in which a planning system may have written the time of a seed, in seconds."""

_VENDOR_MODELS = resources.data_file("vendor_models.toml")
_NUCLIDE = re.compile(r"^(?:i125|125i|iodine125|iod125)")


def mapped_model(written: str) -> str | None:
    """Shipped source file for a vendor's seed name, None if the table does not have the name.

    Examples
    --------
    >>> mapped_model("I-125 (STM 1251)"), mapped_model("Ir-192")
    ('bard_stm1251', None)
    """
    return _vendor_models().get(_plain(written))


def _plain(name: str) -> str:
    """Letters and digits of a name in lower case, without a leading nuclide."""
    return _NUCLIDE.sub("", re.sub(r"[^a-z0-9]", "", name.casefold()))


@cache
def _vendor_models() -> dict[str, str]:
    with _VENDOR_MODELS.open("rb") as stream:
        table = tomllib.load(stream)
    named = {_plain(name): model for model, entry in table.items() for name in entry["names"]}
    return named | {_plain(model): model for model in table}


def imported_plan(dataset: Dataset, name: str, sha256: str = "") -> ImportedPlan:
    """Seeds from a parsed RTPLAN; see `brachy.io.dicom.read.read_plan`."""
    where = shown(name)
    _refuse_others(dataset, where)
    notes: dict[str, None] = {}
    charset = declared_charset(dataset)
    sources = _sources(dataset, where, notes)
    setups = _setups(dataset, where)
    spare = _spare_setups(dataset, setups, notes)
    seeds = _seeds(dataset, sources, spare, where, notes)
    if not seeds:
        raise BrachyError(f"{where} has no seed: its channels have no positions; export the plan again")
    _refuse_twice(seeds, where)
    axes = _axes(seeds, where, notes)
    _note_near(seeds, notes)
    _note_air_kerma(dataset, sources, notes)
    prescription = _prescription(dataset, setups, notes)
    uids = [text(i, "ReferencedSOPInstanceUID") for i in items(dataset, "ReferencedStructureSetSequence")]
    return ImportedPlan(
        positions_mm=_frozen(np.array([seed.position for seed in seeds])),
        axes=None if axes is None else _frozen(axes),
        source_of=np.array([seed.source for seed in seeds], dtype=np.int64),
        setup_of=np.array([seed.setup for seed in seeds], dtype=np.int64),
        applicator_of=tuple(seed.applicator for seed in seeds),
        sources=tuple(sources),
        setups=tuple(setups),
        prescription_gy=prescription,
        label=text(dataset, "RTPlanLabel", charset),
        approval=text(dataset, "ApprovalStatus"),
        uid=text(dataset, "SOPInstanceUID"),
        structure_set_uid=next((uid for uid in uids if uid), ""),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        patient_id=text(dataset, "PatientID", charset),
        plan_date=day(text(dataset, "RTPlanDate")),
        name=name,
        sha256=sha256,
        assumed=tuple(notes),
    )


def _frozen(array: Float) -> Float:
    array.setflags(write=False)
    return array


# ---- what it is ------------------------------------------------------------------------------------------------


def _refuse_others(dataset: Dataset, where: str) -> None:
    """Refuse every plan that is not a permanent implant, with the reason."""
    technique = text(dataset, "BrachyTreatmentTechnique").upper()
    kind = text(dataset, "BrachyTreatmentType").upper()
    sources = [_written_model(item) for item in items(dataset, "SourceSequence")]
    source = f" with source '{shown(sources[0])}'" if sources and sources[0] else ""
    remedy = "only PERMANENT seed implants are read"
    if kind in ("HDR", "MDR", "PDR"):
        article = "a" if kind == "PDR" else "an"
        raise BrachyError(
            f"{where} is {article} {kind} plan ({technique or 'no technique'}{source}): {remedy}"
        )
    if technique != "PERMANENT":
        if items(dataset, "BeamSequence") or items(dataset, "IonBeamSequence"):
            raise BrachyError(f"{where} is an external-beam plan: {remedy}")
        if not items(dataset, "ApplicationSetupSequence"):
            raise BrachyError(f"{where} has no brachytherapy application setups: {remedy}")
        raise BrachyError(
            f"{where} is a brachytherapy plan of technique {technique or 'unknown'}{source}, not PERMANENT: {remedy}"
        )


def _written_model(item: Dataset) -> str:
    """Vendor's name of the seed: the first attribute that the table knows, else the first that is not empty."""
    keywords = ("SourceModelID", "SourceDescription", "SourceIsotopeName")
    written = [value for value in (text(item, keyword) for keyword in keywords) if value]
    known = [value for value in written if mapped_model(value)]
    return next(iter(known + written), "")


def _sources(dataset: Dataset, where: str, notes: dict[str, None]) -> list[ImportedSource]:
    found = []
    for place, item in enumerate(items(dataset, "SourceSequence")):
        source_number = integer(item, "SourceNumber")
        written = _written_model(item)
        strength = _strength(item, where, notes)
        half_life = number(item, "SourceIsotopeHalfLife")
        low, high = HALF_LIFE_RANGE_DAYS
        if half_life is None or not low <= half_life <= high:
            raise BrachyError(
                f"{where}: half-life {half_life} d of '{shown(written)}' is not that of a permanent seed "
                f"({low:g}-{high:g} d): export the plan again"
            )
        model = mapped_model(written)
        if model is not None and abs(half_life / units.I125_HALF_LIFE_DAYS - 1) > TIME_TOLERANCE:
            notes[f"half-life {half_life:g} d is the plan's; its seed '{written}' is 125I with 59.4 d"] = None
        found.append(
            ImportedSource(
                number=place + 1 if source_number is None else source_number,
                model_as_written=written,
                model=model,
                manufacturer=text(item, "SourceManufacturer"),
                strength_U=strength,
                half_life_days=half_life,
                reference=_moment(item, notes),
            )
        )
    if not found:
        raise BrachyError(f"{where} describes no source: its strength is unknown; export the plan again")
    return found


def _strength(item: Dataset, where: str, notes: dict[str, None]) -> float:
    """Air-kerma strength in U; it equals the reference air-kerma rate in uGy/h at 1 m (AAPM TG-43U1 III.A)."""
    unit = text(item, "SourceStrengthUnits").upper()
    if unit not in ("", "AIR_KERMA_RATE"):
        raise BrachyError(
            f"{where}: its source strength is a {unit}, not an air-kerma rate: export it as such"
        )
    strength = number(item, "ReferenceAirKermaRate") or number(item, "SourceStrength")
    low, high = STRENGTH_RANGE_U
    if strength is None or not low <= strength <= high:
        raise BrachyError(
            f"{where}: reference air-kerma rate {strength} uGy/h at 1 m is not that of a permanent seed "
            f"({low:g}-{high:g}): export the plan again"
        )
    if not unit:
        notes[
            "the source strength is an air-kerma rate in uGy/h at 1 m, that is U (the plan names no unit)"
        ] = None
    return strength


def _moment(item: Dataset, notes: dict[str, None]) -> datetime | None:
    """Date and time for which the strength is stated, None if there is none."""
    written = text(item, "SourceStrengthReferenceDate")
    on = day(written)
    if on is None:
        if written:
            notes[f"the strength is stated for '{shown(written)}', which is no date: taken as none"] = None
        return None
    digits = text(item, "SourceStrengthReferenceTime").replace(":", "")[:6].ljust(6, "0")
    try:
        at = time(int(digits[:2]), int(digits[2:4]), int(digits[4:6]))
    except ValueError:
        at = time()
    return datetime.combine(on, at)


def _setups(dataset: Dataset, where: str) -> list[ImportedSetup]:
    doses: dict[int | None, float] = {}
    for group in items(dataset, "FractionGroupSequence"):
        for item in items(group, "ReferencedBrachyApplicationSetupSequence"):
            dose = number(item, "BrachyApplicationSetupDose")
            if dose is not None and dose > 0:
                doses[integer(item, "ReferencedBrachyApplicationSetupNumber")] = dose
    found = []
    for place, item in enumerate(items(dataset, "ApplicationSetupSequence")):
        setup_number = integer(item, "ApplicationSetupNumber")
        found.append(
            ImportedSetup(
                number=place + 1 if setup_number is None else setup_number,
                kind=text(item, "ApplicationSetupType"),
                name=text(item, "ApplicationSetupName"),
                dose_gy=doses.get(setup_number),
            )
        )
    if not found:
        raise BrachyError(f"{where} has no application setups: export the plan again")
    return found


def _spare_setups(dataset: Dataset, setups: Sequence[ImportedSetup], notes: dict[str, None]) -> set[int]:
    """Indices of application setups that no fraction group refers to, which are not treated; none if no group refers to
    any setup."""
    referenced = {
        integer(item, "ReferencedBrachyApplicationSetupNumber")
        for group in items(dataset, "FractionGroupSequence")
        for item in items(group, "ReferencedBrachyApplicationSetupSequence")
    }
    numbers_of = {setup.number for setup in setups}
    if not referenced & numbers_of:
        notes["no fraction group refers to an application setup of the plan: all setups are taken"] = None
        return set()
    spare = {index for index, setup in enumerate(setups) if setup.number not in referenced}
    for index in sorted(spare):
        named = f" '{setups[index].name}'" if setups[index].name else ""
        notes[
            f"application setup {setups[index].number}{named} is left out: no fraction group refers to it"
        ] = None
    return spare


def _refuse_twice(seeds: Sequence["_Seed"], where: str) -> None:
    """Refuse two seeds at one place: the dose of a duplicate seed would be counted twice."""
    places = np.array([seed.position for seed in seeds])
    pairs = cKDTree(places).query_pairs(SAME_PLACE_MM, output_type="ndarray")
    if len(pairs):
        at = ", ".join(f"{value:.1f}" for value in places[pairs[0, 0]])
        raise BrachyError(
            f"{where} has {len(pairs)} seeds twice at one place, first at ({at}) mm: remove the copies "
            "or export the plan again"
        )


def _note_near(seeds: Sequence["_Seed"], notes: dict[str, None]) -> None:
    """Note seeds that would lie inside each other."""
    near = cKDTree(np.array([seed.position for seed in seeds])).query_pairs(CAPSULE_MM)
    if near:
        notes[
            f"{len(near)} pairs of seeds are nearer to each other than a seed is thick ({CAPSULE_MM:g} mm): are the "
            "positions in mm, not in cm?"
        ] = None


def _note_air_kerma(dataset: Dataset, sources: Sequence[ImportedSource], notes: dict[str, None]) -> None:
    """Note setups whose Total Reference Air Kerma is not strength x time, the time being in seconds or in hours.

    The product is compared only where it is of that size: systems differ in the unit that they write.
    """
    strength_of = {source.number: source.strength_U for source in sources}
    default = sources[0].strength_U if len(sources) == 1 else 0.0
    wrong: list[float] = []
    for setup in items(dataset, "ApplicationSetupSequence"):
        written = number(setup, "TotalReferenceAirKerma") or 0.0
        own = sum(
            strength_of.get(integer(channel, "ReferencedSourceNumber") or 0, default)
            * (number(channel, "ChannelTotalTime") or 0.0)
            for channel in items(setup, "ChannelSequence")
        )
        ratios = [written / expected for expected in (own, own / 3600.0) if expected > 0]
        close = [ratio for ratio in ratios if 0.2 < ratio < 5.0]
        if close and not any(abs(ratio - 1) <= TIME_TOLERANCE for ratio in ratios):
            wrong.append(close[0])
    if wrong:
        notes[
            f"the total reference air kerma of {len(wrong)} setups is not strength x time but {np.median(wrong):.3g} "
            "times as much: check the unit of the strength (U, mCi) and of the time"
        ] = None


def _prescription(dataset: Dataset, setups: Iterable[ImportedSetup], notes: dict[str, None]) -> float | None:
    """Prescribed dose in Gy: that of the dose references to targets, else of the setups; None if they disagree, or are
    beyond any implant."""
    found = _written_prescription(dataset, setups)
    if found is not None and found > MOST_PRESCRIBED_GY:
        notes[f"the plan prescribes {found:g} Gy, which no implant is: in cGy? It is left out"] = None
        return None
    return found


def _written_prescription(dataset: Dataset, setups: Iterable[ImportedSetup]) -> float | None:
    targets = {
        number(item, "TargetPrescriptionDose")
        for item in items(dataset, "DoseReferenceSequence")
        if text(item, "DoseReferenceType").upper() in ("TARGET", "")
    } - {None, 0.0}
    if len(targets) == 1:
        return targets.pop()
    if targets:
        return None
    doses = {setup.dose_gy for setup in setups}
    return doses.pop() if len(doses) == 1 else None


# ---- seeds -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Seed:
    position: Float
    axis: Float | None
    source: int
    setup: int
    applicator: str


def _seeds(
    dataset: Dataset, sources: list[ImportedSource], spare: set[int], where: str, notes: dict[str, None]
) -> list[_Seed]:
    place_of = {source.number: index for index, source in enumerate(sources)}
    found: list[_Seed] = []
    needles = 0
    for setup_index, setup in enumerate(items(dataset, "ApplicationSetupSequence")):
        if setup_index in spare:
            continue
        for channel in items(setup, "ChannelSequence"):
            called = f"{where}, setup {setup_index + 1}, channel {text(channel, 'ChannelNumber') or '?'}"
            movement = text(channel, "SourceMovementType").upper()
            if movement not in ("FIXED", "STEPWISE", ""):
                raise BrachyError(f"{called}: its source moves ({movement}): only seeds that stay are read")
            referenced = integer(channel, "ReferencedSourceNumber")
            if referenced is None and len(sources) == 1:
                source = 0
                notes["channels that name no source have the only one of the plan"] = None
            elif referenced in place_of:
                source = place_of[referenced]
            else:
                raise BrachyError(f"{called} refers to source {referenced}, which the plan does not describe")
            half_life = sources[source].half_life_days
            _note_time(number(channel, "ChannelTotalTime"), half_life, notes)
            applicator = text(channel, "SourceApplicatorID") or text(channel, "SourceApplicatorNumber")
            places = _places(channel, called)
            needles += len(places) > 1
            found += [_Seed(at, axis, source, setup_index, applicator) for at, axis in places]
            if len(found) > MOST_SEEDS:
                raise BrachyError(f"{where} has more than {MOST_SEEDS} seeds: this is no implant plan")
    if needles:
        notes[f"{needles} channels hold several positions: each is one seed of full strength that stays"] = (
            None
        )
    return found


def _places(channel: Dataset, called: str) -> list[tuple[Float, Float | None]]:
    """Seeds of a channel: position and axis (or None) of each place at which its source stays.

    One seed is two control points at one place with increasing weight; a needle with seeds is several such places, or
    one control point for each seed. A place where the weight does not increase, while it does at others, is only
    passed.
    """
    places: list[Float] = []
    axes: list[Float | None] = []
    weights: list[list[float]] = []
    for point in items(channel, "BrachyControlPointSequence"):
        position = np.array(numbers(point, "ControlPoint3DPosition"))
        if position.shape != (3,):
            raise BrachyError(
                f"{called}: a control point has no position x, y, z: export the plan with 3D positions"
            )
        axis = _axis(point, called)
        weight = number(point, "CumulativeTimeWeight")
        if not places or np.linalg.norm(position - places[-1]) > SAME_PLACE_MM:
            places.append(position)
            axes.append(axis)
            weights.append([])
        elif axes[-1] is None:
            axes[-1] = axis
        if weight is not None:
            weights[-1].append(weight)
    grown = [w[-1] - w[0] if len(w) > 1 else None for w in weights]
    stays = [g for g in grown if g is not None and g > 0]
    if stays and max(stays) > (1 + TIME_TOLERANCE) * min(stays):
        raise BrachyError(
            f"{called}: its positions have unequal time weights, so they are no seeds of one strength: "
            "export one channel for each seed"
        )
    kept = [k for k, g in enumerate(grown) if not (stays and g is not None and g <= 0)]
    return [(places[k], axes[k]) for k in kept]


def _axis(point: Dataset, called: str) -> Float | None:
    values = np.array(numbers(point, "ControlPointOrientation"))
    if not len(values):
        return None
    length = float(np.linalg.norm(values))
    if values.shape != (3,) or length < 1e-6:
        raise BrachyError(f"{called}: its orientation is no direction x, y, z: export the plan again")
    return values / length


def _axes(seeds: list[_Seed], where: str, notes: dict[str, None]) -> Float | None:
    given = [seed.axis for seed in seeds if seed.axis is not None]
    if len(given) == len(seeds):
        return np.array(given)
    if given:
        notes[f"{len(seeds) - len(given)} of {len(seeds)} seeds have no orientation: dose in 1D only"] = None
    else:
        notes["the plan has no seed orientations: dose in 1D only"] = None
    return None


def _note_time(seconds: float | None, half_life_days: float, notes: dict[str, None]) -> None:
    """Note a treatment time other than the mean life, T1/2 / ln 2: the dose is computed to complete decay anyway."""
    if not seconds:
        return
    mean_life = units.total_dose_hours(half_life_days) * 3600.0
    for unit, length in TIME_UNITS.items():
        if abs(seconds * length / mean_life - 1) <= TIME_TOLERANCE:
            notes[
                f"the plan's time of a seed, {seconds:g}, is the mean life in {unit}, not in seconds: taken as such"
            ] = None
            return
    if abs(seconds / mean_life - 1) > TIME_TOLERANCE:
        notes[
            f"the plan's time of a seed, {seconds / 86400:.1f} d, is not the mean life of {mean_life / 86400:.1f} d: "
            "the dose is that to complete decay"
        ] = None
