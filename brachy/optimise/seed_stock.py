"""The seeds in stock: model, and the air-kerma strength that each activity of the protocol has at implantation."""

from dataclasses import dataclass
from datetime import date

from brachy.dosimetry import strength
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import Source, load_source
from brachy.errors import UsageError
from brachy.patient.plan import Plan, PlanSource
from brachy.patient.protocol import Protocol
from brachy.units import days_between, decay_factor, mci_from_strength, strength_from_mci


@dataclass(frozen=True, eq=False)
class SeedStock:
    """Seeds of one model in one or several strengths.

    Parameters
    ----------
    source : Source
        The model.
    strengths_U : tuple of float
        U at implantation, in the order of the protocol's `source.stock_mCi`.
    half_life_days : float
        The protocol's, else the model's.
    strength_on, implant_on : date, optional
        Day for which the protocol's activity is stated, and day of the implantation.
    notes : tuple of str
        A sentence for each thing that was assumed.
    """

    source: Source
    strengths_U: tuple[float, ...]
    half_life_days: float
    strength_on: date | None = None
    implant_on: date | None = None
    notes: tuple[str, ...] = ()

    def first_seed(self) -> Implant:
        """One seed of the first strength at the origin, along z."""
        return Implant(
            self.source,
            [[0.0, 0.0, 0.0]],
            axes=[0.0, 0.0, 1.0],
            strength_U=self.strengths_U[0],
            half_life_days=self.half_life_days,
        )

    def record(self, kind: int) -> PlanSource:
        """The entry of plan.json for one strength, with the TG-43 tables, so that a plan is self-contained."""
        stated, implanted = (
            "" if day is None else day.isoformat() for day in (self.strength_on, self.implant_on)
        )
        return PlanSource(
            model=self.source.name,
            air_kerma_strength_U=self.strengths_U[kind],
            apparent_activity_mCi=mci_from_strength(self.strengths_U[kind]),
            half_life_days=self.half_life_days,
            strength_on=stated,
            implant_on=implanted,
            data=self.source.to_dict(),
        )


def stock_of_protocol(
    protocol: Protocol, ct_date: date | None, strength_on: date | None, implant_on: date | None
) -> SeedStock:
    """The protocol's seeds, their strengths taken to the day of the implantation by decay.

    Parameters
    ----------
    protocol : Protocol
        Its table `[source]`.
    ct_date : date, optional
        Stands for the day of the implantation where that is not given.
    strength_on : date, optional
        Day for which the activity is stated; by default the day of the implantation.
    implant_on : date, optional
        Day of the implantation.

    Raises
    ------
    UsageError
        If the model is unknown or not verified, or a day of the strength is given and none of the implantation is
        known.
    """
    rule = protocol.source
    source = load_source(rule.model, rule.accept_unverified)
    notes = []
    if rule.stated_as:
        notes.append(f"activity stated as {rule.stated_as}: {rule.activity_mCi:.4g} mCi apparent")
    half_life, note = strength.half_life_used(source.half_life_days, None, rule.half_life_days)
    notes += [note] if note else []
    stated, implanted, date_notes = _dates(ct_date, strength_on, implant_on)
    notes += date_notes
    days = days_between(stated, implanted) if stated is not None and implanted is not None else 0.0
    strengths = tuple(strength_from_mci(mci) * decay_factor(days, half_life) for mci in rule.stock_mCi)
    low, high = strength.USUAL_U
    notes += [
        f"{value:.4g} U a seed, outside the usual {low:g}-{high:g} U, as given"
        for value in strengths
        if not low <= value <= high
    ]
    if len(strengths) > 1:
        notes.append(
            f"seeds of {', '.join(f'{mci:g}' for mci in rule.stock_mCi)} mCi in stock, each needle of one"
        )
    return SeedStock(source, strengths, half_life, stated, implanted, tuple(notes))


def stock_of_plan(plan: Plan) -> SeedStock:
    """The seeds that a plan was made with, from its own tables: a source file that has changed since does not count."""
    entry = plan.sources[0]
    decay = decay_since_stated(entry)
    return SeedStock(
        Source.from_dict(entry.data, name=entry.model),
        tuple(strength_from_mci(mci) * decay for mci in plan.protocol.source.stock_mCi),
        entry.half_life_days,
    )


def decay_since_stated(entry: PlanSource) -> float:
    """Fraction of the stated strength that is left at implantation; 1 where a plan has no dates."""
    if not (entry.strength_on and entry.implant_on):
        return 1.0
    days = days_between(date.fromisoformat(entry.strength_on[:10]), date.fromisoformat(entry.implant_on[:10]))
    return decay_factor(days, entry.half_life_days)


def _dates(
    ct_date: date | None, strength_on: date | None, implant_on: date | None
) -> tuple[date | None, date | None, list[str]]:
    """Day of the stated strength, day of the implantation, and a note for each that was not given."""
    notes = []
    implanted = implant_on
    if implanted is None:
        implanted = ct_date
        if implanted is not None:
            notes.append(f"implanted on the day of the CT, {implanted.isoformat()}")
        elif strength_on is not None:
            raise UsageError("--strength-on needs the day of the implantation: give --implant-on DATE")
        else:
            notes.append("no date of the implantation: the strength is taken as that at implantation")
    stated = strength_on
    if stated is None:
        stated = implanted
        if implanted is not None:
            notes.append(f"the activity is stated for the day of the implantation, {implanted.isoformat()}")
    return stated, implanted, notes
