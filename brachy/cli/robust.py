"""`brachy robust`: options in, and what is shown of a Monte Carlo."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from brachy.cli.flags import AnonymiseFlag


def robust(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="Folder that `brachy plan` wrote.")],
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="Number of scenarios.")] = 1000,
    uncertainty: Annotated[
        Path | None,
        typer.Option("--uncertainty", metavar="FILE", help="TOML file; default the published figures."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Folder for robust.json and robust.html."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed, the same scenarios.")] = 0,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="By default one for each core.")
    ] = None,
    anonymise: AnonymiseFlag = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")
    ] = False,
) -> None:
    """Say what a plan delivers when needles deviate: intervals, and the probability of each goal.

    Example: brachy robust plan-liver -o robust-liver
    """
    from brachy.cli import console
    from brachy.evaluation import robustness
    from brachy.output import plan_folder
    from brachy.output.report import render_robust
    from brachy.patient import privacy
    from brachy.patient.plan import Plan
    from brachy.writing import canonical, rounded

    if out is not None:
        plan_folder.check_destination(out, force)
    with console.progress(quiet=as_json) as progress:
        found = robustness.robust_folder(
            plan, samples=samples, seed=seed, uncertainty=uncertainty, threads=threads, progress=progress
        )
    found = rounded(found)
    if out is not None:
        shown = Plan.load(plan)
        page = render_robust(found, privacy.nameless(shown) if anonymise else shown)
        plan_folder.write_texts({"robust.json": canonical(found), "robust.html": page}, out, force=force)
    if as_json:
        sys.stdout.write(canonical(found))
    else:
        console.show_robust(found)
        if out is not None:
            print(f"wrote {out}")
