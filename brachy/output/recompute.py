"""`brachy dose` and `brachy dvh`: the dose of any permanent-seed plan again, and metrics of any dose file."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.implant import Implant, seeds_mm
from brachy.dosimetry.model import DoseModel, dose_model
from brachy.dosimetry.shown_metrics import UNCERTAIN, default_metrics, symbol_and_unit
from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Dose, Grid
from brachy.output.csv_tables import safe_text
from brachy.output.doubts import doubts
from brachy.patient.case import Identity
from brachy.patient.privacy import nameless_identity
from brachy.patient.uids import uid

if TYPE_CHECKING:
    from brachy.dosimetry.metrics import DVH
    from brachy.patient.plan import Plan

BOX_MARGIN_MM = 50.0
"""Without --like the grid is the seeds' bounding box and this much more (engineering choice)."""


@dataclass(frozen=True)
class DoseResult:
    """What `brachy dose` found."""

    dose: Dose
    seeds: int
    model: str
    formalism: str
    output: str | None = None
    lines: tuple[str, ...] = ()

    @property
    def max_gy(self) -> float:
        """Highest dose of the grid in Gy."""
        return float(self.dose.gy.max())

    def summary(self) -> dict[str, Any]:  # plain JSON data
        """The object printed by --json."""
        from brachy.writing import rounded

        data: dict[str, Any] = rounded(  # plain JSON data
            {"output": self.output, "max_gy": self.max_gy, "seeds": self.seeds, "notes": list(self.lines)}
        )
        return data


@dataclass(frozen=True)
class MetricTable:
    """What `brachy dvh` found: {ROI: {metric: value}}."""

    metrics: tuple[str, ...]
    values: dict[str, dict[str, float | None]]
    notes: tuple[str, ...] = field(default=())

    def to_csv(self) -> str:
        """CSV text: a row a structure, the metrics' names as header."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("roi", *self.metrics))
        for roi, values in self.values.items():
            writer.writerow((safe_text(roi), *("" if values[m] is None else values[m] for m in self.metrics)))
        return text.getvalue()


def recompute(
    plan: str | Path,
    *,
    like: Path | None = None,
    spacing_mm: float | None = None,
    source: str | None = None,
    accept_unverified: bool = False,
    formalism: str | None = None,
    days: float | None = None,
    implant_on: date | None = None,
    accept_strength: bool = False,
    out: Path | None = None,
    anonymise: bool = False,
    force: bool = False,
) -> DoseResult:
    """Dose of a plan again, on a dose file's grid or round its seeds.

    Parameters
    ----------
    plan : path
        Plan folder, plan.json, or any vendor's RTPLAN of a permanent implant.
    like : path, optional
        RTDOSE whose grid is used and whose dose is compared.
    spacing_mm : float, optional
        Voxel size of a grid round the seeds (bounding box and 50 mm); 1 mm by default.
    source, formalism : str, optional
        Instead of those of the plan; by default an imported plan is 1D.
    accept_unverified : bool
        Also use a seed model whose tables were seen in one place only.
    days : float, optional
        Dose until this day after implantation; complete decay by default.
    implant_on : date, optional
        Day of the implantation, to which the strengths decay from their reference date; by default the plan's.
    accept_strength : bool
        Take strengths that no permanent seed usually has.
    out : path, optional
        RTDOSE file to write; never over an existing one without `force`.
    anonymise : bool
        Write it without what names the patient; its identifiers are no longer those of the plan.

    Raises
    ------
    UsageError
        For options that exclude each other or a file that exists.
    BrachyError
        If the plan cannot be read, or `like` is of another frame of reference.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from brachy.optimise import plan
    >>> from brachy.io.phantom.file import load_phantom
    >>> from brachy.patient.protocol import change, load_protocol
    >>> quick = change(load_protocol("liver-metastasis"), search={"starts": 1, "moves": 2000, "fine_moves": 0})
    >>> made = plan(load_phantom("sphere-35mm"), quick, direction=(0, 0))
    >>> with TemporaryDirectory() as folder:
    ...     made.save(f"{folder}/plan.json")
    ...     found = recompute(f"{folder}/plan.json", spacing_mm=5.0)
    >>> found.seeds == made.seed_count, found.formalism
    (True, '1D')
    """
    if like is not None and spacing_mm is not None:
        raise UsageError("--like and --grid exclude each other: the dose file brings its own grid")
    if spacing_mm is not None and not 0.1 <= spacing_mm <= 20:
        raise UsageError(f"--grid {spacing_mm:g}: give a voxel size from 0.1 to 20 mm")
    if days is not None and not days > 0:
        raise UsageError(f"--days {days:g}: give days above 0")
    if out is not None and out.exists() and not force:
        raise UsageError(f"{out} exists: choose another name or add --force")
    instead = _Instead(source, accept_unverified, formalism, days, implant_on, accept_strength)
    seeds = _load(Path(plan), instead)
    notes = list(seeds.notes)
    reference = None
    if like is not None:
        from brachy.io.dicom.read import read_dose

        reference = read_dose(like)
        frames = [reference.frame_of_reference_uid, seeds.identity.frame_of_reference_uid]
        if not all(frames):
            which = like.name if not frames[0] else "the plan"
            notes.append(
                f"{which} names no frame of reference: nothing proves that seeds and dose lie in one; taken as one"
            )
        if len({*frames} - {""}) > 1:
            raise BrachyError(
                f"{like.name} has another frame of reference than the plan: give a dose of the same CT"
            )
        if len({reference.patient_id, seeds.identity.patient_id} - {""}) > 1:
            raise BrachyError(
                f"{like.name} is of another patient than the plan: give a dose of the same patient"
            )
        grid = reference.grid
        seeds = replace(seeds, identity=_like(_identity(like)[0], seeds.identity))
    else:
        positions = seeds_mm(seeds.model.implants)
        grid = Grid.around(
            positions.min(axis=0) - BOX_MARGIN_MM, positions.max(axis=0) + BOX_MARGIN_MM, spacing_mm or 1.0
        )
    found = seeds.model.on(grid)
    lines = notes
    if reference is not None:
        lines += _comparison(found, reference, seeds.model.implants)
    if out is not None:
        if anonymise:
            identity = nameless_identity(seeds.identity)
            seeds = replace(seeds, identity=identity, plan_uid=uid("anonymous plan", seeds.plan_uid))
        _write(found, seeds, out)
    return DoseResult(
        found,
        sum(len(implant) for implant in seeds.model.implants),
        ", ".join(dict.fromkeys(implant.source.name for implant in seeds.model.implants)),
        seeds.model.formalism,
        None if out is None else str(out),
        tuple(lines),
    )


@dataclass(frozen=True)
class _Instead:
    """What was asked for in place of the plan's own; None for the plan's."""

    source: str | None
    accept_unverified: bool
    formalism: str | None
    days: float | None
    implant_on: date | None
    accept_strength: bool

    def model(self, implants: Sequence[Implant], default: str) -> DoseModel:
        """The dose model of the seeds; of the plan's formalism unless another was asked for."""
        given = default if self.formalism is None else self.formalism.upper()
        if given not in ("1D", "2D"):
            raise UsageError(f"--formalism {self.formalism}: choose 1D or 2D")
        return dose_model(implants, given, self.days)


