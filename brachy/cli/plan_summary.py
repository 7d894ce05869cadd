"""The summary of a plan on the terminal: targets, organs, goals, rules, seeds, assumptions."""

from collections.abc import Sequence
from pathlib import Path

from brachy.cli import console
from brachy.cli.console import cell, say, table, text, unit
from brachy.dosimetry.shown_metrics import Table, metrics_in
from brachy.dosimetry.strength import air_kerma_rate_at_1m, order_list, strength_needed
from brachy.output.csv_tables import most_exposed_organ
from brachy.output.verdict import organs_by_nearness, verdict
from brachy.patient.evaluation_record import GoalCounts, GoalResult, RuleCounts, RuleResult
from brachy.patient.plan import Plan
from brachy.units import mci_from_strength

MOST_NAMED = 5
"""ROIs that were not understood are named up to this number (engineering choice)."""

MOST_ORGANS = 3
"""Organs that are shown (engineering choice)."""

MOST_RULES = 4
"""Rules that are shown which are not kept (engineering choice)."""


def _show_not_understood(plan: Plan, most: int | None = None) -> None:
    unclear = [structure for structure in plan.structures if not structure.understood]
    for structure in unclear[:most]:
        stops = "it stops needles" if structure.obstacle else f"no obstacle: {structure.obstacle_why}"
        say(f"NOT UNDERSTOOD: ROI '{structure.roi}': {structure.why}; {stops}")
    if most is not None and len(unclear) > most:
        say(f"NOT UNDERSTOOD: {len(unclear) - most} more ROIs; -v lists them")


def _show_structures(plan: Plan) -> None:
    """Every ROI with the role it was given and why; what was not understood on top."""
    _show_not_understood(plan)
    shown = table("Structures and their roles", "ROI", "role", "because of", "stops needles", "because")
    for column in shown.columns:
        column.justify = "left"
    for structure in plan.structures:
        role = structure.role.replace("_", " ") + ("" if structure.understood else ", not understood")
        stops = "yes" if structure.obstacle else "no"
        shown.add_row(*map(text, (structure.roi, role, structure.why, stops, structure.obstacle_why)))
    console.show(shown, space=False)
    say()


def show_plan(plan: Plan, folder: Path | None, *, full: bool = False) -> None:
    """Summary of a plan on a screen of 80 by 45; `full` adds every structure, rule, organ and assumption."""
    if plan.structures and full:
        _show_structures(plan)
    elif plan.structures:
        _show_not_understood(plan, MOST_NAMED)
    if plan.access is not None:
        say(f"patient: {plan.access.sentence}")
    _show_metrics(plan, full)
    _show_judgement(plan, full)
    _show_implant(plan, full)
    _show_second_opinion(plan)
    if full:
        for sentence in plan.assumed:
            say(f"assumed: {sentence}")
        for sentence in plan.limits:
            say(f"limit: {sentence}")
    elif plan.assumed or plan.limits:
        said = f"{len(plan.assumed)} assumed and {len(plan.limits)} limits of the dose calculation"
        say(f"not shown: {said}; -v or the report has them")
    search = plan.optimiser
    found, bound, gap = search.objective, search.lower_bound, search.gap_relative
    if found is not None and bound is not None and gap is not None:
        say(
            f"certificate: objective {found:.4g}, bound {bound:.4g}: at most {100 * gap:.1f} % of it could be saved"
        )
        say(f"certificate: {search.certificate}")
    if search.interrupted:
        say("interrupted: this is the best plan found until then")
    say("Not a medical device: for research and education.")
    if folder is not None:
        say(f"wrote {folder}; the report is {folder / 'report.html'}")
    say()
    for line in verdict(plan):
        say(f"{line.about}: {line.text}")


def _show_metrics(plan: Plan, full: bool) -> None:
    """Tables of targets and organs; without `full` the organs nearest to a limit, then those of the highest dose."""
    metrics = plan.evaluation.structures
    of_targets, of_organs = metrics_in(Table.TERMINAL_TARGETS), metrics_in(Table.TERMINAL_ORGANS)
    shown = table(
        f"Targets ({plan.evaluation.formalism} dose to complete decay)",
        "ROI",
        "Rx Gy",
        *map(unit, of_targets),
    )
    for target in plan.targets:
        values = metrics.get(target.roi, {})
        shown.add_row(
            text(target.roi), cell(target.prescription_gy), *(cell(values.get(c)) for c in of_targets)
        )
    console.show(shown, space=False)
    organs = organs_by_nearness(plan)
    listed = organs if full else organs[:MOST_ORGANS]
    if listed:
        more = f", {len(organs) - len(listed)} more with -v" if len(organs) > len(listed) else ""
        shown = table(f"Organs, nearest to a limit or hottest first{more}", "ROI", *map(unit, of_organs))
        for name in listed:
            shown.add_row(text(name), *(cell(metrics[name].get(c)) for c in of_organs))
        console.show(shown)


def show_replan(plan: Plan) -> None:
    """Where the target stands, what the old plan would still reach and what the new one does; the changes in words."""
    search = plan.optimiser
    if search.replan is not None:
        figures = search.replan
        names = list(dict.fromkeys(name for values in figures.new.values() for name in values))
        shown = table("In the operating room (on the samples of the search)", "ROI", "", *map(unit, names))
        for roi in figures.new:
            for each, title in (
                (figures.now, "in now"),
                (figures.old, "old plan"),
                (figures.new, "new plan"),
            ):
                shown.add_row(text(roi), text(title), *(cell(each[roi][name]) for name in names))
        console.show(shown, space=False)
    if search.carried_on:
        say("nothing better was found: the old plan is carried on")
    for sentence in search.changes:
        say(f"change: {sentence}")
    for roi, short in search.short_by.items():
        say(
            f"'{roi}' is short of its goals by {short.V100_pct:.3g} % of V100 and {short.D90_gy:.3g} Gy of D90"
        )
    if search.helps_most is not None:
        say(f"what would help most: {search.helps_most}")
    say()


