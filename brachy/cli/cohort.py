"""`brachy cohort`: options in, a table of many cases out."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from brachy.cli.flags import AnonymiseFlag, ForceFlag, JsonFlag
from brachy.errors import UsageError


def cohort(
    listed: Annotated[
        str,
        typer.Argument(metavar="LIST", help="CSV with a column `case` and options; or a pattern: 'cases/*'."),
    ],
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
    anonymise: AnonymiseFlag = False,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
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
    with console.counted(quiet=as_json) as told:
        records = run_cohort(
            listed, out, verb=verb, workers_count=workers, scheduler=scheduler, outcomes=outcomes,
            cut=None if cut is None else Cut.of(cut), keep=keep, anonymise=anonymise, force=force, told=told,
        )  # fmt: skip
    failed = [record for record in records if record["status"] != "done"]
    if as_json:
        sys.stdout.write(canonical({"format": "brachy-cohort", "version": 1, "verb": verb, "cases": records}))
    else:
        console.show_cohort(records, out)
    return 1 if failed else 0
