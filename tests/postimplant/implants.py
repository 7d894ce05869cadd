"""Synthetic implants after the fact: seeds of needles, some lost, some migrated, the CT turned and moved.

As a program it registers 200 of each kind by the seeds and writes the table of docs/verify.md:

    python -m tests.postimplant.implants
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brachy.errors import BrachyError
from brachy.postimplant.registration import by_seeds
from tests.postimplant.rigid import motion, moved

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verify.md"
MARK = "<!-- registration by the seeds: written by `make registration` -->"

SD_MM = 1.0 / np.sqrt(3.0)
"""Along each axis, so that a seed is off by 1 mm (RMS)."""


@dataclass(frozen=True)
class Kind:
    """What is made of an implant."""

    name: str
    seeds: int = 18
    radius_mm: float = 17.5
    lost: int = 3
    migrated: int = 2
    sd_mm: float = SD_MM
    turn_deg: float = 3.0
    phase: bool = True
    """Whether each needle's seeds start at a depth of their own; else all lie on one lattice."""


@dataclass(frozen=True)
class Implant:
    """Planned seeds, found ones in any order, the true motion, and the planned index of each found one (or -1)."""

    planned: np.ndarray
    found: np.ndarray
    matrix: np.ndarray
    which: np.ndarray


def needle_seeds(rng, kind):
    """Seeds every 5 mm in needles 10 mm apart in a ball, some places empty."""
    offset, reach = rng.uniform(-5, 5, 2), int(kind.radius_mm // 10) + 2
    places = []
    for x in 10.0 * np.arange(-reach, reach + 1) + offset[0]:
        for z in 10.0 * np.arange(-reach, reach + 1) + offset[1]:
            half = np.sqrt(max(0.0, kind.radius_mm**2 - x**2 - z**2))
            first = half - rng.uniform(0, 5) if kind.phase else 5.0 * (half // 5.0)
            places += [(x, y, z) for y in np.arange(first, -half, -5.0)]
    places = np.array(places)
    return places[np.sort(rng.permutation(len(places))[: kind.seeds])]


def implant(seed, kind):
    """One implant of a kind; the same for the same seed."""
    rng = np.random.default_rng([seed, 17])
    planned = needle_seeds(rng, kind)
    degrees = np.clip(rng.normal(0.0, kind.turn_deg, 3), -8.0, 8.0)
    matrix = motion(degrees, rng.uniform(-10, 10, 3), planned.mean(axis=0))
    order = rng.permutation(len(planned))
    lost, migrated = order[: kind.lost], order[kind.lost : kind.lost + kind.migrated]
    found = moved(matrix, planned) + kind.sd_mm * rng.normal(size=planned.shape)
    away = rng.normal(size=(len(migrated), 3))
    away *= rng.uniform(10, 40, (len(migrated), 1)) / np.linalg.norm(away, axis=1, keepdims=True)
    found[migrated] += away
    which = np.arange(len(planned))
    which[migrated] = -1
    kept = rng.permutation(np.setdiff1d(np.arange(len(planned)), lost))
    return Implant(planned, found[kept], matrix, which[kept])


def farthest(one, matrix):
    """Largest distance at a planned seed between a transform and the true one, mm."""
    return float(np.linalg.norm(moved(matrix, one.planned) - moved(one.matrix, one.planned), axis=1).max())


def error_by_seeds(one):
    """Error of the registration by the seeds at the worst planned seed, mm; None where it is refused."""
    try:
        return farthest(one, by_seeds(one.planned, one.found).transform)
    except BrachyError:
        return None


def error_of_partners(one):
    """The same of a least-squares fit that is told which seed is which: no fit does better."""
    from scipy.spatial.transform import Rotation

    known = one.which >= 0
    start, end = one.planned[one.which[known]], one.found[known]
    turn, _ = Rotation.align_vectors(end - end.mean(axis=0), start - start.mean(axis=0))
    matrix = np.eye(4)
    matrix[:3, :3] = turn.as_matrix()
    matrix[:3, 3] = end.mean(axis=0) - matrix[:3, :3] @ start.mean(axis=0)
    return farthest(one, matrix)


KINDS = (
    Kind("18 seeds, 1 mm"),
    Kind("18 seeds on a regular lattice, 1 mm", phase=False),
    Kind("18 seeds, 1 mm, turned by 5 degrees an axis", turn_deg=5.0),
    Kind("60 seeds, 6 lost, 4 migrated, 1 mm", seeds=60, radius_mm=27.0, lost=6, migrated=4),
    Kind("10 seeds, 2 lost, 1 migrated, 1 mm", seeds=10, radius_mm=14.0, lost=2, migrated=1),
    Kind("18 seeds, 1 mm along each axis (1.7 mm)", sd_mm=1.0),
    Kind("18 seeds, 2 mm along each axis (3.5 mm)", sd_mm=2.0),
)


def row(kind, count=200):
    """A row of the table: refused, largest error, errors above 1.5 mm, and those of a fit that knows the partners."""
    ones = [implant(seed, kind) for seed in range(count)]
    errors = [error_by_seeds(one) for one in ones]
    taken = [error for error in errors if error is not None]
    best = [error_of_partners(one) for one, error in zip(ones, errors, strict=True) if error is not None]
    above = [f"{sum(e > 1.5 for e in each)}" for each in (taken, best)]
    most = [f"{max(each, default=float('nan')):.2f}" for each in (taken, best)]
    return (
        f"| {kind.name} | {count - len(taken)} of {count} | {most[0]} | {above[0]} | {most[1]} | {above[1]} |"
    )


def main():
    """Write the table between its marks."""
    head = (
        "| implant | refused | largest error at a seed, mm | above 1.5 mm | the same, partners known | above 1.5 mm |\n"
        "|---|---|---|---|---|---|"
    )
    rows = []
    for kind in KINDS:
        rows.append(row(kind))
        print(rows[-1], flush=True)
    before, _, after = PAGE.read_text().split(MARK)
    PAGE.write_text(MARK.join([before, "\n".join(["", head, *rows, ""]), after]))


if __name__ == "__main__":
    main()