@dataclass(frozen=True)
class _Loaded:
    model: DoseModel
    identity: Identity
    plan_uid: str
    notes: tuple[str, ...]


def _like(other: Identity, own: Identity) -> Identity:
    """Patient, study and frame of reference of the file whose grid is used, each completed from the plan's own."""
    missing = {
        name: getattr(own, name)
        for name in ("patient_id", "study_uid", "frame_of_reference_uid")
        if not getattr(other, name)
    }
    return replace(other, **missing)


def _load(path: Path, instead: _Instead) -> _Loaded:
    if not path.exists():
        raise BrachyError(f"no plan at {path}: give a plan folder, a plan.json or an RTPLAN")
    if path.is_dir() or path.suffix == ".json":
        return _own(path, instead)
    from brachy.dosimetry.source import source_warnings
    from brachy.io.dicom.read import read_plan

    imported = read_plan(path).at_implantation(instead.implant_on)
    identity, uid = _identity(path)
    implants = imported.implants(
        source=instead.source,
        accept_unverified=instead.accept_unverified,
        accept_strength=instead.accept_strength,
    )
    warnings = dict.fromkeys(note for implant in implants for note in source_warnings(implant.source))
    notes = tuple(f"assumed: {note}" for note in (*imported.assumed, *warnings))
    return _Loaded(instead.model(implants, "1D"), identity, uid, notes)


