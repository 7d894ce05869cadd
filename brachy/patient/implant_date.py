"""The day of the implantation: which date is used, why, and what decay that means for stated strengths."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from brachy.dosimetry.implant import Implant
from brachy.errors import BrachyError
from brachy.patient.plan import Plan
from brachy.units import days_between, decay_factor

MOST_DAYS = 90
"""An implantation more than this before the post-implant CT is questioned (engineering choice: TG-137 images at 0 to 60
days)."""

SAID_DAYS = 1.0
"""Decay over less than this is not mentioned: a day is 1.2 % of 125I (engineering choice)."""


@dataclass(frozen=True)
class ImplantDate:
    """The day of the implantation, None where none is known, and where it is from."""

    on: date | None
    origin: str


def implant_date(
    given: date | None,
    planned: date | None,
    planned_is_assumed: bool = False,
    post_implant_ct: date | None = None,
) -> ImplantDate:
    """Day of the implantation: the one given, else the plan's, else the post-implant CT's.

    Parameters
    ----------
    given : date, optional
        What the user says (`--implant-on`); it is never questioned.
    planned : date, optional
        The date that the plan keeps.
    planned_is_assumed : bool
        Nobody gave it: it was taken from the planning CT. The date of a post-implant CT goes before it.
    post_implant_ct : date, optional
        Date of the CT after the implantation.

    Raises
    ------
    BrachyError
        If the date is not given and lies after the post-implant CT or more than `MOST_DAYS` before it.

    Examples
    --------
    >>> implant_date(None, date(2026, 1, 1), True, date(2026, 1, 31))
    ImplantDate(on=datetime.date(2026, 1, 31), origin="the post-implant CT's date (the plan's was only assumed)")
    >>> implant_date(None, date(2026, 1, 1), False, date(2026, 1, 31)).on
    datetime.date(2026, 1, 1)
    """
    if given is not None:
        return ImplantDate(given, "as given")
    if planned is None or planned_is_assumed:
        if post_implant_ct is not None:
            reason = "the plan has none" if planned is None else "the plan's was only assumed"
            return ImplantDate(post_implant_ct, f"the post-implant CT's date ({reason})")
        return ImplantDate(planned, "assumed in the plan" if planned is not None else "not known")
    if post_implant_ct is not None:
        days = days_between(planned, post_implant_ct)
        if days < 0:
            raise BrachyError(
                f"the plan's day of implantation, {planned}, is after the post-implant CT of {post_implant_ct}: "
                "give the right day with --implant-on"
            )
        if days > MOST_DAYS:
            raise BrachyError(
                f"the plan's day of implantation, {planned}, is {days:.0f} days before the post-implant CT of "
                f"{post_implant_ct}, more than {MOST_DAYS}: give the right day with --implant-on"
            )
    return ImplantDate(planned, "the plan's date")


def date_of_plan(plan: Plan) -> tuple[date | None, bool]:
    """Day of the implantation that a plan keeps, and whether it was only assumed from the planning CT."""
    if not plan.sources or not plan.sources[0].implant_on:
        return None, False
    return date.fromisoformat(plan.sources[0].implant_on[:10]), plan.implant_date_assumed


def notes_on_strength(plan: Plan) -> tuple[str, ...]:
    """Sentences on the strengths of a plan that were stated a day or more from the day of its implantation.

    Examples
    --------
    >>> from brachy.optimise import plan
    >>> from brachy.io.phantom.file import load_phantom
    >>> from brachy.patient.protocol import change, load_protocol
    >>> quick = change(load_protocol("liver-metastasis"), search={"starts": 1, "moves": 2000, "fine_moves": 0})
    >>> days = {"strength_on": date(2026, 1, 1), "implant_on": date(2026, 1, 31)}
    >>> made = plan(load_phantom("sphere-35mm"), quick, direction=(0, 0), **days)
    >>> notes_on_strength(made)[0][:64]
    'source 1: strength stated for 2026-01-01, 30 days before the day'
    """
    notes = []
    for number, entry in enumerate(plan.sources, 1):
        if not (entry.strength_on and entry.implant_on):
            continue
        stated, on = (date.fromisoformat(text[:10]) for text in (entry.strength_on, entry.implant_on))
        days = days_between(stated, on)
        if abs(days) >= SAID_DAYS:
            notes.append(
                f"source {number}: strength stated for {stated}, {abs(days):.0f} days "
                f"{'before' if days > 0 else 'after'} the day of the implantation, {on}: "
                f"factor {decay_factor(days, entry.half_life_days):.3f}, {entry.air_kerma_strength_U:.4g} U"
            )
    return tuple(notes)


def decayed(
    implants: Sequence[Implant], held_on: date | None, implanted: ImplantDate
) -> tuple[list[Implant], tuple[str, ...]]:
    """Implants with their strengths taken from the day on which they hold to the implantation, and what to say of it.

    Parameters
    ----------
    implants : sequence of Implant
        Strengths in U on `held_on`.
    held_on : date, optional
        Day on which the strengths hold; None: not known, nothing decays and that is said where a day is given.
    implanted : ImplantDate
        From `implant_date`.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> seed = Implant(load_source("amersham_6711"), [[0, 0, 0]], strength_U=1.0)
    >>> taken, notes = decayed([seed], date(2026, 1, 1), ImplantDate(date(2026, 3, 1), "as given"))
    >>> round(float(taken[0].strength_U[0]), 3), notes[0][-12:]
    (0.502, 'factor 0.502')
    """
    if implanted.on is None:
        return list(implants), ()
    if held_on is None:
        return list(implants), (
            f"implanted on {implanted.on} ({implanted.origin}); the plan does not say for which day its strength is "
            "stated: it is taken as that of the implantation",
        )
    days = days_between(held_on, implanted.on)
    if abs(days) < SAID_DAYS:
        return list(implants), ()
    found = [
        Implant(
            implant.source,
            implant.positions_mm,
            implant.axes,
            strength_U=implant.strength_U * decay_factor(days, implant.half_life_days),
            half_life_days=implant.half_life_days,
        )
        for implant in implants
    ]
    factors = dict.fromkeys(f"{decay_factor(days, implant.half_life_days):.3f}" for implant in implants)
    return found, (
        f"implanted on {implanted.on} ({implanted.origin}), {abs(days):.0f} days "
        f"{'after' if days > 0 else 'before'} the day of the plan's strengths, {held_on}: factor {', '.join(factors)}",
    )
