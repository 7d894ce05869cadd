"""Edits by hand: reads edits.csv and checks each edit against the plan.

A row adds, moves or removes a seed, or a whole needle where `seed` is empty. Depths are from the hole along the needle.
"""

import csv
import io
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from brachy.errors import UsageError
from brachy.needles.template import TemplateLayout
from brachy.patient.plan import Plan, PlanNeedle

_Place = tuple[float, int, tuple[float, float, float] | None]

HEADER = ("action", "template", "hole", "seed", "depth_mm")
ACTIONS = ("add", "move", "remove")
MOST_BYTES = 1_000_000
SAME_MM = 0.01
"""Two depths this near are the same place (a position in plan.json has 6 significant digits)."""


@dataclass(frozen=True)
class Edit:
    """One change; `template` counts from 0, `seed` from 1 at the tip and is None for a whole needle."""

    line: int
    action: str
    template: int
    hole: str
    seed: int | None
    depth_mm: float | None


@dataclass(frozen=True)
class EditedNeedle:
    """Seeds of a needle after the edits: depths of the centres from the hole, mm, deepest first, and sources."""

    template: int
    hole: str
    depths_mm: tuple[float, ...]
    sources: tuple[int, ...]
    kept_mm: tuple[tuple[float, float, float] | None, ...]
    """Positions of the seeds that stay where they were, to the last digit; None for one that was added or moved."""


