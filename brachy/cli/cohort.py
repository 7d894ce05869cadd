"""`brachy cohort`: options in, a table of many cases out."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brachy.cli.flags import OutputOptions, flat_options
from brachy.errors import UsageError

if TYPE_CHECKING:
    from brachy.cohort.records import CaseRecord


@flat_options
def cohort(
    listed: Annotated[
        str,
        typer.Argument(metavar="LIST", help="CSV with a column `case` and options; or a pattern: 'cases/*'."),
    ],
    *,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="Folder to write, or to go on with.")
    ],
    verb: Annotated[
        str, typer.Option("--verb", metavar="plan|verify|robust", help="What is done with each case.")
    ] = "plan",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, help="Local workers of one thread; default one a core."
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="ADDRESS", help="A Dask scheduler that runs, tcp://HOST:PORT."),
    ] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option(
            "--outcomes", metavar="FILE", help="Response, PFS and OS of the patients (docs/cohort.md)."
        ),
    ] = None,
    cut: Annotated[
        str | None,
        typer.Option(
            "--cut",
            metavar="METRIC[=VALUE]",
            help="Divides the outcomes; default D90_gy at the prescription.",
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Also keep each case's own folder, in OUT/cases.")
    ] = False,
    output: OutputOptions,
) -> int:
    """Plan, verify or robust over many cases, on local workers or a Dask cluster; goes on where it stopped.

    Example: brachy cohort cases.csv --verb plan -o cohort
    """
    if workers is not None and scheduler is not None:
        raise UsageError("--workers and --scheduler exclude each other: a scheduler has its own workers")
    if cut is not None and outcomes is None:
        raise UsageError("--cut goes with --outcomes FILE")
    from brachy import interrupts
    from brachy.cli import console
    from brachy.cohort.outcomes import Cut
    from brachy.cohort.running import run_cohort
    from brachy.writing import canonical

    interrupts.set_grace(5.0)
    with console.counted(quiet=output.as_json) as finished:
        records = run_cohort(
            listed, out, verb=verb, workers_count=workers, scheduler=scheduler, outcomes=outcomes,
            cut=None if cut is None else Cut.of(cut), keep=keep, anonymise=output.anonymise, force=output.force,
            told=finished,
        )  # fmt: skip
    failed = [record for record in records if not record.done]
    if output.as_json:
        cases = [record.data() for record in records]
        sys.stdout.write(canonical({"format": "brachy-cohort", "version": 1, "verb": verb, "cases": cases}))
    else:
        show(records, out)
    return 1 if failed else 0


def show(records: "Sequence[CaseRecord]", folder: Path) -> None:
    """Print how many cases are done and failed, and the spread of the metrics of their first targets."""
    from brachy.cli import console
    from brachy.cli.console import cell, say, table, text, unit
    from brachy.dosimetry.shown_metrics import Table, metrics_in

    done = [record.metrics for record in records if record.done]
    say(f"{len(done)} of {len(records)} cases done, {len(records) - len(done)} failed")
    shown = table("First target of each case", "metric", "cases", "least", "median", "most")
    for name in (*metrics_in(Table.TERMINAL_TARGETS), "seeds", "needles"):
        values = sorted(float(value) for metrics in done if (value := metrics.get(name)) is not None)
        if values:
            middle = 0.5 * (values[(len(values) - 1) // 2] + values[len(values) // 2])
            shown.add_row(text(unit(name)), str(len(values)), *map(cell, (values[0], middle, values[-1])))
    if done:
        console.show(shown)
    say("Not a medical device: for research and education.")
    say(f"wrote {folder}")
