"""`plan`: from a case and a protocol to a plan."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry import strength
from brachy.dosimetry.source import Source, load_source, source_warnings
from brachy.errors import BrachyError, UsageError
from brachy.evaluation.scenarios import Uncertainties, load_uncertainties
from brachy.optimise.alternatives import different
from brachy.optimise.assemble import Chosen, assemble
from brachy.optimise.candidates import Candidates, SeedTable
from brachy.optimise.certificate import certificate
from brachy.optimise.directions import Aim, Scored, Surroundings, scan, table_of
from brachy.optimise.goal_terms import goal_samples
from brachy.optimise.goals import SURE_PCT, coverage_short_by, least_v100_pct, reach_goals
from brachy.optimise.harden import harden
from brachy.optimise.points import FINE, SEARCH, Samples, sample, spared_organs
from brachy.optimise.reach import out_of_reach
from brachy.optimise.search import Control, Found, Game, Progress, anneal, generator, greedy, moves_for
from brachy.optimise.targets import prescribed_targets
from brachy.patient import anatomy
from brachy.patient.case import Case
from brachy.patient.plan import Plan
from brachy.patient.protocol import Protocol, change
from brachy.patient.target import Target
from brachy.units import days_between, decay_factor, strength_from_mci

Float = NDArray[np.float64]

KEPT_FOR_FINE = 2
"""Results of the search that are annealed again on the fine samples (engineering choice)."""


@dataclass(frozen=True)
class _Layout:
    """One aim for each template, in the order of the templates."""

    scored: tuple[Scored, ...]

    @property
    def value(self) -> float:
        return sum(each.value for each in self.scored)


def plan(
    case: Case,
    protocol: Protocol,
    *,
    targets: Sequence[tuple[str, float | None]] | None = None,
    strength_on: date | None = None,
    implant_on: date | None = None,
    seed: int = 0,
    threads: int | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
    direction: tuple[float, float] | None = None,
    certify: bool = False,
    robust: bool = False,
    uncertainties: Uncertainties | None = None,
) -> Plan:
    """Plan a permanent seed implant.

    Parameters
    ----------
    case : Case
        CT and structures; roles that are not given are found by `brachy.patient.anatomy.prepare`.
    protocol : Protocol
        What the clinic wants; see `brachy protocols`.
    targets : sequence of (ROI, Gy or None), optional
        Targets and their prescriptions; None is the protocol's. By default the one ROI that is a target. A target
        inside another (a boost) shares its template; others have their own.
    strength_on : date, optional
        Day for which the protocol's activity is stated; by default the day of the implantation.
    implant_on : date, optional
        Day of the implantation; by default the CT's.
    seed : int
        The same case, protocol and seed give the same plan, for any number of threads.
    threads : int, optional
        Threads of the search; by default one for each core.
    time_limit : float, optional
        Seconds after which the search ends with the best so far; such a plan cannot be reproduced and says so.
    progress : callable, optional
        Called with the stage and the best D90 and V100 so far. Ctrl-C keeps the best plan so far.
    direction : (azimuth, tilt), optional
        Fixed direction of the needles, degrees; goes before the protocol's.
    certify : bool
        Add a lower bound on the objective to `optimiser`, see `brachy.optimise.certificate`.
    robust : bool
        Search on until the target has its D90 in the worst of a fixed set of scenarios too, see
        `brachy.optimise.harden`; `optimiser.robust` says what that gave and took.
    uncertainties : Uncertainties, optional
        Of the scenarios; by default brachy/data/uncertainty.toml.

    Returns
    -------
    Plan
        With evaluation, goals, rules, and in `optimiser` the value of each term of the objective.

    Raises
    ------
    UsageError
        If no ROI or several could be the target, a prescription is outside the protocol's range, or a name is
        unknown.
    BrachyError
        If the target lies outside the CT or the patient, or no needle reaches it.

    Examples
    --------
    >>> from brachy.io.phantom.file import load_phantom
    >>> from brachy.patient.protocol import change, load_protocol
    >>> quick = change(load_protocol("liver-metastasis"), search={"starts": 1, "moves": 2000, "fine_moves": 0})
    >>> made = plan(load_phantom("sphere-35mm"), quick, direction=(0, 0))
    >>> made.evaluation.structures["GTV"]["V100_pct"] > 95
    True
    """
    worked = _work(
        case, protocol, targets, strength_on, implant_on, seed, threads, time_limit, progress, direction
    )
    extra: dict[str, Any] = {"raised_for_goals": worked.raised}
    if not robust:
        return worked.plan(worked.found, extra, certify)
    errors = uncertainties if uncertainties is not None else load_uncertainties()
    hardened = harden(
        worked.found, worked.game, worked.anchor, worked.table, worked.protocol, errors, seed, worked.control
    )
    return worked.plan(hardened.found, extra | {"robust": hardened.told}, certify)


def plan_alternatives(
    case: Case,
    protocol: Protocol,
    count: int,
    *,
    targets: Sequence[tuple[str, float | None]] | None = None,
    strength_on: date | None = None,
    implant_on: date | None = None,
    seed: int = 0,
    threads: int | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
    direction: tuple[float, float] | None = None,
    certify: bool = False,
) -> list[tuple[str, Plan]]:
    """Up to `count` different good plans on the same needles, candidates and influence matrix.

    Parameters
    ----------
    case, protocol, targets, strength_on, implant_on, seed, threads, time_limit, progress, direction, certify
        As for `plan`.
    count : int
        Plans wanted, the first included; fewer come back where no others are different and good.

    Returns
    -------
    list of (str, Plan)
        The plan of `plan` ("balanced"), then "fewest needles", "most homogeneous" and so on, see
        `brachy.optimise.alternatives`: each is the best found in what it is named after and meets the goals that the
        first one meets.

    Raises
    ------
    UsageError, BrachyError
        As `plan`; UsageError if `count` is below 1.

    Examples
    --------
    >>> from brachy.io.phantom.file import load_phantom
    >>> from brachy.patient.protocol import change, load_protocol
    >>> quick = change(load_protocol("liver-metastasis"), search={"starts": 1, "moves": 2000, "fine_moves": 2000})
    >>> named = plan_alternatives(load_phantom("sphere-35mm"), quick, 2, direction=(0, 0))
    >>> named[0][0], len(named)
    ('balanced', 2)
    """
    if count < 1:
        raise UsageError(f"{count} alternatives: ask for 1 or more plans")
    worked = _work(
        case, protocol, targets, strength_on, implant_on, seed, threads, time_limit, progress, direction
    )
    named = [("balanced", worked.plan(worked.found, {"raised_for_goals": worked.raised}, certify))]
    if count > 1:
        worked.control.show("alternatives")
        for each in different(worked.found, worked.game, worked.protocol, count - 1, seed, worked.control):
            extra = {"raised_for_goals": each.raised, "alternative": each.name}
            named.append((each.name, worked.plan(each.found, extra, certify)))
    return named


@dataclass(frozen=True, eq=False)
class _Worked:
    """A search that has come to its end: all that a plan is made from, for any loading of its candidates."""

    case: Case
    protocol: Protocol
    prescribed: list[Target]
    source: Source
    strengths_u: tuple[float, ...]
    half_life: float
    dates: tuple[date | None, date | None]
    said: list[str]
    control: Control
    anchor: Float
    table: SeedTable
    game: Game
    found: Found
    raised: float
    seed: int
    time_limit: float | None
    effort: dict[str, Any]
    """Entries of plan.json's `optimiser` that are the same for every loading."""

    def plan(self, found: Found, extra: dict[str, Any], certify: bool) -> Plan:
        """The finished plan of a loading."""
        values = self.game.terms_of(found.loading)
        optimiser: dict[str, Any] = {"objective": sum(values.values()), "terms": values} | extra | self.effort
        if certify:
            self.control.show("certificate")
            optimiser |= certificate(self.game.board, self.game.terms, optimiser["objective"])
        early, ended = self.control.told()
        optimiser |= early
        said = [*self.said, *ended]
        self.control.show("evaluation")
        return assemble(
            Chosen(self.game.candidates, found.loading),
            self.case.assuming(said),
            self.protocol,
            self.prescribed,
            self.source,
            self.strengths_u,
            self.half_life,
            self.dates,
            optimiser,
        )


