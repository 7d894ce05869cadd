"""`brachy robust`: what a plan delivers when needles and seeds deviate."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brachy.cli.flags import OutputOptions, PlanFolder, flat_options, print_note
from brachy.patient.options import DeviationOptions, ScenarioOptions

if TYPE_CHECKING:
    from brachy.evaluation.robust_record import RobustRecord


@flat_options
def robust(
    plan: PlanFolder,
    *,
    deviation: DeviationOptions,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Folder for robust.json and robust.html."),
    ] = None,
    scenarios: ScenarioOptions,
    output: OutputOptions,
) -> None:
    """Say what a plan delivers when needles deviate: intervals, and the probability of each goal.

    Example: brachy robust plan-liver -o robust-liver
    """
    from brachy.cli import console, warmup
    from brachy.evaluation import robustness
    from brachy.output import plan_folder
    from brachy.output.report import render_robust
    from brachy.patient import privacy
    from brachy.patient.implant_date import notes_on_strength
    from brachy.patient.plan import Plan

    if out is not None:
        plan_folder.check_destination(out, output.force)
    warmup.start("robust")
    with console.progress(quiet=output.as_json) as progress:
        found = robustness.robust_folder(
            plan,
            samples=deviation.samples,
            seed=scenarios.seed,
            uncertainty=deviation.uncertainty,
            threads=scenarios.threads,
            progress=progress,
        )
    for note in notes_on_strength(Plan.load(plan)):
        print_note(note)
    found = found.as_written()
    if out is not None:
        shown = Plan.load(plan)
        page = render_robust(found, privacy.nameless(shown) if output.anonymise else shown)
        plan_folder.write_texts(
            {"robust.json": found.to_json(), "robust.html": page}, out, force=output.force
        )
    if output.as_json:
        sys.stdout.write(found.to_json())
    else:
        show(found)
        if out is not None:
            print(f"wrote {out}")


def show(found: "RobustRecord") -> None:
    """Print intervals, goals and needles of a Monte Carlo."""
    from brachy.cli import console
    from brachy.cli.console import cell, say, table, text, unit

    title = f"{found.samples} scenarios ({found.formalism}): planned, mean, and 95 % of the scenarios between"
    shown = table(title, "ROI", "metric", "planned", "mean", "SD", "2.5 %", "97.5 %")
    for roi, rows in found.intervals.items():
        for name, values in rows.items():
            columns = (values.nominal, values.mean, values.sd, values.p2_5, values.p97_5)
            shown.add_row(text(roi), text(unit(name)), *map(cell, columns))
    console.show(shown, space=False)
    say()
    for goal in found.goals:
        demanded = "" if goal.required else " (aim)"
        limit = f"{goal.op} {goal.limit:g}"
        held = "not checked" if goal.probability is None else f"held in {100 * goal.probability:.1f} %"
        say(f"{goal.roi} {unit(goal.metric)} {limit}{demanded}: {held}")
    most = ", ".join(f"{entry.hole} {entry.influence:.2f} Gy" for entry in found.needles[:5])
    say(f"needles that matter most (SD of D90 when they alone err): {most}")
    say("uncertainties and their sources: brachy/data/uncertainty.toml, or your --uncertainty FILE")
    say("Not a medical device: for research and education.")
