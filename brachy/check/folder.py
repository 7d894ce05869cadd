"""Checks a written plan folder: files are read back from disk; dose, DVH, strengths and rules are recomputed.

RT Plan, RT Dose and RT Structure Set are read with pydicom only, and the dose is recomputed by
`brachy.check.independent`, so that an error of the writer, the reader or the dose kernels is detected.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray

from brachy import resources
from brachy.check.geometry import halton
from brachy.check.independent import Seed, dose_gy
from brachy.check.items import CheckItem, CheckReport, compared
from brachy.check.written_obstacles import contours_of
from brachy.check.written_rules import rule_items
from brachy.errors import BrachyError
from brachy.patient.plan import Plan
from brachy.units import I125_HALF_LIFE_DAYS, SECONDS_PER_DAY, U_PER_MCI_APPARENT

Float = NDArray[np.float64]

DOSE_POINTS = 1500
"""Number of voxels of the RT Dose that are recomputed (engineering choice)."""
DVH_POINTS = 20000
"""Number of points in each target, from a Halton sequence: independent random points would give D90 a standard error of
sqrt(0.1 * 0.9 / n) = 0.2 % in volume, which is over 1 % in dose if the DVH is flat at D90."""

POSITION_TOLERANCE_MM = 0.01
"""Tolerance of seed positions: those in DICOM are rounded to 0.001 mm or finer (engineering choice)."""
DOSE_TOLERANCE = 0.002
"""Tolerance of the dose: twice the 0.1 % of the fast kernels, for the rounding of stored doses (engineering choice)."""
METRIC_TOLERANCE = 0.01
"""Tolerance of D90, of the prescription, and of V100, of the volume: both are sampled (engineering choice)."""
LOADING_TOLERANCE = 0.35
"""Relative tolerance of the total activity for a volume; shapes and protocols differ by this (engineering choice)."""
REPLANNED_LOADING_TOLERANCE = 0.8
"""The same for a replanned implant, 1.35 x 1.33 - 1: simulated procedures end with up to a third more seeds than were
planned (docs/replan.md)."""

# Total apparent activity per prescribed Gy as a function of target volume, from plans of an ellipsoid of 170 cc (83
# seeds of 0.7 mCi for 120 Gy) and of a sphere of 22.4 cc (22 seeds): 0.48 and 0.13 mCi/Gy; a power law through both.
LOADING_CC = (22.4, 170.0)
LOADING_MCI_PER_GY = (22 * 0.7 / 120.0, 83 * 0.7 / 120.0)


def check_plan(folder: str | Path) -> CheckReport:
    """Check a plan folder as written by `brachy plan`.

    Parameters
    ----------
    folder : path
        Folder with plan.json, RTPLAN.dcm, RTDOSE.dcm and RTSTRUCT.dcm.

    Raises
    ------
    BrachyError
        If a file is missing or cannot be read; the message names it.

    Examples
    --------
    >>> check_plan("no-such-folder")
    Traceback (most recent call last):
        ...
    brachy.errors.BrachyError: no plan at no-such-folder: give a plan folder or its plan.json
    """
    place = Path(folder)
    plan = Plan.load(place)
    rtplan, rtdose, rtstruct = (opened(place / f"{name}.dcm") for name in ("RTPLAN", "RTDOSE", "RTSTRUCT"))
    seeds = seeds_of(rtplan, plan)
    items = [
        *_same_patient(plan, rtplan, rtdose, rtstruct),
        *_source_data(plan),
        *_strengths(plan, rtplan),
        *_half_lives(plan, rtplan),
        _positions(plan, seeds),
        *_prescriptions(plan, rtplan),
        *_dose(plan, seeds, rtdose),
        *_targets(plan, seeds, rtstruct),
        *_loading(plan),
        *rule_items(plan, rtplan, rtstruct),
    ]
    return CheckReport.of(items)


def opened(path: Path) -> pydicom.Dataset:
    """A DICOM file of a plan folder; BrachyError where it is missing or cannot be read."""
    try:
        return pydicom.dcmread(path)
    except FileNotFoundError:
        raise BrachyError(f"{path.name} is missing from {path.parent.name}: plan again") from None
    except Exception as error:
        raise BrachyError(f"{path.name} cannot be read ({error}): plan again") from None


def _same(name: str, expected: str, found: str, source: str) -> CheckItem:
    return CheckItem(name, expected, found, None, None, "", expected == found, source)


def _same_patient(
    plan: Plan, rtplan: pydicom.Dataset, rtdose: pydicom.Dataset, rtstruct: pydicom.Dataset
) -> list[CheckItem]:
    patient = {str(ds.PatientID) for ds in (rtplan, rtdose, rtstruct)}
    frames = {
        str(rtplan.FrameOfReferenceUID),
        str(rtdose.FrameOfReferenceUID),
        str(rtstruct.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID),
    }
    return [
        CheckItem(
            "one patient in all files", plan.case.patient_id, ", ".join(sorted(patient)), None, None, "",
            len(patient) == 1, "files read back",
        ),
        CheckItem("one frame of reference in all files", "1", str(len(frames)), None, None, "", len(frames) == 1,
                  "files read back"),
        _same("RT Dose refers to this RT Plan", str(rtplan.SOPInstanceUID),
              str(rtdose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID), "files read back"),
    ]  # fmt: skip


def _source_data(plan: Plan) -> list[CheckItem]:
    items = []
    for index, entry in enumerate(plan.sources):
        shipped = _shipped(entry.model)
        if shipped is None:
            continue
        wrong = _first_difference(shipped, entry.data)
        items.append(
            CheckItem(
                f"TG-43 data of source {index + 1} are those of {entry.model}",
                "the shipped file",
                wrong or "the same",
                None,
                None,
                "",
                not wrong,
                str(shipped.get("reference", "")),
            )
        )
    return items


def _shipped(model: str) -> dict[str, Any] | None:  # a source file before it is checked
    for folder in (resources.folder("sources"), resources.folder("sources") / "unverified"):
        path = folder / f"{model}.toml"
        if path.is_file():
            return tomllib.loads(path.read_text(encoding="utf-8"))
    return None


def _first_difference(expected: Any, found: Any, where: str = "") -> str:
    """Description of the first number of `expected` that differs in `found`, with its dotted name, or ""."""
    if isinstance(expected, Mapping):
        for key, value in expected.items():
            inner = found.get(key) if isinstance(found, Mapping) else None
            wrong = _first_difference(value, inner, f"{where}.{key}".lstrip("."))
            if wrong:
                return wrong
        return ""
    if isinstance(expected, list) and expected and not isinstance(expected[0], str):
        if not isinstance(found, Sequence) or len(found) != len(expected):
            return where
        for row, (one, other) in enumerate(zip(expected, found, strict=True)):
            wrong = _first_difference(one, other, f"{where}[{row + 1}]")
            if wrong:
                return wrong
        return ""
    if isinstance(expected, float | int) and not isinstance(expected, bool):
        same = isinstance(found, float | int) and math.isclose(expected, found, rel_tol=1e-5)
        return "" if same else f"{where}: {found} instead of {expected}"
    return ""


def _strengths(plan: Plan, rtplan: pydicom.Dataset) -> list[CheckItem]:
    items = []
    written = {float(source.ReferenceAirKermaRate) for source in rtplan.SourceSequence}
    for index, entry in enumerate(plan.sources):
        low, high = (mci * U_PER_MCI_APPARENT for mci in plan.protocol.source.allowed_mCi)
        label = f"strength of source {index + 1}"
        items.append(
            compared(f"{label}: U per apparent mCi", U_PER_MCI_APPARENT * entry.apparent_activity_mCi,
                  entry.air_kerma_strength_U, 1e-4, "U", "1.270 U/mCi, Williamson et al., Med. Phys. 26, 2529 (1999)")
        )  # fmt: skip
        decay = 1.0
        if entry.strength_on and entry.implant_on:
            days = np.datetime64(entry.implant_on[:10]) - np.datetime64(entry.strength_on[:10])
            decay = 2.0 ** (-float(days.astype(int)) / entry.half_life_days)
        stock = [mci * U_PER_MCI_APPARENT * decay for mci in plan.protocol.source.stock_mCi]
        ordered = min(stock, key=lambda u: abs(u - entry.air_kerma_strength_U))
        items.append(
            compared(f"{label}: as an activity of the protocol", ordered, entry.air_kerma_strength_U, 1e-4 * ordered,
                  "U", "protocol, decayed to the implantation")
        )  # fmt: skip
        items.append(
            CheckItem(f"{label}: within the protocol", f"{low:.4g}-{high:.4g} U before decay",
                      f"{entry.air_kerma_strength_U / decay:.4g} U", None, None, "",
                      low * (1 - 1e-5) <= entry.air_kerma_strength_U / decay <= high * (1 + 1e-5),
                      plan.protocol.citations.get("source.allowed_mCi", "protocol"))
        )  # fmt: skip
        nearest = min(written, key=lambda u: abs(u - entry.air_kerma_strength_U))
        items.append(
            compared(
                f"{label}: in the RT Plan", entry.air_kerma_strength_U, nearest, 1e-4, "U", "RTPLAN read back"
            )
        )
    return items


def _half_lives(plan: Plan, rtplan: pydicom.Dataset) -> list[CheckItem]:
    chosen = plan.protocol.source.half_life_days
    expected = I125_HALF_LIFE_DAYS if chosen is None else chosen
    source = "AAPM TG-43U1: 59.40 d" if chosen is None else "set by the protocol"
    items = [compared("half-life used", expected, e.half_life_days, 1e-6, "d", source) for e in plan.sources]
    items += [
        compared("half-life in the RT Plan", expected, float(s.SourceIsotopeHalfLife), 1e-4, "d", source)
        for s in rtplan.SourceSequence
    ]
    seconds = expected * SECONDS_PER_DAY / math.log(2.0)
    times = [
        float(c.ChannelTotalTime) for setup in rtplan.ApplicationSetupSequence for c in setup.ChannelSequence
    ]
    worst = max(times, key=lambda t: abs(t - seconds))
    items.append(
        compared(
            "channel total time", seconds, worst, 1e-6, "relative", "T1/2 / ln 2 in seconds", relative=True
        )
    )
    return items


def seeds_of(rtplan: pydicom.Dataset, plan: Plan) -> list[Seed]:
    """Seeds of the RT Plan, with the TG-43 data of the model named in its Source Description."""
    sources = {int(s.SourceNumber): s for s in rtplan.SourceSequence}
    data = {entry.model: entry.data for entry in plan.sources}
    seeds = []
    for setup in rtplan.ApplicationSetupSequence:
        for channel in setup.ChannelSequence:
            source = sources[int(channel.ReferencedSourceNumber)]
            point = channel.BrachyControlPointSequence[0]
            axis = point.get("ControlPointOrientation")
            # the source file's name; Source Model ID holds the maker's name, cut to 16 characters
            model = str(source.get("SourceDescription", ""))
            found = _shipped(model) or data.get(model)
            if found is None:
                raise BrachyError(
                    f"RTPLAN.dcm names seed model '{model}', which the plan has not: plan again"
                )
            seeds.append(
                Seed(
                    tuple(float(v) for v in point.ControlPoint3DPosition),  # type: ignore[arg-type]
                    None if axis is None else tuple(float(v) for v in axis),  # type: ignore[arg-type]
                    float(source.ReferenceAirKermaRate),
                    float(source.SourceIsotopeHalfLife),
                    found,
                )
            )
    return seeds


def _positions(plan: Plan, seeds: list[Seed]) -> CheckItem:
    planned = np.array([s.position_mm for n in plan.needles for s in n.seeds], dtype=float).reshape(-1, 3)
    found = np.array([s.position_mm for s in seeds], dtype=float).reshape(-1, 3)
    if len(planned) != len(found):
        return CheckItem("seeds in the RT Plan", str(len(planned)), str(len(found)), abs(len(planned) - len(found)),
                         0, "seeds", False, "RTPLAN read back")  # fmt: skip
    apart = np.linalg.norm(planned[:, None] - found[None], axis=2)
    # in both directions, so that neither a duplicate nor a missing seed is overlooked
    worst = float(max(apart.min(axis=1).max(), apart.min(axis=0).max()))
    return CheckItem("seed positions in the RT Plan", f"{len(planned)} seeds", f"{len(found)} seeds",
                     float(f"{worst:.3g}"), POSITION_TOLERANCE_MM, "mm", worst <= POSITION_TOLERANCE_MM,
                     "RTPLAN read back")  # fmt: skip


def _prescriptions(plan: Plan, rtplan: pydicom.Dataset) -> list[CheckItem]:
    low, high = plan.protocol.prescription.allowed_gy
    items = []
    doses = sorted(
        float(setup.BrachyApplicationSetupDose)
        for group in rtplan.FractionGroupSequence
        for setup in group.ReferencedBrachyApplicationSetupSequence
    )
    wanted = sorted(plan.target_of(k).prescription_gy for k in range(len(plan.templates)))
    for expected, found in zip(wanted, doses, strict=False):
        items.append(compared("prescription in the RT Plan", expected, found, 1e-4, "Gy", "RTPLAN read back"))
    if len(plan.targets) == 1:
        items.append(
            compared("prescription of the protocol", plan.protocol.prescription.dose_gy,
                  plan.targets[0].prescription_gy, 1e-6, "Gy", "protocol as resolved")
        )  # fmt: skip
    for target in plan.targets:
        items.append(
            CheckItem(f"prescription of {target.roi} within the protocol", f"{low:g}-{high:g} Gy",
                      f"{target.prescription_gy:g} Gy", None, None, "", low <= target.prescription_gy <= high,
                      plan.protocol.citations.get("prescription.allowed_gy", "protocol"))
        )  # fmt: skip
    return items


def _dose(plan: Plan, seeds: list[Seed], rtdose: pydicom.Dataset) -> list[CheckItem]:
    gy = rtdose.pixel_array.astype(np.float64) * float(rtdose.DoseGridScaling)
    low = 0.02 * min(t.prescription_gy for t in plan.targets)
    inner = np.zeros(gy.shape, dtype=bool)
    inner[gy > low] = True
    indices = np.argwhere(inner)
    picked = indices[np.random.default_rng(0).permutation(len(indices))[: 3 * DOSE_POINTS]]
    points = _voxel_centres(rtdose, picked)
    positions = np.array([s.position_mm for s in seeds])
    nearest = np.full(len(points), np.inf)
    for position in positions:
        nearest = np.minimum(nearest, np.linalg.norm(points - position, axis=1))
    # inside a capsule the dose is only a convention of the formalism: nothing is compared there
    outside = nearest > 3.0
    points, picked = points[outside][:DOSE_POINTS], picked[outside][:DOSE_POINTS]
    expected = dose_gy(points, seeds, plan.evaluation.formalism)
    found = gy[tuple(picked.T)]
    ratio = found / expected
    text = f"line source integrated numerically at {len(points)} voxels of the RT Dose"
    quantum = float(rtdose.DoseGridScaling) / low
    return [
        compared("dose, median ratio", 1.0, float(np.median(ratio)), DOSE_TOLERANCE, "", text),
        compared("dose, 99 % of the voxels within", 0.0, float(np.percentile(np.abs(ratio - 1), 99)),
              DOSE_TOLERANCE + quantum, "", text),
    ]  # fmt: skip


def _voxel_centres(rtdose: pydicom.Dataset, index_zyx: NDArray[np.int64]) -> Float:
    """Positions (n, 3) in mm, patient frame, of voxels (n, 3; z, y, x) of an RT Dose."""
    origin = np.array(rtdose.ImagePositionPatient, dtype=float)
    along_row, along_column = np.array(rtdose.ImageOrientationPatient, dtype=float).reshape(2, 3)
    down, across = (float(v) for v in rtdose.PixelSpacing)
    offsets = np.array(rtdose.GridFrameOffsetVector, dtype=float)
    z, y, x = index_zyx.T
    normal = np.cross(along_row, along_column)
    return np.asarray(
        origin
        + x[:, None] * across * along_row
        + y[:, None] * down * along_column
        + (offsets[z] - offsets[0])[:, None] * normal,
        dtype=np.float64,
    )


def points_in(contours: list[Float], count: int) -> Float:
    """Evenly distributed points (count, 3) in axial contours: slabs of half the gap to each neighbour, even-odd."""
    planes: dict[float, list[Polygon]] = {}
    for contour in contours:
        planes.setdefault(round(float(contour[0, 2]), 2), []).append(Polygon(contour[:, :2]))
    heights = np.array(sorted(planes))
    gaps = np.diff(heights)
    ends = 0.5 * (gaps.min() if len(gaps) else 1.0)
    edges = np.concatenate([[heights[0] - ends], heights[:-1] + gaps / 2, [heights[-1] + ends]])
    everything = np.vstack(contours)
    low, high = everything.min(axis=0), everything.max(axis=0)
    kept: list[Float] = []
    drawn = 0
    while sum(map(len, kept)) < count:
        corner, far = np.array([low[0], low[1], edges[0]]), np.array([high[0], high[1], edges[-1]])
        points = corner + (far - corner) * halton(count, drawn)
        drawn += count
        slab = np.searchsorted(edges, points[:, 2]) - 1
        inside = np.zeros(count, dtype=bool)
        for k, height in enumerate(heights):
            here = np.flatnonzero(slab == k)
            for polygon in planes[height]:
                inside[here] ^= polygon.contains_points(points[here, :2])
        kept.append(points[inside])
    return np.vstack(kept)[:count]


def are_axial(contours: list[Float]) -> bool:
    """Whether there are contours, each at one height."""
    return bool(contours) and all(np.ptp(contour[:, 2]) <= 1e-3 for contour in contours)


def _targets(plan: Plan, seeds: list[Seed], rtstruct: pydicom.Dataset) -> list[CheckItem]:
    items = []
    text = f"{DVH_POINTS} Halton points in the contours of the RTSTRUCT, dose recomputed"
    for target in plan.targets:
        values = plan.evaluation.structures.get(target.roi, {})
        contours = contours_of(rtstruct, target.roi)
        if not are_axial(contours):
            items += [
                CheckItem(f"{name} of {target.roi}", "-", f"{values[name]:.6g}", None, None, "", None,
                          "not recomputed: its contours in the RTSTRUCT are not axial")
                for name in ("D90_gy", "V100_pct")
                if values.get(name) is not None
            ]  # fmt: skip
            continue
        gy = dose_gy(points_in(contours, DVH_POINTS), seeds, plan.evaluation.formalism)
        planned_d90, planned_v100 = values.get("D90_gy"), values.get("V100_pct")
        rx = target.prescription_gy
        if planned_d90 is not None:
            d90 = float(np.percentile(gy, 10))
            items.append(
                compared(f"D90 of {target.roi}", d90, planned_d90, METRIC_TOLERANCE * rx, "Gy", text)
            )
        if planned_v100 is not None:
            v100 = 100.0 * float(np.mean(gy >= rx))
            items.append(
                compared(f"V100 of {target.roi}", v100, planned_v100, 100 * METRIC_TOLERANCE, "%", text)
            )
    return items


def _loading(plan: Plan) -> list[CheckItem]:
    """Total activity compared with that usual for the volume; only for one target, for which the rule holds."""
    if len(plan.targets) != 1:
        return []
    target = plan.targets[0]
    total = sum(plan.sources[s.source].air_kerma_strength_U for n in plan.needles for s in n.seeds)
    found = total / U_PER_MCI_APPARENT / target.prescription_gy
    power = math.log(LOADING_MCI_PER_GY[1] / LOADING_MCI_PER_GY[0]) / math.log(LOADING_CC[1] / LOADING_CC[0])
    expected = LOADING_MCI_PER_GY[1] * (target.planned_volume_cc / LOADING_CC[1]) ** power
    text = "83 seeds of 0.7 mCi for 120 Gy in 170 cc, 22 in 22.4 cc; power law (engineering choice)"
    return [
        compared(
            "total activity for the volume",
            expected,
            found,
            LOADING_TOLERANCE if plan.parent is None else REPLANNED_LOADING_TOLERANCE,
            "mCi/Gy, relative",
            text,
            True,
        )
    ]
