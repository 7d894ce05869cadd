"""Which registration is taken, and whether the others agree with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brachy.errors import BrachyError, UsageError
from brachy.geometry.structures import Structure
from brachy.patient.case import Case
from brachy.patient.roles import guess_role
from brachy.postimplant.planned import Planned
from brachy.postimplant.registration.files import by_file
from brachy.postimplant.registration.image import by_image
from brachy.postimplant.registration.organ import by_organ
from brachy.postimplant.registration.seeds import by_seeds
from brachy.postimplant.registration.transform import (
    APART_MM,
    METHODS,
    Agreement,
    Registration,
    RegistrationError,
    by_frame,
    farthest_mm,
)

Float = NDArray[np.float64]

SOLID = ("organ", "kidney", "spleen", "pancreas")
"""Roles of organs, besides liver and target, that keep their form from one CT to the next (engineering choice)."""

NEAR_MM = 50.0
"""An organ other than liver and target is registered on if its centre is this near to that of the seeds (engineering
choice)."""

ORGANS = 3
"""Organs that are tried, the best suited first."""

NO_PLANNING_CT = (
    "registration by image needs the planning CT: give --planning-ct CASE, or register by organ or seeds"
)


@dataclass(frozen=True, eq=False)
class Question:
    """What is registered.

    Parameters
    ----------
    planned : Planned
        The plan.
    post : Case
        CT after the implant, with its structures.
    found_mm : (m, 3) array
        Seeds on it, mm.
    planning_case : callable
        Gives the planning CT with structures, or None where it is not at hand.
    """

    planned: Planned
    post: Case
    found_mm: Float
    planning_case: Callable[[], Case | None]


def register(ask: Question, how: str | Path) -> Registration:
    """Register a plan and a CT after the implant.

    Parameters
    ----------
    ask : Question
        Plan, CT and seeds.
    how : str or path
        One of `METHODS`, or a file.

    Raises
    ------
    UsageError
        If what the method needs is not there.
    BrachyError
        If it cannot be trusted.
    """
    if str(how) not in METHODS:
        return by_file(how)
    if how == "auto":
        return _automatic(ask)
    if how == "frame":
        mine = frame_of(ask.post)
        return by_frame(
            mine if shared_frame(ask.planned, ask.post) else ask.planned.frame_of_reference_uid, mine
        )
    if how == "organ":
        return _organ(ask)
    if how == "image":
        return _image(ask, _seeds_or_none(ask))
    return by_seeds(ask.planned.positions_mm, ask.found_mm)


def _automatic(ask: Question) -> Registration:
    """An organ's contours, else the images, else the seeds; a common frame of reference where these agree with it."""
    made, refused = _all(ask)
    if shared_frame(ask.planned, ask.post):
        frame = by_frame(frame_of(ask.post), frame_of(ask.post))
        first = next((each for each in made if not each.uses_seeds), None)
        agrees = (
            first is None
            or farthest_mm(frame.transform, first.transform, ask.planned.positions_mm) <= APART_MM
        )
        made.insert(0 if agrees else len(made), frame)
    if not made:
        reasons = "; ".join(f"by {each.method}: {each.note}" for each in refused)
        raise BrachyError(
            f"no registration can be trusted ({reasons}); contour one organ on both CTs, give the planning CT "
            "(--planning-ct CASE) or a transform file (--register FILE)"
        )
    chosen = made[0]
    beside = [
        Agreement(
            each.method,
            each.residual_mm,
            farthest_mm(chosen.transform, each.transform, ask.planned.positions_mm),
            each.note,
        )
        for each in made[1:]
    ]
    return replace(chosen, agreement=(*beside, *refused))


def _all(ask: Question) -> tuple[list[Registration], list[Agreement]]:
    """Registrations by organ, image and seeds, as far as they can be made and trusted, and why others cannot."""
    made: dict[str, Registration] = {}
    refused: list[Agreement] = []
    same = _same_ct(ask)
    for method in ("seeds", *(() if same else ("organ", "image"))):
        try:
            if method == "seeds":
                made[method] = by_seeds(ask.planned.positions_mm, ask.found_mm)
            elif method == "organ":
                made[method] = _organ(ask)
            else:
                made[method] = _image(ask, made.get("organ") or made.get("seeds"))
        except BrachyError as error:
            reason = error.reason if isinstance(error, RegistrationError) else str(error)
            refused.append(Agreement(method, None, None, reason))
    return [made[method] for method in ("organ", "image", "seeds") if method in made], refused


def _same_ct(ask: Question) -> bool:
    """Whether the plan was made on the CT that is called the one after the implant."""
    plan, post = ask.planned.plan, ask.post.identity
    if plan is None:
        return bool(post.structure_set_uid) and ask.planned.structure_set_uid == post.structure_set_uid
    return bool(post.ct_series_uid) and plan.case.ct_series_uid == post.ct_series_uid


def _seeds_or_none(ask: Question) -> Registration | None:
    try:
        return by_seeds(ask.planned.positions_mm, ask.found_mm)
    except BrachyError:
        return None


