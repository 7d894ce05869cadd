"""The summary of a plan on the terminal: targets, organs, goals, rules, seeds, assumptions."""

from collections.abc import Sequence
from pathlib import Path

from brachy.cli import console
from brachy.cli.console import cell, say, table, text, unit
from brachy.dosimetry.shown_metrics import Table, metrics_in
from brachy.dosimetry.strength import air_kerma_rate_at_1m, order_list, strength_needed
from brachy.output.csv_tables import most_exposed_organ
from brachy.output.verdict import verdict
from brachy.patient.evaluation_record import GoalCounts, GoalResult, RuleCounts
from brachy.patient.plan import Plan
from brachy.units import mci_from_strength


def _show_structures(plan: Plan) -> None:
    """Every ROI with the role it was given and why; what was not understood on top."""
    for structure in plan.structures:
        if not structure.understood:
            stops = "it stops needles" if structure.obstacle else f"no obstacle: {structure.obstacle_why}"
            say(f"NOT UNDERSTOOD: ROI '{structure.roi}': {structure.why}; {stops}")
    shown = table("Structures and their roles", "ROI", "role", "because of", "stops needles", "because")
    for column in shown.columns:
        column.justify = "left"
    for structure in plan.structures:
        role = structure.role.replace("_", " ") + ("" if structure.understood else ", not understood")
        stops = "yes" if structure.obstacle else "no"
        shown.add_row(*map(text, (structure.roi, role, structure.why, stops, structure.obstacle_why)))
    console.show(shown, space=False)
    say()


def show_plan(plan: Plan, folder: Path | None) -> None:
    """Summary of a plan: structures, targets, organs, goals, rules, what was assumed, and the folder."""
    if plan.structures:
        _show_structures(plan)
    if plan.access is not None:
        say(f"patient: {plan.access.sentence}")
        say()
    metrics = plan.evaluation.structures
    of_targets, of_organs = metrics_in(Table.TERMINAL_TARGETS), metrics_in(Table.TERMINAL_ORGANS)
    targets = [target.roi for target in plan.targets]
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
    organs = [name for name in metrics if name not in targets]
    if organs:
        shown = table("Organs", "ROI", *map(unit, of_organs))
        for name in organs:
            shown.add_row(text(name), *(cell(metrics[name].get(c)) for c in of_organs))
        console.show(shown)
    _show_judgement(plan)
    _show_implant(plan)
    _show_second_opinion(plan)
    for sentence in plan.assumed:
        say(f"assumed: {sentence}")
    for sentence in plan.limits:
        say(f"limit: {sentence}")
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
        say(f"wrote {folder}")
    say()
    for line in verdict(plan):
        say(f"{line.about}: {line.text}")


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


def _show_judgement(plan: Plan) -> None:
    shown = table("Goals and rules", "goal or rule", "limit", "found", "where", "")
    for goal in plan.evaluation.goals:
        limit = f"{goal.op} {goal.limit:.4g}"
        shown.add_row(
            text(f"{goal.roi} {unit(goal.metric)}"), text(limit), cell(goal.value), text(goal.reason),
            text(goal_words(goal)),
        )  # fmt: skip
    for rule in plan.rules:
        found = "-" if rule.worst is None else f"{rule.worst:.3g} {rule.unit}".strip()
        status = "BROKEN" if rule.broken else rule.status
        shown.add_row(text(rule.rule), text(rule.limit), text(found), text(rule.where), text(status))
    console.show(shown)
    say(f"required goals: {GoalCounts.of(goal for goal in plan.evaluation.goals if goal.required)}")
    say(f"rules: {RuleCounts.of(plan.rules)}")


def goal_words(goal: GoalResult) -> str:
    """Verdict on a goal in a table: a required one that is missed stands in capitals."""
    if goal.met is None:
        return "not checked"
    near = ", within its uncertainty" if goal.near else ""
    return f"{'met' if goal.met else 'MISSED' if goal.required else 'aim missed'}{near}"


def _show_implant(plan: Plan) -> None:
    kinds = ", ".join(
        f"{s.model} {s.air_kerma_strength_U:.3f} U ({s.apparent_activity_mCi:.2f} mCi apparent)"
        for s in plan.sources
    )
    strengths = [strength for _, strength in strength_of_seeds(plan)]
    say()
    say(f"{plan.seed_count} seeds in {len(plan.needles)} needles; {kinds}; {sum(strengths):.2f} U in all")
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