def _own(path: Path, instead: _Instead) -> _Loaded:
    from brachy.dosimetry.source import load_source, source_warnings
    from brachy.patient.implant_date import date_of_plan, decayed, implant_date
    from brachy.patient.plan import Plan

    made = Plan.load(path)
    planned, assumed = date_of_plan(made)
    implants, notes = decayed(made.implants(), planned, implant_date(instead.implant_on, planned, assumed))
    if instead.source is not None:
        other = load_source(instead.source, instead.accept_unverified)
        notes += tuple(f"assumed: {note}" for note in source_warnings(other))
        implants = [
            Implant(other, i.positions_mm, i.axes, strength_U=i.strength_U, half_life_days=i.half_life_days)
            for i in implants
        ]
    written = (path if path.is_dir() else path.parent) / "RTPLAN.dcm"
    identity, uid = _identity_of(made), ""
    if written.is_file():
        identity, uid = _identity(written)
    model = instead.model([i for i in implants if len(i)], made.evaluation.formalism)
    return _Loaded(model, identity, uid, notes)


def _identity_of(made: "Plan") -> Identity:
    return Identity(
        patient_id=made.case.patient_id,
        study_uid=made.case.study_uid,
        frame_of_reference_uid=made.case.frame_of_reference_uid,
    )


def _identity(path: Path) -> tuple[Identity, str]:
    """Patient, study and frame of reference of a DICOM file, for objects written beside it; and its own UID."""
    from brachy.io.dicom.ct import patient_and_study
    from brachy.io.dicom.files import declared_charset, parse, reading, text

    with reading(path.name):
        content = parse(path.read_bytes(), path.name)
        return replace(patient_and_study(content), is_dicom=True), text(
            content, "SOPInstanceUID", declared_charset(content)
        )


def _comparison(found: Dose, reference: Dose, implants: Sequence[Implant]) -> list[str]:
    """Ratio to the file's own dose, outside the seeds: the two regions that the literature compares."""
    lines = []
    for threshold, apart in ((100.0, 3.0), (5.0, 5.0)):
        ratio = ratios(found, reference, implants, threshold, apart)
        if not len(ratio):
            continue
        within = 100.0 * float(np.mean(np.abs(ratio - 1.0) <= 0.007))
        lines.append(
            f"over {threshold:g} Gy and beyond {apart:g} mm of a seed, {len(ratio)} voxels: this / file "
            f"median {np.median(ratio):.4f}, {within:.1f} % within 0.7 %"
        )
    return lines


def ratios(
    found: Dose, reference: Dose, implants: Sequence[Implant], over_gy: float, beyond_mm: float
) -> NDArray[np.float64]:
    """Ratio found / reference (n,) in voxels of at least `over_gy` in the reference and `beyond_mm` of any seed.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], strength_U=1.0)
    >>> grid = Grid.around([-10, -10, -10], [10, 10, 10], 5.0)
    >>> twice, once = Dose(grid, np.full(grid.shape, 240.0)), Dose(grid, np.full(grid.shape, 120.0))
    >>> set(ratios(twice, once, [seed], over_gy=100.0, beyond_mm=3.0).tolist())
    {2.0}
    """
    from scipy.spatial import cKDTree

    flat = reference.gy.reshape(-1)
    chosen = np.flatnonzero(flat >= over_gy)
    nz, ny, nx = reference.grid.shape
    z, y, x = np.unravel_index(chosen, (nz, ny, nx))
    points = reference.grid.index_to_mm(np.stack([x, y, z], axis=1))
    seeds = cKDTree(np.vstack([implant.positions_mm for implant in implants]))
    far = seeds.query(points)[0] > beyond_mm
    ratio: NDArray[np.float64] = found.gy.reshape(-1)[chosen[far]] / flat[chosen[far]].astype(np.float64)
    return ratio


def _write(found: Dose, seeds: _Loaded, out: Path) -> None:
    from brachy.io.dicom.write import write_dose

    reference = seeds.plan_uid or uid("plan", seeds.identity.study_uid, seeds.identity.patient_id)
    write_dose(
        found,
        None,
        seeds.identity,
        out,
        plan_instance_uid=reference,
        comment=seeds.model.comment,
    )


