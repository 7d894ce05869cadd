"""`brachy view`: a plan in three dimensions."""

from pathlib import Path
from typing import Annotated

import typer

from brachy.cli.flags import AnonymiseFlag, ForceFlag, PlanFolder, PrintedTemplateOption, print_note


def view(
    plan: PlanFolder,
    case: Annotated[
        str | None, typer.Option("--case", metavar="CASE", help="The patient, if not beside the plan.")
    ] = None,
    screenshot: Annotated[
        Path | None,
        typer.Option("--screenshot", metavar="FILE.png", help="Write a picture; no display needed."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE.html", help="Write a page with the scene to turn.")
    ] = None,
    stl: Annotated[
        Path | None, typer.Option("--stl", metavar="FILE.stl", help="Write the printable template.")
    ] = None,
    guide: PrintedTemplateOption = None,
    anonymise: AnonymiseFlag = False,
    force: ForceFlag = False,
) -> None:
    """Show a plan in three dimensions: a window, or the files asked for.

    Example: brachy view plan-liver --html scene.html
    """
    from brachy.output import view_plan
    from brachy.output.printed_template import printed_template_options

    written = view_plan.view(
        plan,
        case=case,
        screenshot=screenshot,
        page=page,
        stl=stl,
        printed_template=printed_template_options(guide),
        anonymise=anonymise,
        force=force,
        say=print_note,
    )
    for file in written:
        print(f"wrote {file}")
