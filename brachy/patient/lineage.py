"""History of a plan: its ancestors, kept in its folder, and its approval.

A folder of a child holds chain/HASH.json, the plan.json of every ancestor, so that each state can be written again.
approval.json marks a folder as approved: it is never replaced, and what changes its plan makes a child.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from brachy.errors import BrachyError, UsageError
from brachy.patient.plan import Plan
from brachy.writing import canonical, write_text_whole

CHAIN = "chain"
APPROVAL = "approval.json"


def chain_of(folder: str | Path) -> tuple[Plan, ...]:
    """The plan of a folder and all before it, the youngest first.

    Raises
    ------
    BrachyError
        If an ancestor is missing, was changed, or is another plan than its name says.
    """
    place = Path(folder)
    found = [Plan.load(place)]
    while (parent := found[-1].parent) is not None:
        file = place / CHAIN / f"{parent}.json"
        if not file.is_file():
            raise BrachyError(
                f"{file.name} is missing in {place / CHAIN}: the plan's ancestors are not all here"
            )
        plan = Plan.load(file)
        if plan.checksum != parent:
            raise BrachyError(f"{file.name} in {place / CHAIN} is another plan than its name says")
        if any(plan.checksum == earlier.checksum for earlier in found):
            raise BrachyError(f"{place / CHAIN} goes round in a circle: this is no chain of plans")
        found.append(plan)
    return tuple(found)


def ancestors_for_child(folder: str | Path) -> tuple[Plan, ...]:
    """The plan and its ancestors, as far as they are here: what the folder of a child plan must keep."""
    place = Path(folder)
    if place.is_file():
        place = place.parent
    plan = Plan.load(folder)
    if plan.parent is None:
        return (plan,)
    return (plan, *chain_of(place)[1:])


def write_chain(folder: Path, ancestors: Sequence[Plan]) -> None:
    """Write the ancestors of a plan into its folder."""
    if not ancestors:
        return
    (folder / CHAIN).mkdir()
    for plan in ancestors:
        write_text_whole(folder / CHAIN / f"{plan.checksum}.json", plan.to_json())


def approve(folder: str | Path, by: str) -> Path:
    """Mark a plan folder as approved.

    Parameters
    ----------
    folder : path
        Folder that `brachy plan` or `brachy replan` wrote.
    by : str
        Who approves.

    Raises
    ------
    UsageError
        If no name is given or it is approved already.
    BrachyError
        If it holds no plan, or one whose independent check failed.
    """
    place = Path(folder)
    if not by.strip() or len(by) > 200:
        raise UsageError("--by is empty or too long: say who approves")
    plan = Plan.load(place)
    if not place.is_dir():
        raise UsageError(f"{place} is no folder: give the folder that `brachy plan` wrote")
    if is_approved(place):
        raise UsageError(f"{place} is approved already by {approval(place)['by']}")
    if plan.check.failed:
        raise BrachyError(f"the independent check on {place} failed: see `brachy check {place}`")
    file = place / APPROVAL
    write_text_whole(
        file, canonical({"format": "brachy-approval", "version": 1, "plan": plan.checksum, "by": by.strip()})
    )
    return file


def approval(folder: str | Path) -> dict[str, str]:
    """Who approved which plan.

    Raises
    ------
    BrachyError
        If the mark cannot be read or is that of another plan.
    """
    place = Path(folder)
    try:
        data = json.loads((place / APPROVAL).read_text(encoding="utf-8"))
        mark = {key: str(data[key]) for key in ("plan", "by")}
    except (OSError, ValueError, KeyError, TypeError):
        raise BrachyError(f"{place / APPROVAL} cannot be read: the plan's approval is in doubt") from None
    if mark["plan"] != Plan.load(place).checksum:
        raise BrachyError(f"{place / APPROVAL} approves another plan than the one beside it")
    return mark


def is_approved(folder: str | Path) -> bool:
    """Whether a folder is marked as approved."""
    return (Path(folder) / APPROVAL).is_file()
