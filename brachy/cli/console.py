"""Tables, lines and progress on the terminal. Names from files are shown as text, never as markup."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from brachy.dosimetry.shown_metrics import symbol_and_unit

if TYPE_CHECKING:
    from brachy.cohort.records import CaseRecord

PIPED_WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""

_OUT = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
_ERR = Console(stderr=True, highlight=False, markup=False)


def say(line: str = "") -> None:
    """Print a line of prose, never broken: it may be piped."""
    _OUT.print(line, soft_wrap=True)


def show(shown: Table, *, space: bool = True) -> None:
    """Print a table, with an empty line before it."""
    if space:
        _OUT.print()
    _OUT.print(shown)


def table(title: str, *columns: str) -> Table:
    """A table without rows; the first column and those of prose are set left, the others right."""
    made = Table(title=Text(title), title_justify="left", show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        prose = index == 0 or column in ("where", "source", "meaning", "data", "what for")
        made.add_column(Text(column), justify="left" if prose else "right", overflow="fold")
    return made


def text(value: str) -> Text:
    """Text of a cell, as it is."""
    return Text(value)


def cell(value: Any) -> Text:
    """A value as a table shows it: three significant digits below 100, one decimal above, a dash for none."""
    if value is None:
        return Text("-")
    if isinstance(value, float):
        return Text(f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}")
    return Text(str(value))


def unit(name: str) -> str:
    """Heading of a metric's column: D90_gy -> "D90 Gy"."""
    if name == "volume_cc":
        return "cc"
    return " ".join(symbol_and_unit(name)).strip()


class Progress:
    """Callable given to the planner: shows the stage and the best D90 and V100 so far."""

    def __init__(self, status: Any) -> None:
        self._status = status
        self._shown = ""

    def __call__(self, stage: str, best: dict[str, float] | None = None) -> None:
        """Show the stage and, where known, the best metrics so far."""
        shown = stage
        if best:
            shown += "  best so far: " + ", ".join(f"{unit(k)} {v:.1f}" for k, v in best.items())
        self._shown = shown
        self.refresh()

    def refresh(self) -> None:
        """Show the stage again, with the kernels that other processes are compiling."""
        left = f"  compiling, once: {', '.join(_kernels_left)}" if _kernels_left else ""
        self._status.update(Text(self._shown + left))


_kernels_left: tuple[str, ...] = ()
_shown_now: Progress | None = None


def show_kernels_left(names: tuple[str, ...]) -> None:
    """Name what other processes are compiling in the progress line."""
    global _kernels_left
    _kernels_left = names
    if _shown_now is not None:
        _shown_now.refresh()


@contextmanager
def progress(quiet: bool = False) -> Iterator[Progress]:
    """A progress line on stderr while the block runs, cleared at its end."""
    if quiet and not _ERR.is_terminal:
        yield Progress(_Silent())
        return
    global _shown_now
    with _ERR.status(Text("reading")) as status:
        _shown_now = Progress(status)
        try:
            _shown_now("reading")
            yield _shown_now
        finally:
            _shown_now = None


class _Silent:
    """Takes updates and shows nothing."""

    def update(self, _: Any) -> None:
        pass


@contextmanager
def counted(quiet: bool = False) -> Iterator[Callable[[int, int, "CaseRecord | None"], None]]:
    """A progress bar on stderr while the block runs: cases done, and a line for each that failed."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("cases", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left", markup=False), TimeRemainingColumn(),
    )  # fmt: skip
    with Bar(*columns, console=_ERR, disable=quiet or not _ERR.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)

        def finished(done: int, count: int, record: "CaseRecord | None") -> None:
            bar.update(task, completed=done, total=count)
            if record is not None and not record.done:
                _ERR.print(f"row {record.row} failed: {record.case}: {record.reason}", soft_wrap=True)

        yield finished
