"""Options on the command line: records of options become flags, and the flags that several verbs share."""

import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer

from brachy.patient.options import Flag

Result = TypeVar("Result")


def flat_options(verb: Callable[..., Result]) -> Callable[..., Result]:
    """A verb as typer takes it: each parameter that is a record of options is replaced by the options in it.

    A record is a dataclass of options; its fields are annotated with `typer.Option` or `brachy.patient.options.Flag`.
    The verb itself is called with records.

    Parameters
    ----------
    verb : callable
        Its parameters are annotated; those without a default are arguments or records.

    Raises
    ------
    TypeError
        If two parameters have the same name.

    Examples
    --------
    >>> @flat_options
    ... def repaint(wall: str, *, output: OutputOptions) -> str:
    ...     return f"{wall}, {output.force}"
    >>> list(inspect.signature(repaint).parameters)
    ['wall', 'anonymise', 'force', 'as_json']
    >>> repaint(wall="north", anonymise=False, force=True, as_json=False)
    'north, True'
    """
    hints = get_type_hints(verb, include_extras=True)
    records: dict[str, type] = {}
    flat: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb).parameters.values():
        kind = hints[parameter.name]
        if is_dataclass(kind) and isinstance(kind, type):
            records[parameter.name] = kind
            flat += _parameters_of(kind)
        else:
            flat.append(parameter.replace(annotation=_for_typer(kind), kind=inspect.Parameter.KEYWORD_ONLY))
    names = [parameter.name for parameter in flat]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise TypeError(f"{verb.__name__}: two options are named {', '.join(sorted(twice))}")

    def called(**given: Any) -> Result:
        for name, kind in records.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        return verb(**given)

    called.__name__, called.__doc__, called.__module__ = verb.__name__, verb.__doc__, verb.__module__
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    called.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    return called


def _parameters_of(record: type) -> list[inspect.Parameter]:
    """The options of a record as parameters."""
    hints = get_type_hints(record, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=_for_typer(hints[field.name]),
        )
        for field in fields(record)
    ]


def _for_typer(kind: Any) -> Any:
    """An annotation with `typer.Option` in place of `Flag`."""
    parts = get_args(kind)
    if len(parts) < 2 or not isinstance(parts[1], Flag):
        return kind
    flag = parts[1]
    return Annotated[parts[0], typer.Option(flag.name, metavar=flag.metavar, help=flag.help, min=flag.least)]


JsonFlag = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")
]
AnonymiseFlag = Annotated[
    bool, typer.Option("--anonymise", help="Write nothing that names the patient (docs/reliability.md).")
]
ForceFlag = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
VerboseOption = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Print every structure, organ, rule and assumption."),
]
PrintedTemplateOption = Annotated[
    str | None,
    typer.Option(
        "--guide",
        metavar="hole=MM,plate=MM,...",
        help="Printed template, mm: hole, plate, sleeve, wall, standoff; face=skin (default), feet or plate; all: a "
        "sleeve at every hole; patient: with the ID.",
    ),
]
PlanFolder = Annotated[Path, typer.Argument(metavar="PLAN", help="Folder that `brachy plan` wrote.")]
"""What `brachy plan` wrote."""

AnyPlan = Annotated[
    str, typer.Argument(metavar="PLAN", help="Plan folder, plan.json or a permanent-seed RTPLAN.")
]
"""A plan of ours, or of any vendor."""


@dataclass(frozen=True)
class OutputOptions:
    """How a verb writes and what it prints."""

    anonymise: AnonymiseFlag = False
    force: ForceFlag = False
    as_json: JsonFlag = False


def use_threads(threads: int | None) -> None:
    """Let kernels use so many threads, at most as many as there are."""
    if threads is None:
        return
    import numba

    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))


def print_note(sentence: str) -> None:
    """A sentence on stderr."""
    print(f"note: {sentence}", file=sys.stderr)


def print_json(data: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))
