"""`brachy dose`: the dose of a plan again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brachy.cli.flags import AnyPlan, OutputOptions, flat_options, print_json, use_threads
from brachy.patient.options import ACCEPT_STRENGTH, FORMALISM, IMPLANT_ON, THREADS, ModelOptions
from brachy.patient.overrides import date_of

if TYPE_CHECKING:
    from brachy.output.recompute import DoseResult


@flat_options
def dose(
    plan: AnyPlan,
    *,
    like: Annotated[
        Path | None,
        typer.Option("--like", metavar="RTDOSE", help="Use this dose file's grid and compare with it."),
    ] = None,
    grid: Annotated[
        float | None, typer.Option("--grid", metavar="MM", help="Voxel size; default 1 mm.")
    ] = None,
    model: ModelOptions,
    formalism: Annotated[str | None, FORMALISM] = None,
    implant_on: Annotated[str | None, IMPLANT_ON] = None,
    accept_strength: Annotated[bool, ACCEPT_STRENGTH] = False,
    days: Annotated[
        float | None, typer.Option("--days", help="Dose to this day; default complete decay.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DOSE.dcm", help="RTDOSE to write.")
    ] = None,
    threads: Annotated[int | None, THREADS] = None,
    output: OutputOptions,
) -> None:
    """Compute the dose of a plan on a grid.

    Example: brachy dose RTPLAN.dcm --like RTDOSE.dcm
    """
    use_threads(threads)
    from brachy.cli import warmup
    from brachy.output import recompute

    warmup.start("dose")
    result = recompute.recompute(
        plan, like=like, spacing_mm=grid, source=model.source, accept_unverified=model.accept_unverified,
        formalism=formalism, days=days, implant_on=date_of(implant_on, "--implant-on"),
        accept_strength=accept_strength, out=out, anonymise=output.anonymise, force=output.force,
    )  # fmt: skip
    if output.as_json:
        print_json(result.summary())
    else:
        show(result)


def show(result: "DoseResult") -> None:
    """Print the summary of a recomputed dose and, with --like, of the comparison."""
    from brachy.cli import console

    console.say(f"{result.seeds} seeds, {result.formalism}, {result.model}; maximum {result.max_gy:.1f} Gy")
    for line in result.lines:
        console.say(line)
    if result.output:
        console.say(f"wrote {result.output}")