def show_alternatives(named: Sequence[tuple[str, Plan]], wanted: int) -> None:
    """One table of several plans of a case."""
    organ = most_exposed_organ(named[0][1])
    metrics = metrics_in(Table.ALTERNATIVES)
    shown = table(
        "Alternatives",
        "plan",
        "ROI",
        "needles",
        "seeds",
        *map(unit, metrics),
        *([f"{organ} D2cc"] if organ else []),
    )
    for name, plan in named:
        for target in plan.targets:
            values = plan.evaluation.structures[target.roi]
            dosed = [cell(values[m]) for m in metrics]
            if organ:
                dosed.append(cell(plan.evaluation.structures[organ]["D2cc_gy"]))
            counts = cell(len(plan.needles)), cell(plan.seed_count)
            shown.add_row(text(name), text(target.roi), *counts, *dosed)
    console.show(shown)
    if len(named) < wanted:
        say(f"{len(named)} different good plans were found, {wanted} were asked for")


def _show_judgement(plan: Plan, full: bool) -> None:
    """Goals and rules; without `full` counts, and the rules that are not kept: the verdict below has the goals."""
    if full:
        shown = table("Goals and rules", "goal or rule", "limit", "found", "where", "")
        for goal in plan.evaluation.goals:
            limit = f"{goal.op} {goal.limit:.4g}"
            shown.add_row(
                text(f"{goal.roi} {unit(goal.metric)}"), text(limit), cell(goal.value), text(goal.reason),
                text(goal_words(goal)),
            )  # fmt: skip
        for rule in plan.rules:
            shown.add_row(
                text(rule.rule),
                text(rule.limit),
                text(rule_value(rule)),
                text(rule.where),
                text(_status(rule)),
            )
        console.show(shown)
    say(f"required goals: {GoalCounts.of(goal for goal in plan.evaluation.goals if goal.required)}")
    say(f"rules: {RuleCounts.of(plan.rules)}")
    order = ("broken", "reported", "not checked")
    others = sorted((r for r in plan.rules if r.status in order), key=lambda rule: order.index(rule.status))
    for rule in () if full else others[:MOST_RULES]:
        found = "" if rule.worst is None else f" {rule_value(rule)} ({rule.limit})"
        say(f"  {_status(rule)}: {rule.rule}{found}")
    if not full and len(others) > MOST_RULES:
        say(f"  {len(others) - MOST_RULES} more that are not kept; -v lists all")


def _status(rule: RuleResult) -> str:
    return "BROKEN" if rule.broken else rule.status


def rule_value(rule: RuleResult) -> str:
    """Worst case of a rule with its unit, a dash for none."""
    return "-" if rule.worst is None else f"{rule.worst:.3g} {rule.unit}".strip()


def goal_words(goal: GoalResult) -> str:
    """Verdict on a goal in a table: a required one that is missed stands in capitals."""
    if goal.met is None:
        return "not checked"
    near = ", within its uncertainty" if goal.near else ""
    return f"{'met' if goal.met else 'MISSED' if goal.required else 'aim missed'}{near}"


def _show_implant(plan: Plan, full: bool) -> None:
    kinds = ", ".join(
        f"{s.model} {s.air_kerma_strength_U:.3f} U ({s.apparent_activity_mCi:.2f} mCi apparent)"
        for s in plan.sources
    )
    strengths = [strength for _, strength in strength_of_seeds(plan)]
    if full:
        say()
    say(f"{plan.seed_count} seeds in {len(plan.needles)} needles; {kinds}; {sum(strengths):.2f} U in all")
    choice = plan.optimiser.arrangement
    if choice is not None:
        words = "at angles of their own" if choice.chosen == "individual" else "parallel"
        say(f"needles {words}: {choice.why}")
    if not full:
        return
    for line in order_list(strength_of_seeds(plan)):
        say(
            f"order: {line.count} seeds {line.model} ({line.planned} and {line.spares} spares) of "
            f"{line.strength_U:.3f} U ({line.apparent_activity_mCi:.2f} mCi apparent) on the day of the implantation: "
            f"{line.total_strength_U:.2f} U, {line.total_activity_mCi:.1f} mCi in all"
        )
    say(
        f"air-kerma rate of the implant at 1 m on its day: {air_kerma_rate_at_1m(strengths):.1f} uGy/h in free space "
        "(tissue takes most of it away)"
    )
    for target in plan.targets:
        d90 = plan.evaluation.structures.get(target.roi, {}).get("D90_gy")
        if d90 and len(plan.sources) == 1:
            needed = strength_needed(strengths[0], d90, target.prescription_gy) if strengths else 0.0
            say(
                f"strength needed for D90 of {target.roi} = {target.prescription_gy:g} Gy with this loading: "
                f"{needed:.3f} U ({mci_from_strength(needed):.2f} mCi apparent) a seed on the day of the implantation"
            )


def strength_of_seeds(plan: Plan) -> list[tuple[str, float]]:
    """Model and strength in U, on the day of the implantation, of every seed of a plan."""
    sources = [plan.sources[seed.source] for needle in plan.needles for seed in needle.seeds]
    return [(source.model, source.air_kerma_strength_U) for source in sources]


def _show_second_opinion(plan: Plan) -> None:
    if not plan.check.made:
        return
    say(f"independent check of the files written: {plan.check.words}")
    for item in plan.check.failures:
        say(f"INDEPENDENT CHECK FAILED: {item.name}: expected {item.expected}, found {item.found}")
