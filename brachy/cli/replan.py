"""`brachy replan` and `brachy approve`: a child of a plan, or a mark beside it."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from brachy.cli.flags import OutputOptions, PlanFolder, VerboseOption, flat_options, print_note, use_threads
from brachy.errors import UsageError
from brachy.patient.options import SearchOptions
from brachy.patient.overrides import time_limit_of


@flat_options
def replan(
    plan: PlanFolder,
    *,
    placed: Annotated[
        Path,
        typer.Option(
            "--placed", metavar="FILE", help="placed.csv of the plan, filled in; or its rows as .json."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Folder to write; default PLAN-replan (with --json nothing is written)."
        ),
    ] = None,
    case: Annotated[
        str | None,
        typer.Option("--case", metavar="CASE", help="The patient; by default found beside the plan."),
    ] = None,
    search: SearchOptions,
    verbose: VerboseOption = False,
    output: OutputOptions,
) -> int:
    """Plan the rest of an implantation round what is placed.

    Example: brachy replan plan-liver --placed placed.csv -o plan-liver-2
    """
    use_threads(search.threads)
    from brachy import optimise
    from brachy.cli import console, plan_summary, warmup
    from brachy.optimise.replanning.implanted_so_far import read_placed
    from brachy.output import plan_folder, view_plan
    from brachy.patient import privacy
    from brachy.patient.lineage import ancestors_for_child
    from brachy.patient.plan import Plan

    time_limit_of(search.time_limit)
    folder = out if out is not None else None if output.as_json else plan.with_name(f"{plan.name}-replan")
    before = Plan.load(plan)
    if output.anonymise:
        privacy.must_be_nameless(before, str(plan))
    events = read_placed(placed, before)
    if folder is not None:
        plan_folder.check_destination(folder, output.force)
    warmup.start("replan")
    found = view_plan.load(plan, case, print_note)
    if not found.has_ct:
        raise UsageError("the plan's CT was not found beside it: give the patient with --case")
    if output.anonymise:
        found = replace(found, case=privacy.anonymised(found.case))
    ancestors = ancestors_for_child(plan)
    with console.progress(quiet=output.as_json) as progress:
        made = optimise.replan(
            before,
            found.case,
            events,
            seed=search.seed,
            threads=search.threads,
            time_limit=search.time_limit,
            progress=progress,
            cache=plan if plan.is_dir() else plan.parent,
        )
    if folder is not None:
        # a case that was no DICOM has its CT in the plan's folder, and a child keeps it
        with_ct = True if (plan / "ct").is_dir() else None
        plan_folder.write_outputs(
            made, found.case, folder, force=output.force, ancestors=ancestors, with_ct=with_ct, say=print_note
        )
        made = Plan.load(folder)
    if output.as_json:
        sys.stdout.write(made.to_json())
    else:
        plan_summary.show_replan(made)
        plan_summary.show_plan(made, folder, full=verbose)
    return 1 if made.check.failed else 0


def approve(
    plan: PlanFolder,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who approves.")],
) -> None:
    """Mark a plan as approved: its folder is never replaced, and changes make a child.

    Example: brachy approve plan-liver --by "A. Physicist"
    """
    from brachy.patient import lineage

    file = lineage.approve(plan, by)
    print(f"wrote {file}")
