"""Compares dose and DVH with clinical planning systems, on public data sets that the user provides (`--data DIR`).

DIR contains `prostate_postimplant_day1` (a VariSeed 8 export of a real implant), `dvh_eclipse_prostate` (SlicerRT's
test data, with Eclipse's table) and `dvh_breast` (dicompyler's test data); a missing set is a failed comparison.
"""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brachy.check.items import CheckItem
from brachy.dosimetry.dvh import dvh
from brachy.dosimetry.tg43 import dose
from brachy.errors import BrachyError
from brachy.geometry.structures import Structure
from brachy.io.dicom.read import read_dose, read_plan, read_structure_set

Float = NDArray[np.float64]

VARISEED = "VariSeed 8, STM1251, 1D; day-1 post-implant study, public and anonymised"
ECLIPSE = "Eclipse, DVH table of SlicerRT's test data"
BREAST = "planning system's own DVH, test data of dicompyler"

END_SLABS = (
    "; it tapers a structure beyond its last contour, here the end slabs keep its outline half a slice on"
)


def clinical_items(data: Path) -> Iterator[CheckItem]:
    """All comparisons with the data sets in a folder.

    Raises
    ------
    BrachyError
        If there is no such folder, or a file of a data set cannot be read.
    """
    if not data.is_dir():
        raise BrachyError(f"no folder {data}: give the folder that holds the data sets")
    sets: tuple[tuple[str, Callable[[Path], Iterator[CheckItem]]], ...] = (
        ("prostate_postimplant_day1", _variseed),
        ("dvh_eclipse_prostate", _eclipse),
        ("dvh_breast", _breast),
    )
    for name, compare in sets:
        if not (data / name).is_dir():
            yield CheckItem(
                f"data set {name}", "to be compared", "not there", None, None, "", False, str(data.name)
            )
            continue
        try:
            yield from compare(data / name)
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise BrachyError(f"data set {name} cannot be read: {error}") from None


def _row(name: str, expected: float, found: float, tolerance: float, unit: str, source: str) -> CheckItem:
    """Comparison by the absolute difference, or with the unit % by the difference relative to the expected value."""
    relative = unit == "%"
    difference = abs(found - expected) * (100.0 / abs(expected) if relative else 1.0)
    return CheckItem(
        name, f"{expected:.6g}", f"{found:.6g}", float(f"{difference:.2g}"), tolerance, unit,
        bool(difference <= tolerance), source,
    )  # fmt: skip


def _variseed(folder: Path) -> Iterator[CheckItem]:
    """Dose and metrics of a real implant as computed by VariSeed."""
    files = folder / "dicom"
    plan, reference = read_plan(files / "PL001.dcm"), read_dose(files / "DO001.dcm")
    implants = plan.implants()
    gy, written = dose(reference.grid, implants).gy, reference.gy
    centres = reference.grid.centres_mm()
    nearest = np.full(len(centres), np.inf)
    for position in plan.positions_mm:
        nearest = np.minimum(nearest, np.linalg.norm(centres - position, axis=1))
    away = nearest.reshape(written.shape)
    ratio = np.divide(gy, written, out=np.ones_like(written, dtype=np.float64), where=written > 0)
    high, low = ratio[(written > 100) & (away > 3)], ratio[(written > 5) & (away > 5)]
    title = "day-1 implant: median dose ratio, over 100 Gy, beyond 3 mm of a seed"
    yield _row(title, 1.0, float(np.median(high)), 0.001, "", VARISEED)
    title = "day-1 implant: median dose ratio, over 5 Gy, beyond 5 mm of a seed"
    yield _row(
        title, 1.0, float(np.median(low)), 0.004, "", VARISEED + "; g is interpolated log-linearly here"
    )
    within = 100.0 * float(np.mean(np.abs(low - 1) <= 0.007))
    yield _row(
        "day-1 implant: voxels within 0.7 %, over 5 Gy, beyond 5 mm, %", 100.0, within, 1.0, "", VARISEED
    )
    truth = json.loads((folder / "truth" / "truth.json").read_text("utf-8"))["structures"]
    tolerances = {
        "Pro": {"volume_cc": 0.2, "D90_Gy": 0.8, "V145_cc": 0.2, "V217.5_cc": 0.25, "V100_cc": 0.1},
        "Ur": {"volume_cc": 0.0045, "D90_Gy": 0.8, "V145_cc": 0.01, "V217.5_cc": 0.01},
        "Rec": {"volume_cc": 0.08, "D90_Gy": 0.2, "V145_cc": 0.01},
    }
    for structure in read_structure_set(files / "SS001.dcm").structures:
        start = next(key for key in tolerances if structure.name.startswith(key))
        values = next(values for name, values in truth.items() if name.startswith(start))
        found = dvh(implants, structure, prescription_gy=145.0)
        for name, tolerance in tolerances[start].items():
            kind = name.split("_")[0]
            value = (
                found.volume_cc
                if kind == "volume"
                else found.D(90)
                if kind == "D90"
                else found.V(float(kind[1:]))
            )
            title = f"day-1 implant, {structure.name}: {name.replace('_', ' ')}"
            yield _row(title, float(values[f"TPS_{name}"]), value, tolerance, name.split("_")[-1], VARISEED)


