"""Report of what was implanted: placed.csv or JSON, checked against its plan (docs/formats.md).

A row speaks for one seed, or for a whole needle where `seed` is empty. Each seed is in one state; a file that
contradicts the plan or itself is refused by its line.
"""

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brachy.errors import UsageError
from brachy.optimise.replanning.edits import needle_at, place_of
from brachy.patient.plan import Plan, PlanNeedle

PLACED_HEADER = ("template", "hole", "seed", "state", "x_mm", "y_mm", "z_mm")
SEED_STATES = ("", "planned", "measured", "lost")
NEEDLE_STATES = ("", "planned", "blocked", "line")
MOST_BYTES = 5_000_000
FARTHEST_MM = 200.0
"""A measured place farther from the planned needle is taken for a slip or another frame (engineering choice)."""

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Row:
    """One row; `template` from 0, `seed` from 1 at the tip or None for the needle."""

    line: int
    template: int
    hole: str
    seed: int | None
    state: str
    place_mm: Vector | None


@dataclass(frozen=True)
class Placed:
    """Placed and lost seeds, blocked holes and measured needles of a report.

    Parameters
    ----------
    seeds : dict
        Centre of each placed seed by (template, hole, number).
    lost : frozenset
        (template, hole, number) of the seeds that are lost.
    blocked : frozenset
        (template, hole) that cannot be used.
    lines : dict
        (tip, entry) of needles that lie along a measured line, by (template, hole); mm, patient frame (LPS).
    """

    seeds: dict[tuple[int, str, int], Vector]
    lost: frozenset[tuple[int, str, int]]
    blocked: frozenset[tuple[int, str]]
    lines: dict[tuple[int, str], tuple[Vector, Vector]]


