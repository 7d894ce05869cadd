"""Seeds read from a file instead of found on CT: a CSV or a vendor's RTPLAN."""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from brachy import resources
from brachy.errors import BrachyError, UsageError

if TYPE_CHECKING:
    from brachy.io.dicom.read import ImportedPlan
    from brachy.postimplant.seed_finder.seeds import Findings

Float = NDArray[np.float64]

MOST_SEEDS = 5000
FARTHEST_MM = 10_000.0
DOUBTFUL = 0.5
"""A seed of less confidence is doubtful, as the finder has it."""


@dataclass(frozen=True, eq=False)
class GivenSeeds:
    """Seeds after the implant, found or given, in the post-implant frame (LPS, mm).

    Parameters
    ----------
    positions_mm : (m, 3) array
        Centres.
    axes : (m, 3) array
        Unit vectors; rows of NaN where unknown.
    confidence, mass : (m,) arrays
        As the finder gave them; 1 and NaN for seeds that were given.
    position_sd_mm : (m, 3) array
        Standard error of the centre; NaN where unknown.
    doubts : tuple of (position (3,), reason, seed index or None)
        What to look at.
    origin : str
        "found on the CT", or the file.
    imported : ImportedPlan or None
        The vendor's plan they came from, with source, strength and prescription.
    """

    positions_mm: Float
    axes: Float
    confidence: Float
    mass: Float
    position_sd_mm: Float
    origin: str
    doubts: tuple[tuple[Float, str, int | None], ...] = ()
    warnings: tuple[str, ...] = ()
    imported: "ImportedPlan | None" = None

    def __len__(self) -> int:
        return len(self.positions_mm)


def of_findings(found: "Findings") -> GivenSeeds:
    """Seeds as the finder gave them."""
    return GivenSeeds(
        positions_mm=found.positions_mm,
        axes=found.axes,
        confidence=found.confidence,
        mass=np.array([seed.mass for seed in found.seeds]),
        position_sd_mm=np.array([seed.position_sd_mm for seed in found.seeds]).reshape(-1, 3),
        origin="found on the CT",
        doubts=tuple((doubt.position_mm, doubt.reason, doubt.seed) for doubt in found.doubts),
        warnings=found.warnings,
    )


def read_seeds(path: str | Path) -> GivenSeeds:
    """Seeds of a CSV or of an RTPLAN of a permanent implant.

    Parameters
    ----------
    path : path
        CSV with the columns x_mm, y_mm, z_mm (patient frame, LPS) and, where known, axis_x, axis_y, axis_z, confidence,
        mass, sd_x_mm, sd_y_mm, sd_z_mm. A column `action` (review.csv) says `keep` or `remove` a row. Or an RTPLAN.

    Raises
    ------
    UsageError, BrachyError
        If it cannot be read, a value is not a number, two seeds are at one place, or there is no seed; names the line.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "seeds.csv"
    ...     _ = file.write_text("x_mm,y_mm,z_mm,action\\n1,2,3,keep\\n4,5,6,remove\\n")
    ...     read_seeds(file).positions_mm
    array([[1., 2., 3.]])
    """
    file = Path(path)
    if not resources.is_file(file):
        raise UsageError(f"--seeds {path}: no such file; give a CSV with x_mm, y_mm, z_mm, or an RTPLAN")
    try:
        with file.open("rb") as stream:
            start = stream.read(132)
    except OSError as error:
        raise BrachyError(f"cannot read {file.name}: {error.strerror}") from None
    if start[128:132] == b"DICM" or file.suffix.lower() == ".dcm":
        return _of_plan(file)
    return _of_csv(file)


def _of_plan(file: Path) -> GivenSeeds:
    from brachy.io.dicom.read import read_plan

    read = read_plan(file)
    n = len(read)
    return GivenSeeds(
        positions_mm=np.array(read.positions_mm),
        axes=np.full((n, 3), np.nan) if read.axes is None else np.array(read.axes),
        confidence=np.ones(n),
        mass=np.full(n, np.nan),
        position_sd_mm=np.full((n, 3), np.nan),
        origin=file.name,
        imported=read,
    )