def _organ(ask: Question) -> Registration:
    """By the first organ that both CTs show and that gives a registration to be trusted."""
    mine = ask.planned.structures
    if not mine:
        before = ask.planning_case()
        mine = before.structures if before is not None else ()
    start = np.eye(4) if shared_frame(ask.planned, ask.post) else None
    failed: BrachyError | None = None
    for before_organ, after_organ in common_organs_of(ask.planned, mine, ask.post)[:ORGANS]:
        try:
            return by_organ(before_organ, after_organ, ask.planned.positions_mm, start)
        except BrachyError as error:
            failed = failed or error
    assert failed is not None
    raise failed


def common_organs_of(
    planned: Planned, mine: Sequence[Structure], post: Case
) -> list[tuple[Structure, Structure]]:
    """`common_organs` of a plan with some structures and a CT after the implant.

    Raises
    ------
    UsageError
        If there is none.
    """
    pairs = common_organs(mine, post.structures, tuple(planned.prescriptions), planned.positions_mm)
    if pairs:
        return pairs
    before, after = (
        ", ".join(s.name for s in each if not s.is_empty) or "none" for each in (mine, post.structures)
    )
    raise UsageError(
        "registration by organ needs one organ (liver, target, or one near the seeds) of the same name on both CTs; "
        f"the plan has: {before}; the CT after the implant: {after}"
    )


def common_organs(
    mine: Sequence[Structure], theirs: Sequence[Structure], targets: Sequence[str], seeds_mm: Float
) -> list[tuple[Structure, Structure]]:
    """Organs of the same name, or the only livers, on both CTs: liver, then targets, then organs near the seeds."""
    before = {s.name.casefold(): s for s in mine if not s.is_empty}
    after = {s.name.casefold(): s for s in theirs if not s.is_empty}
    livers = [[s for s in each.values() if _role(s) == "liver"] for each in (before, after)]
    pairs = [(livers[0][0], livers[1][0])] if len(livers[0]) == len(livers[1]) == 1 else []
    named = [(before[name], after[name]) for name in before if name in after]
    pairs += [pair for pair in named if _role(pair[0]) == "liver"]
    pairs += [pair for pair in named if pair[0].name.casefold() in {name.casefold() for name in targets}]
    middle = seeds_mm.mean(axis=0)
    others = [(float(np.linalg.norm(pair[0].centroid_mm - middle)), k) for k, pair in enumerate(named)]
    pairs += [named[k] for away, k in sorted(others) if away <= NEAR_MM and _role(named[k][0]) in SOLID]
    return list({(id(one), id(other)): (one, other) for one, other in pairs}.values())


def _role(structure: Structure) -> str:
    return structure.role or guess_role(structure.name, structure.interpreted_type).role


def _image(ask: Question, start: Registration | None) -> Registration:
    """By the images round an organ, starting from another registration where there is one."""
    before = ask.planning_case()
    if before is None:
        raise UsageError(NO_PLANNING_CT)
    organ, after = _region(ask, before)
    if shared_frame(ask.planned, ask.post):
        first: Float | None = np.eye(4)
    elif start is not None and (start.method == "organ" or after is None):
        first = start.transform
    else:
        first = None
    return by_image(before, ask.post, organ, first, after)


def _region(ask: Question, before: Case) -> tuple[Structure, Structure | None]:
    """Organ round which the images must agree, and the same on the CT after the implant if it is contoured there."""
    targets = tuple(ask.planned.prescriptions)
    pairs = common_organs(before.structures, ask.post.structures, targets, ask.planned.positions_mm)
    if pairs:
        return pairs[0]
    known = {s.name.casefold(): s for s in before.structures if not s.is_empty}
    for name in targets:
        if name.casefold() in known:
            return known[name.casefold()], None
    listed = ", ".join(known) or "none"
    raise UsageError(f"registration by image needs an ROI to fit; the planning CT has: {listed}")


def shared_frame(planned: Planned, post: Case) -> bool:
    """Whether plan and CT have one frame of reference; a plan that names none may name the CT's structure set."""
    mine, theirs = planned.frame_of_reference_uid, frame_of(post)
    if mine:
        return mine == theirs
    return bool(planned.structure_set_uid) and planned.structure_set_uid == post.identity.structure_set_uid


def frame_of(case: Case) -> str:
    """Frame of reference UID of a case, made from its content where it has none."""
    from brachy.patient.uids import identified

    return identified(case).identity.frame_of_reference_uid


def disagreements(registration: Registration) -> list[str]:
    """One line for each registration that puts a planned seed more than 3 mm from where the chosen one does."""
    lines = []
    for other in registration.agreement:
        if other.apart_mm is None or other.apart_mm <= APART_MM:
            continue
        if "seeds" in (registration.method, other.method):
            why = "the implant moved as a whole within the organ, or one of them is wrong"
        else:
            why = "one of them is wrong, or organs moved between the CTs"
        lines.append(
            f"registrations disagree: by {other.method} a planned seed lies up to {other.apart_mm:.1f} mm from where "
            f"the registration by {registration.method} puts it; {why}"
        )
    return lines
