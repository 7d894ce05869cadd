"""`brachy replan` and `brachy approve`: options in, a child of the plan or a mark out."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from brachy.cli.flags import AnonymiseFlag, ForceFlag, JsonFlag, say_note, use_threads
from brachy.errors import UsageError


def replan(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="Folder that `brachy plan` wrote.")],
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
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the search.")] = 0,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="By default one for each core.")
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option("--time-limit", metavar="S", help="Stop the search; gives up reproducibility."),
    ] = None,
    anonymise: AnonymiseFlag = False,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
) -> int:
    """Plan the rest of an implantation round what is placed.

    Example: brachy replan plan-liver --placed placed.csv -o plan-liver-2
    """
    use_threads(threads)
    from brachy import optimise
    from brachy.cli import console
    from brachy.optimise.replanning.implanted_so_far import read_placed
    from brachy.output import plan_folder, view_plan
    from brachy.patient import privacy
    from brachy.patient.lineage import ancestors_for_child
    from brachy.patient.plan import Plan

    if time_limit is not None and not time_limit > 0:
        raise UsageError(f"--time-limit {time_limit:g}: give seconds above 0")
    folder = out if out is not None else None if as_json else plan.with_name(f"{plan.name}-replan")
    before = Plan.load(plan)
    if anonymise:
        privacy.must_be_nameless(before, str(plan))
    events = read_placed(placed, before)
    if folder is not None:
        plan_folder.check_destination(folder, force)
    found = view_plan.load(plan, case, say_note)
    if not found.has_ct:
        raise UsageError("the plan's CT was not found beside it: give the patient with --case")
    if anonymise:
        found = replace(found, case=privacy.anonymised(found.case))
    ancestors = ancestors_for_child(plan)
    with console.progress(quiet=as_json) as progress:
        made = optimise.replan(
            before,
            found.case,
            events,
            seed=seed,
            threads=threads,
            time_limit=time_limit,
            progress=progress,
            cache=plan if plan.is_dir() else plan.parent,
        )
    if folder is not None:
        # a case that was no DICOM has its CT in the plan's folder, and a child keeps it
        with_ct = True if (plan / "ct").is_dir() else None
        plan_folder.write_outputs(
            made, found.case, folder, force=force, ancestors=ancestors, with_ct=with_ct, say=say_note
        )
        made = Plan.load(folder)
    if as_json:
        sys.stdout.write(made.to_json())
    else:
        console.show_replan(made)
        console.show_plan(made, folder)
    return 1 if made.check.failed else 0


def approve(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="Folder that `brachy plan` wrote.")],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who approves.")],
) -> None:
    """Mark a plan as approved: its folder is never replaced, and changes make a child.

    Example: brachy approve plan-liver --by "A. Physicist"
    """
    from brachy.patient import lineage

    file = lineage.approve(plan, by)
    print(f"wrote {file}")
