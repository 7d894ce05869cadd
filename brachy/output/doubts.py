"""Doubts about a dose file: a mean beyond any implant, or a DVH in the file that says something else."""

from brachy.dosimetry.metrics import DVH, metric
from brachy.geometry.structures import Structure
from brachy.io.dicom.rtdose import ImportedDose

MOST_MEAN_GY = 1000.0
"""A structure of `LEAST_DOUBTED_CC` or more with a mean above this is questioned (engineering choice: a prostate has a
mean of some 300 Gy)."""

LEAST_DOUBTED_CC = 1.0
"""Smaller structures may lie at a seed, where the dose has no upper bound (engineering choice)."""

OWN_DVH_TOLERANCE = 0.1
"""Part by which the median dose may differ from that of the DVH in the file (engineering choice: planning
systems differ by a few per cent in volume and sampling)."""


def doubts(structure: Structure, histogram: DVH, dose: ImportedDose, structure_set_uid: str) -> list[str]:
    """Sentences on a dose that no implant gives, or that is not the one of the DVH in the dose file."""
    notes = []
    mean, median = (metric(histogram, name, None) for name in ("mean", "D50"))
    if mean > MOST_MEAN_GY and structure.volume_cc >= LEAST_DOUBTED_CC:
        notes.append(
            f"{structure.name}: its mean dose of {mean:.0f} Gy is beyond any implant: is the dose in cGy?"
        )
    if dose.structure_set_uid and structure_set_uid not in ("", dose.structure_set_uid):
        return notes  # numbers of ROIs are those of another structure set
    for own in dose.dvhs:
        if own.roi_number != structure.number or own.median_gy is None:
            continue
        if abs(median - own.median_gy) > max(1.0, OWN_DVH_TOLERANCE * own.median_gy):
            notes.append(
                f"{structure.name}: half of it gets {median:.1f} Gy or more by the dose grid, {own.median_gy:.1f} Gy "
                "by the file's own DVH: the unit of one of them may be wrong"
            )
    return notes
