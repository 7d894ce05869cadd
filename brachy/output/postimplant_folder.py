"""Output folder of `brachy verify`, written whole or not at all: verification.json, RT Plan and Dose, CSV, report."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from brachy.check.implanted import check_implanted
from brachy.geometry.grid import Dose, Grid
from brachy.io.dicom.write import write_ct, write_dose, write_structures
from brachy.io.dicom.write.implanted import write_implanted
from brachy.output.csv_tables import number, safe_text, table
from brachy.output.plan_folder import DOSE_MARGIN_MM, DOSE_SPACING_MM, check_destination, whole_folder
from brachy.output.report import PlannedSeeds, write_post_implant_report
from brachy.patient.case import Case
from brachy.patient.privacy import anonymised, nameless, scrubbed
from brachy.patient.uids import identified, uid
from brachy.postimplant.record import ImplantCase, PostImplantRecord
from brachy.postimplant.result import PostImplant
from brachy.postimplant.rows import case_row
from brachy.postimplant.seed_files import GivenSeeds, doubtful
from brachy.writing import write_text_whole

SEEDS_HEADER = (
    "seed", "x_mm", "y_mm", "z_mm", "axis_x", "axis_y", "axis_z", "confidence", "mass", "sd_x_mm", "sd_y_mm", "sd_z_mm",
    "planned", "shift_mm", "shift_along_mm", "shift_across_mm", "angle_deg", "outside_target_mm", "in_organ",
)  # fmt: skip
REVIEW_HEADER = (
    "seed", "action", "x_mm", "y_mm", "z_mm", "axis_x", "axis_y", "axis_z", "confidence", "mass", "sd_x_mm", "sd_y_mm",
    "sd_z_mm", "picture", "doubt",
)  # fmt: skip

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")

FAR_MM = 60.0
"""A seed farther than this from every target does not widen the grid of the RT Dose (engineering choice)."""


def anonymised_post_implant(found: PostImplant) -> PostImplant:
    """The same result without what names the patient (`brachy.patient.privacy`), and without dates."""
    case = anonymised(found.case)
    # what names the form of the file is no text of the patient's
    fixed = {key: value for key, value in found.data.items() if key in ("format", "version", "software")}
    record = PostImplantRecord.model_validate({**scrubbed(found.data, found.case), **fixed})
    identifier = found.record.plan
    if identifier and "." in identifier:  # the UID of a vendor's plan, not the checksum of ours
        identifier = uid("anonymous plan", identifier)
    record = record.model_copy(
        update={
            "plan": identifier,
            "case": _anonymous_row(case),
            "assumed": tuple(_DATE.sub("(date)", sentence) for sentence in record.assumed),
            "warnings": tuple(_DATE.sub("(date)", sentence) for sentence in record.warnings),
        }
    )
    planned = found.planned
    if planned is not None and planned.plan is not None:
        planned = replace(planned, plan=nameless(planned.plan))
    return replace(found, record=record, case=case, planned=planned)


def _anonymous_row(case: Case) -> ImplantCase:
    """Identity of an anonymised case, without structure set and date."""
    return case_row(case).model_copy(update={"structure_set_uid": "", "ct_date": ""})


def write_post_implant(
    found: PostImplant, out: str | os.PathLike[str], *, force: bool = False, review: bool = False
) -> PostImplant:
    """Write the folder of an implant, and check its files.

    Parameters
    ----------
    found : PostImplant
        Of `brachy.verify`.
    out : path
        Folder to write; its parent exists.
    force : bool
        Replace an earlier output of this program.
    review : bool
        Also review.csv and a picture of each doubtful seed, review/*.png.

    Returns
    -------
    PostImplant
        The same with the independent check of the files.

    Raises
    ------
    UsageError
        If the folder exists (and `force` is not given, or it is none of ours), or its parent does not.
    BrachyError
        If it cannot be written. Nothing is left behind.
    """
    check_destination(out, force)
    case = identified(found.case)
    carried = len(case.structures) != len({s.name for s in case.structures if s.number is not None})
    labels = [seed.planned or f"seed {k + 1}" for k, seed in enumerate(found.record.seeds)]
    with whole_folder(out, force) as folder:
        structure_set = ""
        if case.structures and (carried or not case.identity.is_dicom):
            from brachy.io.dicom.write.rtstruct import structure_set_uid

            write_structures(case.structures, case, folder / "RTSTRUCT.dcm")
            structure_set = structure_set_uid(case.structures, case)
        if not case.identity.is_dicom:
            (folder / "ct").mkdir()
            write_ct(case, folder / "ct")
        instance = write_implanted(
            found.model, [labels[k] for k in found.order], case, folder / "RTPLAN.dcm",
            target=found.targets[0], structure_set=structure_set,
        )  # fmt: skip
        write_dose(
            implanted_dose(found), None, case, folder / "RTDOSE.dcm", plan_instance_uid=instance,
            comment=f"{found.model.comment}, as implanted",
        )  # fmt: skip
        write_text_whole(folder / "seeds.csv", seeds_csv(found))
        if review:
            write_review(found, folder)
        sources = {implant.source.name: implant.source.to_dict() for implant in found.implants}
        positions = [seed.position_mm for seed in found.record.as_written().seeds]
        check = check_implanted(folder, positions, sources, found.model.formalism)
        found = replace(found, record=found.record.model_copy(update={"check": check}))
        write_text_whole(folder / "verification.json", found.to_json())
        _write_report(found, folder / "report.html")
    return found


def _write_report(found: PostImplant, path: Path) -> None:
    """The report of the implant, as verification.json has it."""
    given = found.planned
    planned = None
    if given is not None:
        planned = PlannedSeeds(given.labels, given.positions_mm, given.implants, given.axes)
    write_post_implant_report(
        found.record.as_written(), found.case, found.implants, path,
        planned=planned, plan=None if given is None else given.plan,
    )  # fmt: skip


def implanted_dose(found: PostImplant) -> Dose:
    """Dose round the targets and the seeds near them, to complete decay, 1 mm."""
    seeds = np.vstack([implant.positions_mm for implant in found.implants])
    away = np.min([target.structure.distance_mm(seeds) for target in found.targets], axis=0)
    boxes = np.vstack([target.structure.bounds_mm for target in found.targets])
    inner = np.vstack([seeds[away <= FAR_MM], boxes])
    low, high = inner.min(axis=0) - DOSE_MARGIN_MM, inner.max(axis=0) + DOSE_MARGIN_MM
    return found.model.on(Grid.around(low, high, DOSE_SPACING_MM))


def _short(values: Sequence[float | None]) -> list[str]:
    return ["" if value is None or math.isnan(value) else number(value) for value in values]


def seeds_csv(found: PostImplant) -> str:
    """A row a seed: where it is, how sure, which planned one, how far from it. `--seeds` reads it again."""
    rows: list[Sequence[object]] = []
    for k, seed in enumerate(found.record.seeds):
        rows.append((
            k + 1, *_short(seed.position_mm), *_short(seed.axis or [None] * 3),
            *_short([seed.confidence, seed.mass, *seed.position_sd_mm]), safe_text(seed.planned or ""),
            *_short([seed.shift_mm, seed.shift_along_mm, seed.shift_across_mm, seed.angle_deg]),
            *_short([seed.place.outside_mm]), safe_text("; ".join(seed.place.organs)),
        ))  # fmt: skip
    return table(SEEDS_HEADER, rows)


def review_csv(seeds: GivenSeeds, pictures: dict[int, str] | None = None) -> str:
    """The form to correct: every seed with `keep`, every object taken for none with `remove`.

    Change `action` or the position, add rows for seeds that are missing, and give the file to `--seeds`.

    Parameters
    ----------
    seeds : GivenSeeds
        Seeds and doubts.
    pictures : dict, optional
        Name of the picture by row: seeds from 0, then the objects taken for none, in their order.

    Examples
    --------
    >>> one = GivenSeeds(
    ...     np.array([[1.0, 2, 3]]), np.full((1, 3), np.nan), np.ones(1), np.ones(1), np.full((1, 3), np.nan), "given",
    ...     doubts=((np.array([9.0, 9, 9]), "its mass is that of 0.4 seeds", None),),
    ... )
    >>> [row.split(",")[:5] for row in review_csv(one).splitlines()[1:]]
    [['1', 'keep', '1', '2', '3'], ['', 'remove', '9', '9', '9']]
    """
    shown = pictures or {}
    reasons = {row: reason for row, _, reason in doubtful(seeds)}
    rows: list[Sequence[object]] = []
    for k in range(len(seeds)):
        numbers = [*seeds.axes[k], seeds.confidence[k], seeds.mass[k], *seeds.position_sd_mm[k]]
        rows.append((
            k + 1, "keep", *_short(seeds.positions_mm[k].tolist()), *_short([float(v) for v in numbers]),
            shown.get(k, ""), safe_text(reasons.get(k, "")),
        ))  # fmt: skip
    for j, (at, reason, _) in enumerate(doubt for doubt in seeds.doubts if doubt[2] is None):
        blanks = [""] * 8
        rows.append(
            ("", "remove", *_short(at.tolist()), *blanks, shown.get(len(seeds) + j, ""), safe_text(reason))
        )
    return table(REVIEW_HEADER, rows)


def write_review(found: PostImplant, folder: Path) -> None:
    """review.csv, and review/NAME.png of everything doubtful."""
    from brachy.output.figures.review_figure import review_figure

    pictures: dict[int, str] = {}
    marked = doubtful(found.seeds)
    if marked:
        (folder / "review").mkdir()
    for row, at, reason in marked:
        name = (
            f"seed-{row + 1:03d}.png"
            if row < len(found.seeds)
            else f"object-{row - len(found.seeds) + 1:03d}.png"
        )
        review_figure(
            found.case, found.seeds, at, f"{name.removesuffix('.png')}: {reason}", folder / "review" / name
        )
        pictures[row] = f"review/{name}"
    write_text_whole(folder / "review.csv", review_csv(found.seeds, pictures))