def dose_volume_table(
    dose_file: Path,
    structure_file: Path,
    prescriptions: Mapping[str | None, float],
    metrics: Sequence[str] = (),
) -> MetricTable:
    """Metrics of every structure of an RTSTRUCT in the dose of an RTDOSE.

    Parameters
    ----------
    dose_file, structure_file : path
        RTDOSE and RTSTRUCT.
    prescriptions : mapping
        ROI name (None: all others) to Gy; needed by V100_pct and the like.
    metrics : sequence of str
        Metric names; by default volume, mean, minimum, maximum, D90 and D2cc (and V100, V150, V200 with a
        prescription).

    Raises
    ------
    UsageError
        If a metric is unknown, or needs a prescription that is not given.
    BrachyError
        If a file cannot be read, or the two have different frames of reference.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from brachy.io.dicom.write import write_dose, write_structures
    >>> from brachy.io.phantom.file import load_phantom
    >>> case = load_phantom("sphere-35mm")
    >>> flat = Dose(case.grid, np.full(case.grid.shape, 120.0))
    >>> with TemporaryDirectory() as folder:
    ...     dose_file, structures = Path(folder) / "RD.dcm", Path(folder) / "RS.dcm"
    ...     _ = write_structures(case.structures, case, structures)
    ...     _ = write_dose(flat, None, case.identity, dose_file, plan_instance_uid="2.25.1")
    ...     table = dose_volume_table(dose_file, structures, {None: 120.0}, ["V100"])
    >>> table.values["GTV"]
    {'V100_pct': 100.0}
    """
    from brachy.dosimetry.bed import TG_137
    from brachy.dosimetry.dvh import dvh
    from brachy.dosimetry.metrics import metric, parse_metric
    from brachy.io.dicom.read import read_dose, read_structure_set

    names = tuple(parse_metric(name).name for name in metrics) or default_metrics(bool(prescriptions))
    found = read_dose(dose_file)
    drawn = read_structure_set(structure_file, found.frame_of_reference_uid)
    if drawn.left_out and not drawn.structures:
        raise BrachyError(
            f"every ROI of {structure_file.name} ({', '.join(drawn.left_out)}) is in another frame of reference than "
            f"{dose_file.name}: give structures drawn on the CT of this dose"
        )
    patients = {found.patient_id.casefold(), drawn.patient_id.casefold()} - {""}
    if len(patients) > 1:
        raise BrachyError(
            f"{dose_file.name} is of patient '{found.patient_id}' and {structure_file.name} of '{drawn.patient_id}': "
            "give both of one patient"
        )
    known = {structure.name for structure in drawn.structures}
    for roi in prescriptions:
        if roi is not None and roi not in known:
            raise UsageError(f"--prescription {roi}=...: no such ROI; there are {', '.join(sorted(known))}")
    values: dict[str, dict[str, float | None]] = {}
    notes = [*found.assumed, *drawn.assumed]
    if not found.frame_of_reference_uid or not drawn.names_frame:
        which = [dose_file.name] * (not found.frame_of_reference_uid)
        which += [structure_file.name] * (not drawn.names_frame)
        notes.append(
            f"no frame of reference in {' and '.join(which)}: nothing proves that dose and structures lie in one; "
            "taken as one"
        )
    names_drawn = [structure.name for structure in drawn.structures]
    for structure in drawn.structures:
        if not structure.contours_mm:
            notes.append(f"{structure.name} has no contour")
            continue
        several = names_drawn.count(structure.name) > 1
        row = f"{structure.name} (ROI {structure.number})" if several else structure.name
        histogram = dvh(found, structure)
        notes += [f"{structure.name}: {note}" for note in histogram.notes]
        prescription = prescriptions.get(structure.name, prescriptions.get(None))
        found_here = {name: metric(histogram, name, prescription) for name in names}
        values[row] = {name: v if math.isfinite(v) else None for name, v in found_here.items()}
        notes += _spread(structure.name, histogram, prescription)
        notes += doubts(structure, histogram, found, drawn.uid)
    if any(name.startswith("BED") for name in names):
        notes.append(f"BED of a permanent 125I implant, dose to complete decay: {TG_137}")
    return MetricTable(names, values, tuple(_gathered(notes)))


def _gathered(notes: Sequence[str]) -> list[str]:
    """Notes that say the same of several structures as one."""
    of_note: dict[str, list[str]] = {}
    for note in notes:
        roi, colon, what = note.partition(": ")
        of_note.setdefault(what if colon else note, []).append(roi if colon else "")
    return [f"{', '.join(rois)}: {what}" if all(rois) else what for what, rois in of_note.items()]


def _spread(roi: str, histogram: "DVH", prescription: float | None) -> list[str]:
    """What sampling and slices leave open in D90 and, with a prescription, in V100."""
    from brachy.dosimetry.metrics import parse_metric

    parts = []
    for name in UNCERTAIN:
        if parse_metric(name).needs_prescription and prescription is None:
            continue
        spread = histogram.uncertainty(name, prescription)
        _, unit = symbol_and_unit(name)
        parts.append(
            f"{name} +- {spread.total:.2g} {unit} (slices {spread.slices:.2g}, sampling {spread.sampling:.2g})"
        )
    return [f"{roi}: {'; '.join(parts)}"]
