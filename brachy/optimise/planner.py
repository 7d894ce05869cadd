"""`plan`: from a case and a protocol to a plan."""

from dataclasses import dataclass
from datetime import date

import numpy as np

from brachy.dosimetry.source import source_warnings
from brachy.errors import BrachyError, UsageError
from brachy.evaluation.scenarios import Uncertainties, load_uncertainties
from brachy.optimise.alternatives import different
from brachy.optimise.arrangement_choice import Reached, compare_arrangements
from brachy.optimise.arrangements import best_arrangements, moves_made, search_arrangements
from brachy.optimise.assemble import Chosen, assemble
from brachy.optimise.certificate import certificate
from brachy.optimise.control import Progress, SearchControl
from brachy.optimise.directions import Surroundings, scan, table_of
from brachy.optimise.goals import SURE_PCT, coverage_short_by, least_v100_pct, reach_goals
from brachy.optimise.individual import numbered
from brachy.optimise.preparation import Prepared, prepare
from brachy.optimise.reach import out_of_reach
from brachy.optimise.robust_optimisation import robust_optimisation
from brachy.optimise.search import SearchProblem, Solution
from brachy.optimise.seed_stock import stock_of_protocol
from brachy.optimise.targets import Asked
from brachy.patient.case import Case
from brachy.patient.optimiser_record import OptimiserRecord, RobustSummary, TriedDirections
from brachy.patient.plan import Plan
from brachy.patient.protocol import Protocol, change


def plan(
    case: Case,
    protocol: Protocol,
    *,
    targets: Asked | None = None,
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
    control: SearchControl | None = None,
) -> Plan:
    """Plan a permanent seed implant.

    Parameters
    ----------
    case : Case
        CT and structures; roles that are not given are found by `brachy.patient.anatomy.prepare`.
    protocol : Protocol
        Prescription, rules, goals and weights; see `brachy protocols`.
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
        Fixed direction of the needles, degrees, in place of the protocol's.
    certify : bool
        Add a lower bound on the objective to `optimiser`, see `brachy.optimise.certificate`.
    robust : bool
        Search on until the target has its D90 in the worst of a fixed set of scenarios too, see
        `brachy.optimise.robust_optimisation`; `optimiser.robust` has the figures before and after.
    uncertainties : Uncertainties, optional
        Of the scenarios; by default brachy/data/uncertainty.toml.
    control : SearchControl, optional
        In place of seed, threads, time_limit and progress; with it another thread can cancel the search.

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
    control = SearchControl.of(control, seed=seed, threads=threads, time_limit=time_limit, progress=progress)
    solved = solve(case, protocol, control, targets, strength_on, implant_on, direction)
    if not robust:
        return solved.plan(solved.solution, solved.raised, certify)
    errors = uncertainties if uncertainties is not None else load_uncertainties()
    made_robust = robust_optimisation(solved.solution, solved.problem, solved.prepared, errors, control)
    return solved.plan(made_robust.solution, solved.raised, certify, robust=made_robust.summary)


def plan_alternatives(
    case: Case,
    protocol: Protocol,
    count: int,
    *,
    targets: Asked | None = None,
    strength_on: date | None = None,
    implant_on: date | None = None,
    seed: int = 0,
    threads: int | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
    direction: tuple[float, float] | None = None,
    certify: bool = False,
    control: SearchControl | None = None,
) -> list[tuple[str, Plan]]:
    """Up to `count` different good plans on the same needles, candidates and influence matrix.

    Parameters
    ----------
    case, protocol, targets, strength_on, implant_on, seed, threads, time_limit, progress, direction, certify, control
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
    control = SearchControl.of(control, seed=seed, threads=threads, time_limit=time_limit, progress=progress)
    solved = solve(case, protocol, control, targets, strength_on, implant_on, direction)
    named = [("balanced", solved.plan(solved.solution, solved.raised, certify))]
    if count > 1:
        control.show("alternatives")
        for each in different(solved.solution, solved.problem, solved.prepared.protocol, count - 1, control):
            named.append((each.name, solved.plan(each.solution, each.raised, certify, alternative=each.name)))
    return named


@dataclass(frozen=True, eq=False)
class Solved:
    """A search at its end: all that a plan is made from, for any loading of its candidates."""

    prepared: Prepared
    control: SearchControl
    problem: SearchProblem
    solution: Solution
    raised: float
    notes: list[str]
    effort: OptimiserRecord
    """What is the same for every loading."""
    tilt_price: float
    """Cost of the templates' tilts, the same for every loading."""

    def plan(
        self,
        solution: Solution,
        raised: float,
        certify: bool,
        *,
        robust: RobustSummary | None = None,
        alternative: str | None = None,
    ) -> Plan:
        """The finished plan of a loading."""
        values = self.problem.terms_of(solution.loading)
        if self.tilt_price:
            values["tilt"] = self.tilt_price
        objective = sum(values.values())
        optimiser = self.effort.having(objective=objective, terms=values, raised_for_goals=raised)
        if robust is not None:
            optimiser = optimiser.having(robust=robust)
        if alternative is not None:
            optimiser = optimiser.having(alternative=alternative)
        if certify:
            self.control.show("certificate")
            optimiser = optimiser.having(
                **certificate(self.problem.arrays, self.problem.terms, objective, self.tilt_price)
            )
        early, ended = self.control.early_end()
        optimiser = optimiser.having(**early)
        self.control.show("evaluation")
        candidates = numbered(self.problem.candidates, solution.loading)
        return assemble(Chosen(candidates, solution.loading), self.prepared, [*self.notes, *ended], optimiser)