def _eclipse(folder: Path) -> Iterator[CheckItem]:
    """DVH of an external-beam dose as tabulated by Eclipse."""
    table = (folder / "reference" / "EclipseProstate_DvhTable_Eclipse.csv").read_text("utf-8")
    rows = list(csv.reader(table.splitlines()))
    gy = read_dose(folder / "dicom" / "RTDOSE.dcm")
    drawn = {
        s.name.replace(" ", ""): s for s in read_structure_set(folder / "dicom" / "RTSTRUCT.dcm").structures
    }
    for column in range(0, len(rows[0]) - 1, 2):
        name = rows[0][column].removesuffix("_DvhArray Dose (Gy)")
        if name == "BODY" or name not in drawn:
            continue
        volume = float(rows[0][column + 1].split("% of ")[1].split(" cc")[0])
        points = np.array(
            [row[column : column + 2] for row in rows[1:] if row[column] and row[column + 1]], dtype=float
        )
        found = dvh(gy, drawn[name])
        percent = 1.5 if name == "Rectum" else 1.0
        for label, expected, value in (
            ("D95, Gy", float(np.interp(-95, -points[:, 1], points[:, 0])), found.D(95)),
            ("D50, Gy", float(np.interp(-50, -points[:, 1], points[:, 0])), found.D(50)),
            ("mean, Gy", float(np.trapezoid(points[:, 1], points[:, 0])) / 100.0, found.mean_gy),
        ):
            yield _row(f"Eclipse, {name}: {label}", expected, value, percent, "%", ECLIPSE)
        yield _volume(
            f"Eclipse, {name}: volume, cc",
            volume,
            found.volume_cc,
            drawn[name],
            100.0 * 0.05 / volume,
            ECLIPSE,
        )


def _breast(folder: Path) -> Iterator[CheckItem]:
    """Mean doses and volumes of an external-beam plan as stated by its planning system."""
    stated = json.loads((folder / "reference" / "tps_dvh_vs_dicompyler.json").read_text("utf-8"))
    gy = read_dose(folder / "dicom" / "rtdose.dcm")
    drawn = {s.name: s for s in read_structure_set(folder / "dicom" / "rtss.dcm").structures}
    for name in ("Heart", "Lt Lung", "Tumor Bed Block"):
        values = stated[name]["TPS"]
        found = dvh(gy, drawn[name])
        yield _row(f"breast, {name}: mean, Gy", values["mean"], found.mean_gy, 1.0, "%", BREAST)
        yield _volume(f"breast, {name}: volume, cc", values["vol"], found.volume_cc, drawn[name], 0.0, BREAST)


def _volume(
    name: str, expected: float, found: float, structure: Structure, rounding: float, source: str
) -> CheckItem:
    """Comparison of a volume with a tolerance of 1 %, or of the volume of the two end half-slabs if that is more."""
    planes = structure.planes()
    outer = sum(0.5 * plane.thickness_mm * plane.area_mm2 for plane in (planes[0], planes[-1]))
    ends = 100.0 * outer / 1000.0 / expected
    tolerance = max(1.0, ends) + rounding
    return _row(
        name, expected, found, float(f"{tolerance:.2g}"), "%", source + (END_SLABS if tolerance > 1.2 else "")
    )