def _of_csv(file: Path) -> GivenSeeds:
    try:
        text = resources.read_bounded(file, file.name).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        columns = [(name or "").strip() for name in reader.fieldnames or ()]
    except (OSError, UnicodeDecodeError, csv.Error):
        raise UsageError(f"{file.name} is no CSV in UTF-8: save it as such, or give an RTPLAN") from None
    reader.fieldnames = columns
    for needed in ("x_mm", "y_mm", "z_mm"):
        if needed not in columns:
            raise UsageError(
                f"{file.name} has no column '{needed}': the header needs x_mm, y_mm, z_mm (patient frame, LPS)"
            )
    rows: list[tuple[list[float], list[float], float, float, list[float]]] = []
    try:
        for row in reader:
            where = f"{file.name}, line {reader.line_num}"
            if not any((value or "").strip() for value in row.values() if isinstance(value, str)):
                continue
            if None in row:
                raise UsageError(f"{where} has more fields than the header: write one value a column")
            action = (row.get("action") or "keep").strip().lower()
            if action not in ("keep", "remove"):
                raise UsageError(f"{where}: action '{action}' is neither keep nor remove")
            if action == "remove":
                continue
            at = [_number(row, name, where, needed=True) for name in ("x_mm", "y_mm", "z_mm")]
            axis = [_number(row, name, where) for name in ("axis_x", "axis_y", "axis_z")]
            length = math.sqrt(sum(value * value for value in axis))
            if length < 1e-6:
                raise UsageError(f"{where}: the axis has no length; leave it empty where it is unknown")
            confidence = _number(row, "confidence", where)
            spread = [_number(row, name, where) for name in ("sd_x_mm", "sd_y_mm", "sd_z_mm")]
            if any(value < 0 for value in spread) or not (math.isnan(confidence) or 0 <= confidence <= 1):
                raise UsageError(f"{where}: an SD is below 0 or a confidence is outside 0 to 1")
            rows.append(
                (
                    at,
                    [value / length for value in axis],
                    1.0 if math.isnan(confidence) else confidence,
                    _number(row, "mass", where),
                    spread,
                )
            )
            if len(rows) > MOST_SEEDS:
                raise UsageError(f"{file.name} has more than {MOST_SEEDS} seeds: this is no implant")
    except csv.Error as error:
        raise UsageError(f"{file.name}, line {reader.line_num}: {error}; save it again as CSV") from None
    if not rows:
        raise BrachyError(f"{file.name} has no seed: write a row a seed")
    positions = np.array([row[0] for row in rows])
    _apart(positions, file.name)
    return GivenSeeds(
        positions_mm=positions,
        axes=np.array([row[1] for row in rows]),
        confidence=np.array([row[2] for row in rows]),
        mass=np.array([row[3] for row in rows]),
        position_sd_mm=np.array([row[4] for row in rows]),
        origin=file.name,
    )


def _apart(positions: Float, name: str) -> None:
    from scipy.spatial import cKDTree

    pairs = sorted(cKDTree(positions).query_pairs(0.01))
    if pairs:
        one, other = pairs[0]
        raise UsageError(f"{name}: seeds {one + 1} and {other + 1} are at one place: remove one")


def _number(row: dict[str, str], name: str, where: str, needed: bool = False) -> float:
    text = (row.get(name) or "").strip()
    if not text and not needed:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{where}: {name} '{text}' is not a number") from None
    if not math.isfinite(value) or abs(value) > FARTHEST_MM:
        raise UsageError(f"{where}: {name} {text} is not a position, a direction or a share")
    return value


def doubtful(seeds: GivenSeeds) -> list[tuple[int, Float, str]]:
    """Row in review.csv, place and reason of everything that a person should look at."""
    found: dict[int, tuple[Float, str]] = {}
    row = len(seeds)
    for at, reason, seed in seeds.doubts:
        key = row if seed is None else seed
        row += seed is None
        old = found.get(key)
        found[key] = (at, reason if old is None else f"{old[1]}; {reason}")
    for k in np.flatnonzero(seeds.confidence < DOUBTFUL).tolist():
        found.setdefault(k, (seeds.positions_mm[k], f"confidence {seeds.confidence[k]:.2f}"))
    return [(key, *found[key]) for key in sorted(found)]
