"""`brachy protocols`: the planning protocols."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from brachy.cli.flags import JsonFlag, print_json

if TYPE_CHECKING:
    from brachy.patient.protocol import Protocol


def protocols(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the planning protocols, or print one with unit, value and source of every field.

    Example: brachy protocols liver-metastasis
    """
    from brachy import resources
    from brachy.patient.protocol import load_protocol

    if name is None:
        listed = [load_protocol(each) for each in resources.names("plans")]
        if as_json:
            print_json({"protocols": [protocol.name for protocol in listed]})
        else:
            show_list(listed)
        return
    protocol = load_protocol(name)
    if as_json:
        print_json(protocol.model_dump(mode="json"))
    else:
        show(protocol)


def show_list(listed: "Sequence[Protocol]") -> None:
    """Print a table of the protocols."""
    from brachy.cli import console
    from brachy.cli.console import cell, text

    table = console.table("Protocols", "name", "Rx Gy", "mCi", "what for")
    for protocol in listed:
        dose, activity = cell(protocol.prescription.dose_gy), cell(protocol.source.activity_mCi)
        table.add_row(text(protocol.name), dose, activity, text(protocol.title))
    console.show(table, space=False)


def show(protocol: "Protocol") -> None:
    """Print every field of a protocol: value, meaning and unit, where it is from."""
    from brachy.cli import console

    table = console.table(protocol.title or protocol.name, "field", "value", "meaning", "source")
    for column in table.columns:
        column.justify = "left"
    for name, *rest in protocol.fields():
        table.add_row(console.text(name), *map(console.text, rest))
    console.show(table, space=False)
