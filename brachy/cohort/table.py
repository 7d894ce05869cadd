"""The table of a cohort: a row for each case, of the same columns as CSV and as Parquet."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from brachy.cohort.records import CaseRecord, Metric
from brachy.errors import BrachyError
from brachy.output.csv_tables import number, safe_text, table

FIRST = ("row", "case", "patient_id", "status", "reason", "target")


def columns_of(records: Sequence[CaseRecord]) -> list[str]:
    """Names of the columns: what is fixed, then every metric that a case has, in the order first met."""
    metrics = dict.fromkeys(name for record in records for name in record.metrics)
    return [*FIRST, *metrics]


def value_of(record: CaseRecord, column: str) -> Metric | str:
    """Value of a column, None where the case has none."""
    first: dict[str, int | str | None] = {
        "row": record.row,
        "case": record.case,
        "patient_id": record.patient_id,
        "status": record.status,
        "reason": record.reason,
        "target": record.target,
    }
    return first[column] if column in FIRST else record.metrics.get(column)


def table_csv(records: Sequence[CaseRecord]) -> str:
    """Text of cohort.csv.

    Examples
    --------
    >>> done = CaseRecord(row=1, case="a", status="done", metrics={"D90_gy": 131.0})
    >>> table_csv([done]).splitlines()
    ['row,case,patient_id,status,reason,target,D90_gy', '1,a,,done,,,131']
    """
    columns = columns_of(records)
    return table(columns, [[_cell(value_of(record, column)) for column in columns] for record in records])


def _cell(value: Metric | str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, (int, float)) else safe_text(str(value))


def write_parquet(records: Sequence[CaseRecord], path: Path) -> None:
    """Write the table as Parquet, whole or not at all."""
    import pyarrow
    import pyarrow.parquet

    columns = columns_of(records)
    arrays = {}
    for column in columns:
        values = [value_of(record, column) for record in records]
        if column in FIRST[1:]:
            arrays[column] = pyarrow.array([None if v is None else str(v) for v in values], pyarrow.string())
        elif column == "row":
            arrays[column] = pyarrow.array(values, pyarrow.int64())
        elif any(isinstance(value, bool) for value in values):
            arrays[column] = pyarrow.array(values, pyarrow.bool_())
        else:
            arrays[column] = pyarrow.array(
                [None if v is None else float(v) for v in values], pyarrow.float64()
            )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        pyarrow.parquet.write_table(pyarrow.table(arrays), temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise BrachyError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
