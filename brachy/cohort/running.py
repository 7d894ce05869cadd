"""`run_cohort`: from a list to a table, going on where an earlier run stopped."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from brachy import interrupts
from brachy.cohort.cluster import results, workers
from brachy.cohort.listing import Row, read_list
from brachy.cohort.outcomes import Cut, outcomes_of, read_outcomes
from brachy.cohort.page import render_cohort
from brachy.cohort.records import CaseRecord
from brachy.cohort.table import table_csv, write_parquet
from brachy.errors import BrachyError, Interrupted, UsageError
from brachy.version import __version__
from brachy.writing import canonical, write_text_whole

if sys.platform != "win32":
    import fcntl

Told = Callable[[int, int, CaseRecord | None], None]

MARK = "cohort.json"
DONE = "done"
KEPT = "cases"


def run_cohort(
    given: str,
    out: str | Path,
    *,
    verb: str = "plan",
    workers_count: int | None = None,
    scheduler: str | None = None,
    outcomes: str | Path | None = None,
    cut: Cut | None = None,
    keep: bool = False,
    anonymise: bool = False,
    force: bool = False,
    told: Told | None = None,
) -> list[CaseRecord]:
    """Plan, verify or robust over many cases.

    Parameters
    ----------
    given : str
        List or pattern, see `brachy.cohort.listing.read_list`.
    out : path
        Folder: done/ with a JSON file for each finished case, cohort.csv, cohort.parquet, cohort.html, and with
        outcomes outcomes.json. A folder of an earlier run of the same verb is gone on with: what is finished is not
        done again.
    verb : {"plan", "verify", "robust"}
        What is done with each case.
    workers_count : int, optional
        Local workers of one thread each; by default one for each core.
    scheduler : str, optional
        Address of a Dask scheduler that is used instead.
    outcomes : path, optional
        CSV of what came of the patients, see `brachy.cohort.outcomes.read_outcomes`.
    cut : Cut, optional
        Where patients are divided; by default D90 at the prescription.
    keep : bool
        Also keep each case's own output, in cases/NUMBER; the workers write it, so they must see the folder.
    anonymise : bool
        Write nothing that names a patient: cases are called by their rows.
    force : bool
        Do everything again.
    told : callable, optional
        Called with cases done, cases in all, and the record of the one just finished.

    Returns
    -------
    list of CaseRecord
        The records of all rows, in their order.

    Raises
    ------
    UsageError
        If the list, the outcomes, the folder or the scheduler cannot be used; before any work is done.
    BrachyError
        If the folder cannot be written, or another run is at work in it.
    """
    if anonymise and outcomes is not None:
        raise UsageError("--anonymise and --outcomes exclude each other: outcomes are found by patient ID")
    rows = read_list(given, verb)
    if anonymise:
        rows = tuple(replace(row, options=(*row.options, ("anonymise", "yes"))) for row in rows)
    known = read_outcomes(Path(outcomes)) if outcomes is not None else None
    folder = Path(out)
    _prepare(folder, verb, force)
    lock = _locked(folder)
    if keep:
        (folder / KEPT).mkdir(exist_ok=True)
    try:
        finished = _finished(folder, verb, rows)
        todo = [row for row in rows if row.number not in finished]
        if told is not None:
            told(len(finished), len(rows), None)
        try:
            if todo:
                with workers(workers_count and min(workers_count, len(todo)), scheduler) as client:
                    for row, record in results(
                        client, verb, todo, str(folder.resolve() / KEPT) if keep else ""
                    ):
                        record = (_hidden(record, row) if anonymise else record).as_written()
                        write_text_whole(folder / DONE / f"{row.key(verb)}.json", record.to_json())
                        finished[row.number] = record
                        if told is not None:
                            told(len(finished), len(rows), finished[row.number])
                        if interrupts.interrupted():
                            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted: {len(finished)} of {len(rows)} cases are finished; the same command goes on from there"
            ) from None
        finally:
            records = [finished[row.number] for row in rows if row.number in finished]
            _write_table(folder, verb, records, len(rows))
    finally:
        if lock is not None:
            os.close(lock)
    if known is not None:
        answer = outcomes_of(records, known, cut)
        write_text_whole(folder / "outcomes.json", canonical(answer.data()))
        write_text_whole(folder / "cohort.html", render_cohort(verb, records, len(rows), answer))
    return records


def _prepare(folder: Path, verb: str, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: give a folder to write")
    mark = folder / MARK
    if folder.is_dir() and any(folder.iterdir()):
        if not mark.is_file():
            raise UsageError(f"{folder} is not of a cohort: choose another folder")
        try:
            before = json.loads(mark.read_text(encoding="utf-8")).get("verb")
        except (OSError, ValueError, AttributeError):
            before = None
        if before != verb and not force:
            raise UsageError(
                f"{folder} is of a cohort of '{before}': choose another folder, or --force to start anew"
            )
    try:
        (folder / DONE).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BrachyError(f"cannot write {folder}: {error.strerror}") from None
    if force:
        for old in (folder / DONE).glob("*.json"):
            old.unlink(missing_ok=True)
    for leftover in (*folder.glob(".*.partial"), *(folder / DONE).glob(".*.partial")):
        leftover.unlink(missing_ok=True)
    write_text_whole(
        mark,
        canonical(
            {"format": "brachy-cohort", "version": 1, "software": f"brachy {__version__}", "verb": verb}
        ),
    )


def _locked(folder: Path) -> int | None:
    """Lock on the folder while this run lives, so that two do not share it."""
    if sys.platform == "win32":
        return None
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise BrachyError(
            f"another run is at work in {folder}: wait for it, or choose another folder"
        ) from None
    return handle


def _finished(folder: Path, verb: str, rows: Sequence[Row]) -> dict[int, CaseRecord]:
    """Records of the rows that an earlier run finished; a failed case is tried again."""
    found = {}
    for row in rows:
        with contextlib.suppress(OSError, ValueError):
            text = (folder / DONE / f"{row.key(verb)}.json").read_text(encoding="utf-8")
            record = CaseRecord.model_validate(json.loads(text))
            if record.done:
                found[row.number] = record.model_copy(update={"row": row.number})
    return found


def _hidden(record: CaseRecord, row: Row) -> CaseRecord:
    """The record without paths and patients: what stands in quotes or looks like a file is cut from the reason."""
    reason = record.reason.replace(row.case, "(removed)")
    reason = re.sub(r"'[^']*'|\S*[/\\]\S*|\S+\.\w+(?=\W|$)", "(removed)", reason)
    return record.model_copy(update={"case": f"case-{row.number:06d}", "options": {}, "reason": reason})


def _write_table(folder: Path, verb: str, records: Sequence[CaseRecord], count: int) -> None:
    if not records:
        return
    write_text_whole(folder / "cohort.csv", table_csv(records))
    write_parquet(records, folder / "cohort.parquet")
    write_text_whole(folder / "cohort.html", render_cohort(verb, records, count))
