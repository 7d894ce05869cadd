"""Independent check of an implant as written by `brachy verify`: RT Plan and RT Dose read back, dose by quadrature."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brachy.check.folder import DOSE_TOLERANCE, _voxel_centres, opened
from brachy.check.independent import Seed, dose_gy
from brachy.check.items import CheckItem, CheckReport, compared

POINTS = 1500
"""Number of voxels of the RT Dose that are recomputed (engineering choice, as for a plan)."""

POSITION_TOLERANCE_MM = 0.01
"""Tolerance of seed positions (engineering choice, as for a plan)."""
NEAR_MM = 3.0
"""Voxels nearer to a seed than this are not compared (engineering choice, as for a plan)."""


def check_implanted(
    folder: Path, positions_mm: np.typing.ArrayLike, sources: Mapping[str, Mapping[str, Any]], formalism: str
) -> CheckReport:
    """Compare RTPLAN.dcm with the seeds of verification.json, and RTDOSE.dcm with an independently computed dose.

    Parameters
    ----------
    folder : Path
        Folder with RTPLAN.dcm and RTDOSE.dcm.
    positions_mm : (n, 3) array
        Seed centres as in verification.json, patient frame, mm.
    sources : mapping
        Contents of the source files by the names that the RT Plan uses.
    formalism : str
        "1D" or "2D".

    Raises
    ------
    BrachyError
        If a file is missing or cannot be read.
    """
    rtplan, rtdose = opened(folder / "RTPLAN.dcm"), opened(folder / "RTDOSE.dcm")
    kinds = {int(item.SourceNumber): item for item in rtplan.SourceSequence}
    seeds = []
    for setup in rtplan.ApplicationSetupSequence:
        for channel in setup.ChannelSequence:
            kind, point = kinds[int(channel.ReferencedSourceNumber)], channel.BrachyControlPointSequence[0]
            x, y, z = map(float, point.ControlPoint3DPosition)
            axis = None
            if "ControlPointOrientation" in point:
                u, v, w = map(float, point.ControlPointOrientation)
                axis = (u, v, w)
            seeds.append(
                Seed((x, y, z), axis, float(kind.ReferenceAirKermaRate), float(kind.SourceIsotopeHalfLife),
                     sources[str(kind.SourceDescription)])
            )  # fmt: skip
    written = np.array([seed.position_mm for seed in seeds])
    given = np.asarray(positions_mm, dtype=np.float64).reshape(-1, 3)
    items = [
        CheckItem(
            "seeds in the RT Plan", str(len(given)), str(len(seeds)), None, None, "", len(given) == len(seeds),
            "RTPLAN.dcm beside verification.json",
        )
    ]  # fmt: skip
    if len(given) == len(seeds):
        apart = np.linalg.norm(written[np.lexsort(written.T)] - given[np.lexsort(given.T)], axis=1)
        items.append(
            compared("seed positions", 0.0, float(apart.max()), POSITION_TOLERANCE_MM, "mm",
                     "RTPLAN.dcm beside verification.json")
        )  # fmt: skip
    gy = rtdose.pixel_array.astype(np.float64) * float(rtdose.DoseGridScaling)
    indices = np.argwhere(gy > 0.02 * float(np.median(gy[gy > np.percentile(gy, 99)])))
    picked = indices[np.random.default_rng(0).permutation(len(indices))[: 3 * POINTS]]
    points = _voxel_centres(rtdose, picked)
    nearest = np.full(len(points), np.inf)
    for at in written:
        nearest = np.minimum(nearest, np.linalg.norm(points - at, axis=1))
    points, picked = points[nearest > NEAR_MM][:POINTS], picked[nearest > NEAR_MM][:POINTS]
    expected = dose_gy(points, seeds, formalism)
    ratio = gy[tuple(picked.T)] / expected
    quantum = float(np.max(float(rtdose.DoseGridScaling) / expected))
    text = f"line source integrated numerically at {len(points)} voxels of the RT Dose"
    items += [
        compared("dose, median ratio", 1.0, float(np.median(ratio)), DOSE_TOLERANCE, "", text),
        compared("dose, 99 % of the voxels within", 0.0, float(np.percentile(np.abs(ratio - 1), 99)),
                 DOSE_TOLERANCE + quantum, "", text),
    ]  # fmt: skip
    return CheckReport.of(items)
