"""Options that several verbs share, as typer takes them, and what they do."""

import sys
from typing import Annotated

import typer

JsonFlag = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")
]
AnonymiseFlag = Annotated[
    bool, typer.Option("--anonymise", help="Write nothing that names the patient (docs/reliability.md).")
]
ForceFlag = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
FormalismOption = Annotated[
    str | None, typer.Option("--formalism", metavar="1D|2D", help="TG-43 point (1D) or line source (2D).")
]
GuideOption = Annotated[
    str | None,
    typer.Option(
        "--guide",
        metavar="hole=MM,plate=MM,...",
        help="Measures of the printed template, mm: hole, plate, sleeve, wall, standoff; all: sleeves at every hole.",
    ),
]
SourceOption = Annotated[
    str | None, typer.Option("--source", metavar="MODEL|FILE", help="Seed model, see `brachy sources`.")
]

UnverifiedFlag = Annotated[
    bool,
    typer.Option(
        "--accept-unverified", help="Also use a seed model whose tables were seen in one place only."
    ),
]


def use_threads(threads: int | None) -> None:
    """Kernels on so many threads, as many as there are at the most."""
    if threads is None:
        return
    import numba

    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))


def say_note(sentence: str) -> None:
    """A sentence on stderr."""
    print(f"note: {sentence}", file=sys.stderr)