def _work(
    case: Case,
    protocol: Protocol,
    targets: Sequence[tuple[str, float | None]] | None,
    strength_on: date | None,
    implant_on: date | None,
    seed: int,
    threads: int | None,
    time_limit: float | None,
    progress: Progress | None,
    direction: tuple[float, float] | None,
) -> _Worked:
    """Search, from the case to the best loading."""
    if direction is not None:
        fixed = {"azimuth_deg": direction[0], "tilt_deg": direction[1], "tilts_deg": ()}
        protocol = change(protocol, direction=fixed)
    control = Control(max(1, threads or os.cpu_count() or 1), time_limit, progress)
    control.show("structures")
    names = None if targets is None else [name for name, _ in targets]
    case = anatomy.prepare(case, protocol, names)
    prescribed = prescribed_targets(case, protocol, targets)
    source = load_source(protocol.source.model, protocol.source.accept_unverified)
    said: list[str] = source_warnings(source)
    if targets is None:
        said.append(f"no target was named: '{prescribed[0].drawn.name}' is the only ROI that can be one")
    if protocol.source.stated_as:
        said.append(
            f"activity stated as {protocol.source.stated_as}: {protocol.source.activity_mCi:.4g} mCi apparent"
        )
    half_life, note = strength.half_life_used(source.half_life_days, None, protocol.source.half_life_days)
    said += [note] if note else []
    stated, implanted, days = _dates(case, strength_on, implant_on, said)
    stock = protocol.source.stock_mCi
    strengths_u = tuple(strength_from_mci(mci) * decay_factor(days, half_life) for mci in stock)
    if len(stock) > 1:
        said.append(f"seeds of {', '.join(f'{mci:g}' for mci in stock)} mCi in stock, each needle of one")

    (external,) = case.with_role("external")
    anchor = prescribed[0].structure.bounds_mm[0]
    samples = sample(prescribed, spared_organs(case.structures, protocol), external, anchor)
    samples += goal_samples(protocol, case.structures, prescribed, anchor)
    table = SeedTable.of(source, strengths_u[0], protocol.source.formalism, half_life)
    obstacles = tuple(s for s in case.with_role(*protocol.obstacles.roles) if not s.is_empty)
    scans = []
    outer = [target for target in prescribed if not target.nested_in]
    for target in outer:
        served = {target.name, *(other.name for other in prescribed if other.nested_in == target.name)}
        around = Surroundings(
            target,
            external,
            obstacles,
            tuple(part for part in samples if part.name in served or part.kind in ("organ", "goal")),
            anchor,
            source.capsule_length_mm,
        )
        scans.append(scan(around, protocol, table, seed, control))
    layouts = _layouts(scans, protocol.search.layouts)
    chosen, found, game, results = _search(layouts, samples, anchor, table, protocol, seed, control)
    control.show("goals")
    found, raised = reach_goals(found, game, protocol, seed, control)
    _must_suffice(found, game, protocol, control)
    unreached = out_of_reach(game, prescribed, anchor, int(np.argmax(stock)))
    said += [part.sentence for part in unreached]
    effort: dict[str, Any] = {
        "seed": seed,
        "starts": protocol.search.starts,
        "moves": _moves(scans, len(game.candidates), protocol),
        "candidates": len(game.candidates),
        "samples": int(game.terms.start[-1]),
        "out_of_reach": [part.to_dict() for part in unreached],
        "directions": [
            {"target": target.name, "tried": table_of(tried, layout.aim, results[index])}
            for index, (target, tried, layout) in enumerate(zip(outer, scans, chosen.scored, strict=True))
        ],
    }
    return _Worked(
        case, protocol, prescribed, source, strengths_u, half_life, (stated, implanted), said, control, anchor, table,
        game, found, raised, seed, time_limit, effort,
    )  # fmt: skip


