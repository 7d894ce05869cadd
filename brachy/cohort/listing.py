"""The list of a cohort: a CSV with a column `case` and options, or a pattern of paths."""

import csv
import glob
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

from brachy import resources
from brachy.errors import UsageError
from brachy.patient.options import OF_VERB, listed_flags
from brachy.version import __version__

VERBS = tuple(OF_VERB)


def columns_of(verb: str) -> dict[str, bool]:
    """Columns of a list besides `case`, and whether their values may be files: the options of the verb.

    A list for verify also has the column `plan`.

    Examples
    --------
    >>> columns_of("robust")
    {'samples': False, 'uncertainty': True, 'seed': False}
    """
    own = {"plan": True} if verb == "verify" else {}
    return own | {column: flag.is_path for column, flag in listed_flags(verb).items()}


MOST_ROWS = 1_000_000


@dataclass(frozen=True)
class Row:
    """One case of the list; `number` counts from 1 below the header."""

    number: int
    case: str
    options: tuple[tuple[str, str], ...]

    def key(self, verb: str) -> str:
        """What tells this piece of work from every other: verb, case, options and the version of the program."""
        text = json.dumps([verb, self.case, self.options, __version__])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_list(given: str, verb: str) -> tuple[Row, ...]:
    """Rows of a list.

    Parameters
    ----------
    given : str
        A CSV file: a column `case`, and columns named as the flags of the verb (`columns_of`), an empty cell being a
        flag that is not given; several targets or masks in a cell are separated by semicolons. Or a pattern
        such as "cases/*".
    verb : {"plan", "verify", "robust"}
        Of verify, `case` is the CT after the implant and the column `plan` its plan.

    Raises
    ------
    UsageError
        If there is no row, a column is unknown, a case stands twice, or the file is none.

    Examples
    --------
    >>> read_list("no-such/*", "plan")
    Traceback (most recent call last):
        ...
    brachy.errors.UsageError: no-such/*: no file or folder is named so: give a CSV file or a pattern
    """
    if verb not in VERBS:
        raise UsageError(f"--verb {verb}: choose {', '.join(VERBS)}")
    path = Path(given)
    if path.is_file():
        rows = _of_csv(path, verb)
    else:
        found = sorted(glob.glob(given))
        if not found:
            raise UsageError(f"{given}: no file or folder is named so: give a CSV file or a pattern")
        if len(found) == 1 and path.is_dir():
            raise UsageError(f"{given} is one folder: give a CSV file, or a pattern as '{path / '*'}'")
        rows = [Row(k, str(Path(name).resolve()), ()) for k, name in enumerate(found, 1)]
    seen: dict[str, int] = {}
    for row in rows:
        earlier = seen.setdefault(row.key(verb), row.number)
        if earlier != row.number:
            raise UsageError(f"rows {earlier} and {row.number} are the same: leave one of them out")
    return tuple(rows)


def _of_csv(path: Path, verb: str) -> list[Row]:
    try:
        text = resources.read_bounded(path, path.name).decode("utf-8-sig")
        table = list(csv.reader(io.StringIO(text, newline="")))
    except UnicodeDecodeError:
        raise UsageError(f"{path.name} is not UTF-8 text: save it as CSV") from None
    except csv.Error as error:
        raise UsageError(f"{path.name} is no CSV: {error}") from None
    header = [cell.strip().lower().replace("_", "-").lstrip("-") for cell in table[0]] if table else []
    if "case" not in header:
        raise UsageError(f"{path.name}, line 1: no column is named 'case'")
    columns = columns_of(verb)
    for name in header:
        if name != "case" and name not in columns:
            raise UsageError(
                f"{path.name}, line 1: '{name[:40]}' is no option of {verb}; there are: {', '.join(columns)}"
            )
        if header.count(name) > 1:
            raise UsageError(f"{path.name}, line 1: the column '{name}' stands twice")
    rows: list[Row] = []
    for line, cells in enumerate(table[1:], 2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise UsageError(f"{path.name}, line {line}: {len(cells)} cells, the header has {len(header)}")
        values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        case = values.pop("case")
        if not case:
            raise UsageError(f"{path.name}, line {line}: the cell 'case' is empty")
        options = tuple(
            (name, _beside(path, value) if columns[name] else value)
            for name, value in sorted(values.items())
            if value
        )
        rows.append(Row(len(rows) + 1, _beside(path, case, is_case=True), options))
        if len(rows) > MOST_ROWS:
            raise UsageError(f"{path.name} has more than {MOST_ROWS} rows: split it")
    if not rows:
        raise UsageError(f"{path.name} has no row below its header: write a case in each")
    return rows


def _beside(listed: Path, value: str, is_case: bool = False) -> str:
    """A path relative to the list's folder; names of phantoms, protocols and the like as they are."""
    if Path(value).is_absolute():
        return value
    beside = listed.resolve().parent / value
    looks_like_path = is_case and ("/" in value or "\\" in value or "." in value)
    return str(beside) if beside.exists() or looks_like_path else value
