"""The planned implant: seeds with names and needles, strengths, prescriptions; from plan.json or a vendor's RTPLAN."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import source_warnings
from brachy.errors import BrachyError
from brachy.geometry.structures import Structure
from brachy.patient.plan import Plan

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Planned:
    """A planned implant, in the frame of the planning CT (LPS, mm).

    Parameters
    ----------
    labels : tuple of str
        Name of each seed: "C4.2" is the second from the tip in hole C4; "2:C4.2" where there are several templates.
    needles : tuple of str
        Name of each seed's needle, "" where none is known.
    positions_mm : (n, 3) array
        Centres.
    axes : (n, 3) array or None
        Unit vectors from skin to tip.
    implants : tuple of Implant
        The same seeds by kind, with source and strength at implantation.
    kind_of : (n,) int array
        Index of each seed's implant.
    prescriptions : dict of str to float
        Gy by ROI; "" where the plan names no ROI.
    margins : dict of str to float
        Planned margin by ROI, mm.
    """

    labels: tuple[str, ...]
    needles: tuple[str, ...]
    positions_mm: Float
    axes: Float | None
    implants: tuple[Implant, ...]
    kind_of: NDArray[np.int64]
    prescriptions: dict[str, float]
    margins: dict[str, float]
    plan: Plan | None = None
    patient_id: str = ""
    frame_of_reference_uid: str = ""
    structure_set_uid: str = ""
    identifier: str = ""
    implant_on: str = ""
    """ISO date for which the strengths of `implants` are stated, "" if unknown."""
    planned_on: str = ""
    """ISO date of the implantation that the plan keeps, "" if unknown."""
    date_assumed: bool = False
    """Whether `planned_on` was only taken from the planning CT."""
    structures: tuple[Structure, ...] = ()
    assumed: tuple[str, ...] = ()
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.positions_mm)


def planned_from(
    path: str | Path,
    source: str | None = None,
    accept_unverified: bool = False,
    accept_strength: bool = False,
) -> Planned:
    """Planned seeds of a plan folder, a plan.json, or a vendor's RTPLAN of a permanent implant.

    Parameters
    ----------
    path : path
        What was planned.
    source : str, optional
        Seed model of a vendor's plan whose own name of it is not known.
    accept_unverified : bool
        Also use a model whose tables were seen in one place only.
    accept_strength : bool
        Take a strength of a vendor's plan that no permanent seed usually has.

    Raises
    ------
    BrachyError
        If it cannot be read, has no seed, or is no permanent implant.
    """
    file = Path(path)
    if not file.exists():
        raise BrachyError(f"no plan at {path}: give a plan folder, a plan.json or an RTPLAN")
    if file.is_dir() or file.suffix.lower() == ".json":
        return planned_of(Plan.load(file), file if file.is_dir() else file.parent)
    return _of_vendor(file, source, accept_unverified, accept_strength)


def planned_of(plan: Plan, folder: Path | None = None) -> Planned:
    """Planned seeds of a plan; structures and frame of reference from the DICOM files of its folder, if given."""
    if plan.seed_count == 0:
        raise BrachyError("the plan has no seed: there is nothing to compare with")
    several = len(plan.templates) > 1
    rows = []
    for needle in plan.needles:
        hole = f"{needle.template + 1}:{needle.hole}" if several else needle.hole
        for number, seed in enumerate(sorted(needle.seeds, key=lambda each: each.depth_mm), 1):
            rows.append((f"{hole}.{number}", hole, seed.position_mm, needle.direction, seed.source))
    frame, structures = plan.case.frame_of_reference_uid, tuple[Structure, ...]()
    if folder is not None and (folder / "RTSTRUCT.dcm").is_file():
        from brachy.io.dicom.read import read_structure_set

        drawn = read_structure_set(folder / "RTSTRUCT.dcm")
        structures = drawn.structures
        frame = frame or drawn.frame_of_reference_uid
    notes = [note for implant in plan.implants() for note in source_warnings(implant.source)]
    return Planned(
        labels=tuple(row[0] for row in rows),
        needles=tuple(row[1] for row in rows),
        positions_mm=np.array([row[2] for row in rows], dtype=np.float64),
        axes=np.array([row[3] for row in rows], dtype=np.float64),
        implants=tuple(plan.implants()),
        kind_of=np.array([row[4] for row in rows], dtype=np.int64),
        prescriptions={target.roi: target.prescription_gy for target in plan.targets},
        margins={target.roi: target.margin_mm for target in plan.targets},
        plan=plan,
        patient_id=plan.case.patient_id,
        frame_of_reference_uid=frame,
        identifier=plan.checksum or plan.sealed().checksum,
        implant_on=plan.sources[0].implant_on,
        planned_on=plan.sources[0].implant_on,
        date_assumed=plan.implant_date_assumed,
        structures=structures,
        assumed=tuple(dict.fromkeys(notes)),
        folder=folder,
    )


def _of_vendor(file: Path, source: str | None, accept_unverified: bool, accept_strength: bool) -> Planned:
    from brachy.io.dicom.read import read_plan

    read = read_plan(file)
    implants = read.implants(
        source=source, accept_unverified=accept_unverified, accept_strength=accept_strength
    )
    used = [index for index in range(len(read.sources)) if (read.source_of == index).any()]
    counts: dict[tuple[int, str], int] = {}
    labels, needles = [], []
    for n, (setup, needle) in enumerate(zip(read.setup_of.tolist(), read.applicator_of, strict=True), 1):
        if not needle:  # some systems make a setup of each seed and name no needle
            labels.append(f"{n}")
            needles.append("")
            continue
        counts[setup, needle] = counts.get((setup, needle), 0) + 1
        labels.append(f"{needle}.{counts[setup, needle]}")
        needles.append(needle)
    if len(set(labels)) < len(labels):
        labels = [f"{label} (#{n})" for n, label in enumerate(labels, 1)]
    notes = dict.fromkeys(note for implant in implants for note in source_warnings(implant.source))
    reference = next((s.reference for s in read.sources if s.reference is not None), None)
    return Planned(
        labels=tuple(labels),
        needles=tuple(needles),
        positions_mm=np.array(read.positions_mm),
        axes=None if read.axes is None else np.array(read.axes),
        implants=tuple(implants),
        kind_of=np.array([used.index(index) for index in read.source_of.tolist()], dtype=np.int64),
        prescriptions={} if read.prescription_gy is None else {"": read.prescription_gy},
        margins={},
        patient_id=read.patient_id,
        frame_of_reference_uid=read.frame_of_reference_uid,
        structure_set_uid=read.structure_set_uid,
        identifier=read.uid,
        implant_on="" if reference is None else reference.date().isoformat(),
        planned_on="" if read.plan_date is None else read.plan_date.isoformat(),
        assumed=(*read.assumed, *notes),
        folder=file.parent,
    )