def _dates(
    case: Case, strength_on: date | None, implant_on: date | None, said: list[str]
) -> tuple[date | None, date | None, float]:
    """Day of the stated strength, day of the implantation, days between; defaults go to `said`."""
    implanted = implant_on
    if implanted is None:
        implanted = case.identity.ct_date
        if implanted is not None:
            said.append(f"implanted on the day of the CT, {implanted.isoformat()}")
        elif strength_on is not None:
            raise UsageError("--strength-on needs the day of the implantation: give --implant-on DATE")
        else:
            said.append("no date of the implantation: the strength is taken as that at implantation")
    stated = strength_on
    if stated is None:
        stated = implanted
        if implanted is not None:
            said.append(f"the activity is stated for the day of the implantation, {implanted.isoformat()}")
    days = days_between(stated, implanted) if stated is not None and implanted is not None else 0.0
    return stated, implanted, days


def _must_suffice(found: Found, game: Game, protocol: Protocol, control: Control) -> None:
    """Refuse a plan whose stock or count of needles cannot give what the required goals ask for.

    Raises
    ------
    BrachyError
        With what is reached, what is asked, and the activity that would do.
    """
    if control.interrupted or control.timed_out:
        return
    limits = game.board.limits
    seeds = int(found.loading.sum())
    if seeds < limits[0]:
        raise BrachyError(
            f"{limits[0]} seeds are to be used and only {seeds} find a place under the rules: lower seeds.count"
        )
    if "forbidden" in game.terms_of(found.loading):
        raise BrachyError("the least number of needles finds no place under the rules: lower needle.count")
    if protocol.seeds.count is None and protocol.needle.count is None:
        return
    least = least_v100_pct(protocol, required=True)
    reached, factor = coverage_short_by(game, found, least)
    if reached >= least - SURE_PCT:
        return
    needed = protocol.source.stock_mCi[0] * factor
    full = [f"{seeds} seeds" if seeds >= limits[1] else ""]
    full += [f"{limits[2]} needles" if protocol.needle.count is not None else ""]
    raise BrachyError(
        f"{' in '.join(word for word in full if word) or f'{seeds} seeds'} reach V100 {reached:.1f} %, "
        f"{least - SURE_PCT:g} % is required: about {needed:.2g} mCi a seed would do, or a larger count"
    )