def read_placed(path: str | Path, plan: Plan) -> Placed:
    """Read placed.csv, or the same rows as a JSON list of objects.

    Parameters
    ----------
    path : path
        A file whose name ends in .json is JSON.
    plan : Plan
        Whose seeds it speaks of.

    Raises
    ------
    UsageError
        If it cannot be read, or a row contradicts the plan or another row; the message has the line or entry.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UsageError(
                f"{file.name} is larger than {MOST_BYTES // 1_000_000} MB: this is no placed.csv"
            )
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file.name} is not UTF-8 text: save it as CSV") from None
    is_json = file.suffix.lower() == ".json"
    word = "entry" if is_json else "line"
    cells = _json_cells(text, file.name) if is_json else _csv_cells(text, file.name)
    rows: list[Row] = []
    for line, row in cells:
        try:
            rows.append(_row(line, row, plan))
        except UsageError as error:
            raise UsageError(f"{file.name}, {word} {line}: {error}") from None
    return _judged(rows, plan, f"{file.name}, {word}")


def _csv_cells(text: str, name: str) -> list[tuple[int, list[str]]]:
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UsageError(f"{name} is no CSV: {error}") from None
    if not rows or tuple(cell.strip().lower() for cell in rows[0]) != PLACED_HEADER:
        raise UsageError(f"{name}, line 1: the header is not '{','.join(PLACED_HEADER)}'")
    return [
        (line, [cell.strip() for cell in row])
        for line, row in enumerate(rows[1:], 2)
        if any(cell.strip() for cell in row)
    ]


def _json_cells(text: str, name: str) -> list[tuple[int, list[str]]]:
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(
            f"{name} is no JSON: write a list of objects with the columns of placed.csv"
        ) from None
    if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
        raise UsageError(f"{name} is no list of objects with the columns of placed.csv")
    found = []
    for number, each in enumerate(data, 1):
        unknown = sorted(set(each) - set(PLACED_HEADER))
        if unknown:
            raise UsageError(f"{name}, entry {number}: unknown key '{unknown[0][:30]}'")
        cells = [each.get(key) for key in PLACED_HEADER]
        found.append((number, ["" if cell is None else str(cell).strip() for cell in cells]))
    return found


def _row(line: int, cells: list[str], plan: Plan) -> Row:
    if len(cells) != len(PLACED_HEADER):
        raise UsageError(f"{len(cells)} cells, {len(PLACED_HEADER)} are needed")
    *place, state, x, y, z = cells
    template, label, index = place_of(plan, *place)
    known = SEED_STATES if index is not None else NEEDLE_STATES
    if state.lower() not in known:
        raise UsageError(f"state '{state[:20]}' is none of {', '.join(word or 'empty' for word in known)}")
    needle = needle_at(plan, template, label)
    if needle is None and state.lower() != "blocked":
        raise UsageError(f"the plan has no needle in hole {label}")
    if needle is not None and index is not None and index > len(needle.seeds):
        raise UsageError(f"needle {label} has {len(needle.seeds)} seeds, not {index}")
    found = Row(line, template, label, index, state.lower(), _position([x, y, z]))
    _must_be_near(found, needle)
    return found


def _position(cells: list[str]) -> Vector | None:
    if not any(cells):
        return None
    try:
        x, y, z = (float(cell) for cell in cells)
    except ValueError:
        raise UsageError("x_mm, y_mm and z_mm are not three numbers") from None
    if not all(math.isfinite(value) for value in (x, y, z)):
        raise UsageError("x_mm, y_mm and z_mm are not three finite numbers")
    return x, y, z


def _must_be_near(row: Row, needle: PlanNeedle | None) -> None:
    needed = row.state in ("measured", "line")
    if needed and row.place_mm is None:
        raise UsageError(f"state {row.state} needs x_mm, y_mm and z_mm")
    if not needed and row.place_mm is not None:
        raise UsageError(
            f"a place is given for state '{row.state or 'empty'}': only measured and line take one"
        )
    if row.place_mm is None or needle is None:
        return
    off = min(math.dist(row.place_mm, end) for end in (needle.tip_mm, needle.skin_mm, needle.hole_mm))
    if off > FARTHEST_MM:
        raise UsageError(
            f"the place is {off:.0f} mm from the planned needle: give mm in the patient frame of the plan's CT"
        )


def _judged(rows: list[Row], plan: Plan, where: str) -> Placed:
    """Combine the rows; refuse two states of one seed or needle."""
    seen: dict[tuple[int, str, int | None], int] = {}
    lines: dict[tuple[int, str], list[Row]] = {}
    by_needle: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        if not row.state:
            continue
        key = (row.template, row.hole)
        by_needle.setdefault(key, []).append(row)
        if row.state == "line":
            lines.setdefault(key, []).append(row)
            continue
        full = (*key, row.seed)
        if full in seen:
            what = f"seed {row.seed} of {row.hole}" if row.seed else f"needle {row.hole}"
            raise UsageError(f"{where} {row.line}: {what} is in line {seen[full]} already: one state each")
        seen[full] = row.line
    seeds: dict[tuple[int, str, int], Vector] = {}
    lost, blocked = set(), set()
    for key, mine in by_needle.items():
        needle = needle_at(plan, *key)
        states = {row.state for row in mine if row.seed is None}
        own = [row for row in mine if row.seed is not None]
        whole = next((row for row in mine if row.seed is None), None)
        if len(states) > 1:
            raise UsageError(
                f"{where} {mine[-1].line}: needle {key[1]} is {' and '.join(sorted(states))}: one state each"
            )
        if whole is not None and own and states & {"planned", "blocked"}:
            raise UsageError(
                f"{where} {own[0].line}: needle {key[1]} is {whole.state} in line {whole.line}: leave its seeds empty"
            )
        ordered = sorted(needle.seeds, key=lambda seed: seed.depth_mm) if needle is not None else []
        if states == {"blocked"}:
            if any(seed.placed for seed in ordered):
                raise UsageError(
                    f"{where} {mine[0].line}: needle {key[1]} has seeds in place and cannot be blocked"
                )
            blocked.add(key)
        if states == {"planned"}:
            seeds |= {(*key, k): seed.position_mm for k, seed in enumerate(ordered, 1)}
        for row in own:
            assert row.seed is not None
            name = (*key, row.seed)
            if row.state == "lost":
                lost.add(name)
            elif row.state == "planned":
                seeds[name] = ordered[row.seed - 1].position_mm
            elif row.place_mm is not None:
                seeds[name] = row.place_mm
    return Placed(
        seeds, frozenset(lost), frozenset(blocked), {key: _line(found, where) for key, found in lines.items()}
    )


def _line(rows: list[Row], where: str) -> tuple[Vector, Vector]:
    """Tip and entry of a measured needle: two rows, the tip first."""
    if len(rows) != 2 or rows[0].place_mm is None or rows[1].place_mm is None:
        raise UsageError(
            f"{where} {rows[-1].line}: needle {rows[0].hole} on a measured line needs two rows, the tip and the entry"
        )
    tip, entry = rows[0].place_mm, rows[1].place_mm
    if np.linalg.norm(np.subtract(tip, entry)) < 5.0:
        raise UsageError(f"{where} {rows[1].line}: tip and entry of needle {rows[0].hole} are one place")
    return tip, entry
