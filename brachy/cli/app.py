"""The command line: the verbs put together. A verb is a module of its own that imports what it needs when it runs.

Exit 0 done, 1 could not (or a goal missed under --strict), 2 wrong use. An error is one line on stderr.
"""

from collections.abc import Callable
from typing import Annotated

import typer
from typer import Exit

from brachy.cli.check import check
from brachy.cli.cohort import cohort
from brachy.cli.dose import dose
from brachy.cli.dvh import dvh
from brachy.cli.exit_codes import run
from brachy.cli.phantom import phantom
from brachy.cli.plan import plan
from brachy.cli.protocols import protocols
from brachy.cli.replan import approve, replan
from brachy.cli.robust import robust
from brachy.cli.sources import sources
from brachy.cli.verify import verify
from brachy.cli.view import view
from brachy.cli.warmup import warmup
from brachy.version import __version__

app = typer.Typer(
    name="brachy",
    help="Planning, dosimetry and verification of permanent 125I seed implants. "
    "Not a medical device; for research and education.",
    no_args_is_help=True,
    epilog="Start here: `brachy plan liver-metastasis -o plan-liver` plans a shipped phantom; then open "
    "plan-liver/report.html. A case of your own: `brachy plan FOLDER -o OUT`. `brachy VERB --help` has an example.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"brachy {__version__}")
        raise Exit(0)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


VERBS: tuple[Callable[..., int | None], ...] = (
    plan, replan, approve, dose, dvh, check, verify, view, robust, cohort, phantom, sources, protocols, warmup,
)  # fmt: skip
"""In the order of `brachy --help`."""

for verb in VERBS:
    app.command()(verb)


def main() -> None:
    """Run the program and leave with its exit code; `brachy.__main__` watches for Ctrl-C meanwhile."""
    run(app)