def solve(
    case: Case,
    protocol: Protocol,
    control: SearchControl,
    targets: Asked | None,
    strength_on: date | None,
    implant_on: date | None,
    direction: tuple[float, float] | None,
) -> Solved:
    """Search, from the case to the best loading."""
    if direction is not None:
        fixed = {
            "azimuth_deg": direction[0],
            "tilt_deg": direction[1],
            "tilts_deg": (),
            "tilt_limits_deg": None,
        }
        # a direction is one for all needles, unless angles are asked for
        kind = protocol.template.arrangement
        kind = "parallel" if kind == "choose" else kind
        protocol = change(protocol, direction=fixed, template={"arrangement": kind})
    control.show("structures")
    stock = stock_of_protocol(protocol, case.identity.ct_date, strength_on, implant_on)
    prepared = prepare(case, protocol, targets, stock)
    notes = source_warnings(stock.source)
    if targets is None:
        only = prepared.targets[0].drawn.name
        notes.append(f"no target was named: '{only}' is the only ROI that can be one")
    notes += stock.notes
    # a target inside another is served by that one's template and gets none of its own
    outer = [target for target in prepared.targets if not target.nested_in]
    around = [Surroundings.of(prepared, target) for target in outer]
    scans = [scan(each, control) for each in around]
    searched = search_arrangements(best_arrangements(scans, protocol.search.layouts), prepared, control)
    control.show("goals")
    problem = searched.problem
    found, raised = reach_goals(searched.solution, problem, protocol, control)
    poses = tuple(each.pose for each in searched.arrangement.scored)
    choice = None
    if protocol.template.arrangement != "parallel":
        compared = compare_arrangements(
            around, scans, searched, Reached(problem, found, raised), prepared, control
        )
        (problem, found, raised), poses, choice = compared.reached, compared.poses, compared.choice
        notes.append(compared.sentence)
    _must_suffice(found, problem, protocol, control)
    strongest = int(np.argmax(protocol.source.stock_mCi))
    unreached = out_of_reach(problem, prepared.targets, prepared.anchor_mm, strongest)
    notes += [part.sentence for part in unreached]
    effort = OptimiserRecord(
        seed=control.seed,
        starts=protocol.search.starts,
        moves=moves_made(scans, len(problem.candidates), protocol),
        candidates=len(problem.candidates),
        samples=int(problem.terms.start[-1]),
        out_of_reach=tuple(part.record for part in unreached),
        arrangement=choice,
        directions=tuple(
            TriedDirections(target=target.name, tried=table_of(tried, best.pose, values))
            for target, tried, best, values in zip(
                outer, scans, searched.arrangement.scored, searched.values, strict=True
            )
        ),
    )
    price = sum(pose.price(protocol) for pose in poses)
    return Solved(prepared, control, problem, found, raised, notes, effort, price)


def _must_suffice(
    solution: Solution, problem: SearchProblem, protocol: Protocol, control: SearchControl
) -> None:
    """Refuse a plan whose seeds or needles, limited in number, cannot give what the required goals ask for.

    Raises
    ------
    BrachyError
        With what is reached, what is asked, and the activity that would do.
    """
    if control.interrupted or control.timed_out:
        return
    limits = problem.arrays.limits
    seeds = int(solution.loading.sum())
    if seeds < limits[0]:
        raise BrachyError(
            f"{limits[0]} seeds are to be used and only {seeds} find a place under the rules: lower seeds.count"
        )
    if "forbidden" in problem.terms_of(solution.loading):
        raise BrachyError("the least number of needles finds no place under the rules: lower needle.count")
    if protocol.seeds.count is None and protocol.needle.count is None:
        return
    least = least_v100_pct(protocol, required=True)
    reached, factor = coverage_short_by(problem, solution, least)
    if reached >= least - SURE_PCT:
        return
    needed = protocol.source.stock_mCi[0] * factor
    full = [f"{seeds} seeds" if seeds >= limits[1] else ""]
    full += [f"{limits[2]} needles" if protocol.needle.count is not None else ""]
    raise BrachyError(
        f"{' in '.join(word for word in full if word) or f'{seeds} seeds'} reach V100 {reached:.1f} %, "
        f"{least - SURE_PCT:g} % is required: about {needed:.2g} mCi a seed would do, or a larger count"
    )


__all__ = ["plan", "plan_alternatives"]
