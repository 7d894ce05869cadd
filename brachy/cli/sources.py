"""`brachy sources`: the seed models."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brachy.cli.flags import ForceFlag, JsonFlag, print_json
from brachy.errors import UsageError

if TYPE_CHECKING:
    from brachy.dosimetry.source import Source


def sources(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL|FILE]")] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.png", help="Draw g, F and the dose round the seed of MODEL."),
    ] = None,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List the seed models, or print one with its ranges and where its numbers are from.

    Example: brachy sources amersham_6711 --plot seed.png
    """
    from brachy.dosimetry.source import available_sources, load_source

    if model is None:
        if plot is not None:
            raise UsageError(
                "--plot draws one model: name it, as in brachy sources amersham_6711 --plot seed.png"
            )
        listed = available_sources()
        if as_json:
            print_json({"sources": {source.name: source.status for source in listed}})
        else:
            show_list(listed)
        return
    source = load_source(model, accept_unverified=True)  # to look at; to use it must be accepted
    if plot is not None:
        from brachy.output.figures.source_figure import write_source_figure

        write_source_figure(source, plot, force=force)
    if as_json:
        print_json(source.to_dict())
    else:
        for key, value in source.to_dict().items():
            _show_entry(key, value, "")
        if plot is not None:
            print(f"wrote {plot}")


def show_list(listed: "Sequence[Source]") -> None:
    """Print a table of the seed models."""
    from brachy.cli import console
    from brachy.cli.console import text

    table = console.table("Seed models", "name", "model", "Lambda cGy/h/U", "L mm", "status", "data")
    for source in listed:
        table.add_row(
            text(source.name),
            text(source.model),
            text(f"{source.dose_rate_constant:.3f}"),
            text(f"{source.active_length_cm * 10:g}"),
            text(source.status),
            text(source.reference),
        )
    console.show(table, space=False)


def _show_entry(key: str, value: Any, indent: str) -> None:
    """Print an entry of a source file, what it holds indented below it."""
    from brachy.cli.console import say

    if isinstance(value, dict):
        say(f"{indent}{key}:")
        for inner, item in value.items():
            _show_entry(str(inner), item, indent + "  ")
    elif isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)):
        say(f"{indent}{key}:")
        for row in value:
            say(f"{indent}  " + "  ".join(f"{number:g}" for number in row))
    elif isinstance(value, (list, tuple)):
        say(f"{indent}{key}: " + "; ".join(str(item) for item in value))
    else:
        say(f"{indent}{key}: {value}")