def _layouts(scans: Sequence[Sequence[Scored]], count: int) -> list[_Layout]:
    """The best combinations of one aim for each template, by the sum of their scores."""
    combined = [_Layout(())]
    for scored in scans:
        usable = [each for each in scored if np.isfinite(each.value)][:count]
        joined = [_Layout((*layout.scored, each)) for layout in combined for each in usable]
        combined = sorted(joined, key=lambda layout: layout.value)[:count]
    return combined


def _search(
    layouts: Sequence[_Layout],
    samples: Sequence[Samples],
    anchor: Float,
    table: SeedTable,
    protocol: Protocol,
    seed: int,
    control: Control,
) -> tuple[_Layout, Found, Game, list[dict[Aim, float]]]:
    """Anneal every layout from several starts, the best again on the fine samples; the best of all."""
    rule = protocol.search

    def prepare(layout: _Layout, level: int) -> Game:
        found = [each.candidates for each in layout.scored if each.candidates is not None]
        return Game.of(
            Candidates.of(found, anchor, protocol, len(protocol.source.stock_mCi)),
            samples,
            level,
            table,
            protocol,
        )

    games = control.run("influence", [partial(prepare, layout, SEARCH) for layout in layouts])
    firsts = control.run("greedy", [partial(greedy, game) for game in games])
    starts = [(start % len(layouts), start) for start in range(max(rule.starts, len(layouts)))]

    def search(which: int, start: int) -> Found:
        dice = generator(seed, "search", start)
        moves = moves_for(len(games[which].candidates), rule.moves)
        return anneal(games[which], firsts[which], moves, rule.hot, rule.cold, dice, control)

    found = control.run("search", [partial(search, which, start) for which, start in starts])
    order = sorted(range(len(found)), key=lambda k: (found[k].value, k))[:KEPT_FOR_FINE]
    fine = {which: prepare(layouts[which], FINE) for which in dict.fromkeys(starts[k][0] for k in order)}

    def polish(k: int) -> Found:
        dice = generator(seed, "fine", starts[k][1])
        game = fine[starts[k][0]]
        moves = moves_for(len(game.candidates), rule.fine_moves)
        return anneal(game, found[k], moves, rule.fine_hot, rule.cold, dice, control)

    control.best_value = np.inf
    polished = control.run("polish", [partial(polish, k) for k in order])
    best = min(range(len(order)), key=lambda k: (polished[k].value, k))
    winner = starts[order[best]][0]
    results: list[dict[Aim, float]] = [{} for _ in layouts[0].scored]
    for (which, _), result in zip(starts, found, strict=True):
        for index, each in enumerate(layouts[which].scored):
            known = results[index].get(each.aim, np.inf)
            results[index][each.aim] = min(known, result.value)
    return layouts[winner], polished[best], fine[winner], results


def _moves(scans: Sequence[Sequence[Scored]], candidates: int, protocol: Protocol) -> int:
    """Annealing moves in all, those for goals left out."""
    rule = protocol.search
    scored = sum(1 for tried in scans for each in tried if np.isfinite(each.value))
    full = rule.starts * moves_for(candidates, rule.moves)
    return scored * rule.scan_moves + full + KEPT_FOR_FINE * moves_for(candidates, rule.fine_moves)


__all__ = ["plan", "plan_alternatives"]
