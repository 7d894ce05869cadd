"""`brachy check`: the independent check of a written plan, and the commissioning of the dose engine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brachy.cli.flags import ForceFlag, JsonFlag, print_json, print_note
from brachy.errors import UsageError
from brachy.patient.overrides import date_of

if TYPE_CHECKING:
    from brachy.check import CheckReport


def check(
    plan: Annotated[
        Path | None, typer.Argument(metavar="[PLAN]", help="Folder that `brachy plan` wrote.")
    ] = None,
    commission: Annotated[
        bool, typer.Option("--commission", help="Engine against printed tables, closed forms, quadrature.")
    ] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="With --commission.")] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="With --commission: clinical data sets to compare with."),
    ] = None,
    implant_on: Annotated[
        str | None,
        typer.Option(
            "--implant-on", metavar="DATE", help="YYYY-MM-DD of the implantation, if not the plan's."
        ),
    ] = None,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
) -> int:
    """Check a written plan independently, or commission the engine; exit 1 if a check fails.

    Example: brachy check plan-liver
    """
    if commission == (plan is not None):
        raise UsageError("give a PLAN folder to check, or --commission -o DIR")
    if plan is not None:
        if out is not None or data is not None:
            raise UsageError("-o and --data go with --commission: the verdict on a plan is printed")
        from brachy.check import CheckReport, check_plan
        from brachy.check.implant_day import items_on
        from brachy.patient.implant_date import notes_on_strength
        from brachy.patient.plan import Plan

        day = date_of(implant_on, "--implant-on")
        report = check_plan(plan)
        if day is not None:
            report = CheckReport.of([*report.checks, *items_on(plan, day)])
        for note in notes_on_strength(Plan.load(plan)):
            print_note(note)
    else:
        if implant_on is not None:
            raise UsageError("--implant-on goes with a PLAN folder")
        report = _commissioned(out, data, force)
    if as_json:
        print_json(report.data())
    else:
        show(report, "Commissioning" if commission else "Independent check")
        if out is not None:
            print(f"wrote {out}")
    return 0 if report.verdict == "pass" else 1


def _commissioned(out: Path | None, data: Path | None, force: bool) -> "CheckReport":
    """The commissioning report, written into a folder."""
    if out is None:
        raise UsageError("--commission needs -o DIR for its report")
    from brachy.check.commission import commission, commissioning_files
    from brachy.output import plan_folder

    plan_folder.check_destination(out, force)
    report = commission(data)
    plan_folder.write_texts(commissioning_files(report), out, force=force)
    return report


def show(report: "CheckReport", title: str) -> None:
    """Print every comparison of a check, and the verdict."""
    from brachy.cli import console
    from brachy.cli.console import text

    table = console.table(title, "what", "expected", "found", "difference", "tolerance", "")
    for item in report.checks:
        tolerance = "" if item.tolerance is None else f"{item.tolerance:.3g} {item.unit}".strip()
        table.add_row(
            text(item.name),
            text(item.expected),
            text(item.found),
            console.cell(item.difference) if item.difference is not None else text(""),
            text(tolerance),
            text(item.verdict),
        )
    console.show(table, space=False)
    for item in report.failures:
        console.say(f"FAILED: {item.name}: expected {item.expected}, found {item.found}")
    console.say(f"verdict: {report.words}")
