"""`brachy dvh`: dose-volume metrics of any dose file with any structure set."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brachy.cli.flags import JsonFlag, print_json, print_note
from brachy.errors import UsageError
from brachy.patient.overrides import prescriptions_of

if TYPE_CHECKING:
    from brachy.output.recompute import MetricTable


def dvh(
    dose: Annotated[Path, typer.Argument(metavar="DOSE", help="Any RTDOSE.")],
    structures: Annotated[Path, typer.Argument(metavar="STRUCTURES", help="Any RTSTRUCT.")],
    prescription: Annotated[
        list[str] | None,
        typer.Option("--prescription", metavar="[ROI=]GY", help="For V100_pct and the like."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="D95", help="May be repeated; default a usual set."),
    ] = None,
    as_json: JsonFlag = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
) -> None:
    """Dose-volume metrics of any RTDOSE with any RTSTRUCT.

    Example: brachy dvh RTDOSE.dcm RTSTRUCT.dcm --prescription PTV=145
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other: choose one")
    from brachy.cli import warmup
    from brachy.output import recompute

    warmup.start("dvh")
    table = recompute.dose_volume_table(dose, structures, prescriptions_of(prescription), metric or [])
    if as_json:
        print_json({"structures": table.values})
    elif as_csv:
        sys.stdout.write(table.to_csv())
    else:
        show(table)
    for note in table.notes:
        print_note(note)


def show(table: "MetricTable") -> None:
    """Print metrics, a row a structure."""
    from brachy.cli import console

    shown = console.table("Dose-volume metrics", "ROI", *map(console.unit, table.metrics))
    for roi, values in table.values.items():
        shown.add_row(console.text(roi), *(console.cell(values.get(metric)) for metric in table.metrics))
    console.show(shown, space=False)