def read_edits(path: str | Path, plan: Plan) -> tuple[Edit, ...]:
    """Edits of a CSV file, each checked against the plan.

    Parameters
    ----------
    path : path
        CSV with the columns `action, template, hole, seed, depth_mm`; `action` is add, move or remove.
    plan : Plan
        What is edited.

    Raises
    ------
    UsageError
        If a row cannot be meant: the message has its line.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UsageError(f"{file.name} is larger than {MOST_BYTES // 1000} kB: this is no list of edits")
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file.name} is not UTF-8 text: save it as CSV") from None
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UsageError(f"{file.name} is no CSV: {error}") from None
    if not rows or tuple(cell.strip().lower() for cell in rows[0]) != HEADER:
        raise UsageError(f"{file.name}, line 1: the header is not '{','.join(HEADER)}'")
    found: list[Edit] = []
    for line, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            found.append(_edit(line, [cell.strip() for cell in row], plan))
        except UsageError as error:
            raise UsageError(f"{file.name}, line {line}: {error}") from None
        for earlier in found[:-1]:
            _must_differ(earlier, found[-1], file.name)
    if not found:
        raise UsageError(f"{file.name} has no edit: write a row for each change")
    return tuple(found)


def _edit(line: int, row: list[str], plan: Plan) -> Edit:
    if len(row) != len(HEADER):
        raise UsageError(f"{len(row)} cells, {len(HEADER)} are needed")
    action, *place, depth = row
    if action.lower() not in ACTIONS:
        raise UsageError(f"action '{action[:20]}' is none of {', '.join(ACTIONS)}")
    template, label, index = place_of(plan, *place)
    try:
        mm = float(depth) if depth else None
    except ValueError:
        raise UsageError(f"depth_mm '{depth[:20]}' is no number") from None
    longest = plan.protocol.needle.max_needle_mm
    if mm is not None and not (math.isfinite(mm) and 0 < mm <= longest):
        raise UsageError(f"depth_mm {mm:g} is not between 0 and the needle's length, {longest:g} mm")
    edit = Edit(line, action.lower(), template, label, index, mm)
    _must_fit(edit, needle_at(plan, template, label))
    return edit


def place_of(plan: Plan, template: str, hole: str, seed: str) -> tuple[int, str, int | None]:
    """Template (from 0), hole and seed (from 1 at the tip, None for the whole needle) that three cells name.

    Raises
    ------
    UsageError
        If a cell is not of its form or the plan's template has no such hole.
    """
    number = int(template) if template.isdecimal() and len(template) < 6 else 0
    if not 1 <= number <= len(plan.templates):
        raise UsageError(f"template '{template[:20]}' is none of 1-{len(plan.templates)}")
    layout = TemplateLayout.of(plan.templates[number - 1])
    label = hole.lstrip("'").strip().upper()
    if not layout.has(label):
        raise UsageError(f"template {number} has no hole {label}")
    index = int(seed) if seed.isdecimal() and len(seed) < 6 else None
    if seed and not index:
        raise UsageError(f"seed '{seed[:20]}' is no number from 1, counted from the tip")
    return number - 1, label, index


def _must_fit(edit: Edit, needle: PlanNeedle | None) -> None:
    """Refuse an edit of something the plan does not have, or without what it needs."""
    if needle is not None and needle.begun:
        raise UsageError(
            f"needle {edit.hole} is in the patient: what is placed is not edited, see `brachy replan`"
        )
    if edit.action == "add":
        if edit.seed is not None:
            raise UsageError("a seed that is added has no number yet: leave `seed` empty")
        if edit.depth_mm is None:
            raise UsageError("add needs depth_mm, from the hole to the seed's centre")
        return
    if needle is None:
        raise UsageError(f"the plan has no needle in hole {edit.hole}")
    if edit.seed is not None and edit.seed > len(needle.seeds):
        raise UsageError(f"needle {edit.hole} has {len(needle.seeds)} seeds, not {edit.seed}")
    if edit.action == "move" and edit.depth_mm is None:
        what = "the seed's centre" if edit.seed is not None else "the deepest seed's centre"
        raise UsageError(f"move needs depth_mm, from the hole to {what}")
    if edit.action == "remove" and edit.depth_mm is not None:
        raise UsageError("remove takes no depth_mm")


def _must_differ(one: Edit, other: Edit, name: str) -> None:
    same = (one.template, one.hole) == (other.template, other.hole)
    if not same or "add" in (one.action, other.action):
        return
    if one.seed == other.seed or None in (one.seed, other.seed):
        what = f"seed {other.seed} of" if one.seed == other.seed and other.seed else "needle"
        raise UsageError(
            f"{name}, line {other.line}: {what} {other.hole} is edited in line {one.line} already"
        )


def needle_at(plan: Plan, template: int, hole: str) -> PlanNeedle | None:
    """The needle in a hole, None where there is none."""
    return next((n for n in plan.needles if n.template == template and n.hole == hole), None)


def edited_needles(edits: tuple[Edit, ...], plan: Plan) -> tuple[EditedNeedle, ...]:
    """Seeds of each edited needle after the edits; none where the needle is removed.

    Raises
    ------
    UsageError
        If two seeds would lie in one place.

    Examples
    --------
    >>> edited_needles((), None)
    ()
    """
    found = []
    for template, hole in dict.fromkeys((edit.template, edit.hole) for edit in edits):
        needle = needle_at(plan, template, hole)
        seeds: dict[int, _Place] = {}
        if needle is not None:
            ordered = sorted(needle.seeds, key=lambda seed: seed.depth_mm)
            seeds = {
                k: (needle.depth_mm - seed.depth_mm, seed.source, seed.position_mm)
                for k, seed in enumerate(ordered, 1)
            }
        source = next((kind for _, kind, _ in seeds.values()), 0)
        added: list[_Place] = []
        for edit in (e for e in edits if (e.template, e.hole) == (template, hole)):
            if edit.action == "add":
                added.append((edit.depth_mm or 0.0, source, None))
            elif edit.action == "remove":
                seeds = {k: v for k, v in seeds.items() if edit.seed not in (k, None)}
            elif edit.seed is None:
                shift = (edit.depth_mm or 0.0) - max(depth for depth, _, _ in seeds.values())
                seeds = {k: (depth + shift, kind, None) for k, (depth, kind, _) in seeds.items()}
            else:
                seeds[edit.seed] = (edit.depth_mm or 0.0, seeds[edit.seed][1], None)
        held = sorted([*seeds.values(), *added], key=lambda place: -place[0])
        for (deep, *_), (high, *_) in pairwise(held):
            if deep - high < SAME_MM:
                raise UsageError(f"two seeds of needle {hole} would lie at {high:g} mm: correct the edits")
        if held and held[-1][0] <= 0:
            raise UsageError(f"needle {hole} would have a seed before its hole: correct the edits")
        depths, kinds, kept = zip(*held, strict=True) if held else ((), (), ())
        found.append(EditedNeedle(template, hole, tuple(depths), tuple(kinds), tuple(kept)))
    return tuple(found)


def in_words(before: Plan, after: Plan) -> tuple[str, ...]:
    """Changes from one plan to another, a sentence for each needle that differs.

    Examples
    --------
    "needle C4: 4 seeds, was 5", "new needle D5: 3 seeds", "needle A1 is left out", "needle B2: seeds moved".
    """
    changes = []
    several = len(after.templates) > 1
    keys = dict.fromkeys((n.template, n.hole) for plan in (before, after) for n in plan.needles)
    for template, hole in keys:
        old, new = needle_at(before, template, hole), needle_at(after, template, hole)
        name = f"{template + 1}:{hole}" if several else hole
        if new is None:
            changes.append(f"needle {name} is left out")
        elif old is None:
            changes.append(f"new needle {name}: {_seeds(len(new.seeds))}")
        elif len(old.seeds) != len(new.seeds):
            changes.append(f"needle {name}: {_seeds(len(new.seeds))}, was {len(old.seeds)}")
        elif _moved(old, new):
            changes.append(f"needle {name}: seeds moved")
    return tuple(changes)


def _seeds(count: int) -> str:
    return f"{count} seed" + ("" if count == 1 else "s")


def _moved(old: PlanNeedle, new: PlanNeedle) -> bool:
    pairs = zip(
        sorted(seed.position_mm for seed in old.seeds),
        sorted(seed.position_mm for seed in new.seeds),
        strict=True,
    )
    return any(math.dist(a, b) > SAME_MM for a, b in pairs)
