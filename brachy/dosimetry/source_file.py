"""Reads and checks a seed model's source file, TOML or CSV (docs/source-files.md describes both)."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brachy.errors import UsageError
from brachy.resources import Tables, read_bounded
from brachy.units import I125_HALF_LIFE_DAYS

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]

PRINTED = 5e-4
"""Tolerance of g(1 cm) = 1 and F(90 degrees) = 1: half a unit of the third decimal, which reports print."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DoseRateConstant(_Table):
    """Dose-rate constant Lambda and its publication."""

    cGy_per_h_U: Positive
    source: Text


class Length(_Table):
    """Active length and its publication."""

    mm: Positive
    source: Text


class Capsule(_Table):
    """Outer size of the capsule and its publication, or the words "engineering choice"."""

    length_mm: Positive
    diameter_mm: Positive
    source: Text


class ContainedActivity(_Table):
    """Air-kerma strength of 1 mCi of contained activity."""

    U_per_mCi: Positive
    source: Text


class RadialDoseFunction(_Table):
    """g_L(r) of the line source."""

    source: Text
    r_cm: list[float]
    g: list[float]


class AnisotropyFunction(_Table):
    """F(r, theta): rows are angles, columns radii."""

    source: Text
    r_cm: list[float]
    theta_deg: list[float]
    F: list[list[float]]


class Anisotropy1D(_Table):
    """phi_an(r), published or integrated from F."""

    origin: Literal["published", "integrated"]
    source: Text
    r_cm: list[float]
    phi: list[float]


class SourceFile(_Table):
    """All tables and keys of a source file."""

    model: Text
    manufacturer: str = ""
    nuclide: Literal["I-125"] = "I-125"
    half_life_days: Positive = I125_HALF_LIFE_DAYS
    status: Literal["verified", "unverified", "user"] = "user"
    reference: Text
    aliases: list[str] = Field(default_factory=list)
    caveats: list[str] = Field(default_factory=list)
    checked: str = ""
    dose_rate_constant: DoseRateConstant
    active_length: Length
    capsule: Capsule
    contained_activity: ContainedActivity | None = None
    radial_dose_function: RadialDoseFunction
    anisotropy_function: AnisotropyFunction
    anisotropy_1d: Anisotropy1D


def parse(data: Mapping[str, Any], name: str) -> SourceFile:
    """Check the contents of a source file; `name` names it in error messages.

    Raises
    ------
    UsageError
        At the first fault, with file, table, row and column.

    Examples
    --------
    >>> parse({"model": "My seed"}, "my-seed.toml")
    Traceback (most recent call last):
        ...
    brachy.errors.UsageError: my-seed.toml: reference: is missing: add it
    """
    try:
        file = SourceFile.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{name}: {_place(first['loc'])}: {_fault(first)}") from None
    fault = _first_fault(file)
    if fault:
        raise UsageError(f"{name}: {fault}")
    return file


def _place(location: Sequence[Any]) -> str:
    """Location of a pydantic error in words: table, row and column, counted from 1."""
    names = [str(part) for part in location if isinstance(part, str)]
    numbers = [part + 1 for part in location if isinstance(part, int)]
    if len(numbers) == 2:
        return f"{'.'.join(names)} row {numbers[0]} column {numbers[1]}"
    if len(numbers) == 1:
        return f"{'.'.join(names[:-1])} row {numbers[0]} column {names[-1]}"
    return ".".join(names)


def _fault(error: Any) -> str:
    if error["type"] == "missing":
        return "is missing: add it"
    if error["type"] == "extra_forbidden":
        return "is not a key of a source file: remove it"
    return f"{error['msg']}, found {error['input']!r}"


def _first_fault(file: SourceFile) -> str:
    """The first fault of the tables as 'table row i column c: what is wrong', or an empty string."""
    g, f, phi = file.radial_dose_function, file.anisotropy_function, file.anisotropy_1d
    return (
        _curve_fault("radial_dose_function", "g", g.r_cm, g.g)
        or _reference_fault(g)
        or _curve_fault("anisotropy_1d", "phi", phi.r_cm, phi.phi, least=1)
        or _surface_fault(f)
        or _capsule_fault(file)
    )


def _nodes_fault(table: str, column: str, nodes: Sequence[float], least: int = 2) -> str:
    if len(nodes) < least:
        return f"{table} column {column}: has {len(nodes)} rows, needs {least} or more"
    for i, value in enumerate(nodes):
        if not math.isfinite(value) or value < 0:
            return f"{table} row {i + 1} column {column}: {value:g} is negative or not a number"
        if i and value <= nodes[i - 1]:
            return (
                f"{table} row {i + 1} column {column}: {value:g} is not above {nodes[i - 1]:g}: sort the rows"
            )
    return ""


def _curve_fault(
    table: str, column: str, r_cm: Sequence[float], values: Sequence[float], least: int = 2
) -> str:
    fault = _nodes_fault(table, "r_cm", r_cm, least)
    if fault:
        return fault
    if len(values) != len(r_cm):
        return f"{table} column {column}: has {len(values)} rows, r_cm has {len(r_cm)}"
    for i, value in enumerate(values):
        if not math.isfinite(value) or value <= 0:
            return f"{table} row {i + 1} column {column}: {value:g} must be a positive number"
    if r_cm[0] <= 0:
        return f"{table} row 1 column r_cm: must be more than 0"
    return ""


def _reference_fault(g: RadialDoseFunction) -> str:
    """Fault if g(1 cm) is not 1, which follows from the definition of the dose-rate constant."""
    above = next((i for i, r in enumerate(g.r_cm) if r >= 1.0), None)
    if above is None or (above == 0 and g.r_cm[0] != 1.0):
        return "radial_dose_function column r_cm: does not reach 1 cm"
    if g.r_cm[above] == 1.0:
        value = g.g[above]
    else:
        u = (1.0 - g.r_cm[above - 1]) / (g.r_cm[above] - g.r_cm[above - 1])
        value = math.exp((1 - u) * math.log(g.g[above - 1]) + u * math.log(g.g[above]))
    if abs(value - 1.0) > PRINTED:
        return f"radial_dose_function row {above + 1} column g: g(1 cm) is {value:g}, must be 1"
    return ""


def _surface_fault(f: AnisotropyFunction) -> str:
    table = "anisotropy_function"
    fault = _nodes_fault(table, "r_cm", f.r_cm, 1) or _nodes_fault(table, "theta_deg", f.theta_deg)
    if fault:
        return fault
    if f.theta_deg[-1] != 90.0:
        return f"{table} row {len(f.theta_deg)} column theta_deg: ends at {f.theta_deg[-1]:g}, must be 90"
    if len(f.F) != len(f.theta_deg):
        return f"{table} column F: has {len(f.F)} rows, theta_deg has {len(f.theta_deg)}"
    for j, row in enumerate(f.F):
        if len(row) != len(f.r_cm):
            return f"{table} row {j + 1}: has {len(row)} columns, r_cm has {len(f.r_cm)}"
        for i, value in enumerate(row):
            where = f"{table} row {j + 1} ({f.theta_deg[j]:g} degrees) column {i + 1} ({f.r_cm[i]:g} cm)"
            if not math.isfinite(value) or value < 0:
                return f"{where}: F = {value:g} is negative or not a number"
            if j == len(f.F) - 1 and abs(value - 1.0) > PRINTED:
                return f"{where}: F(90 degrees) is {value:g}, must be 1"
    return ""


def _capsule_fault(file: SourceFile) -> str:
    length, active = file.capsule.length_mm, file.active_length.mm
    if length <= active:
        return f"capsule.length_mm: {length:g} must be more than the active length {active:g}"
    return ""


def read_csv(path: Path) -> Tables:
    """Contents of a source file in the CSV layout, as the tables and keys of the TOML layout.

    Raises
    ------
    UsageError
        If a cell is not a number or a section is unknown; the message names file, line and column.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "seed.csv"
    ...     _ = path.write_text("model,My seed\\nactive_length.mm,3.0\\n")
    ...     read_csv(path)
    {'model': 'My seed', 'active_length': {'mm': 3.0}}
    """
    data: Tables = {}
    table: Tables | None = None
    section = ""
    number = 0
    try:
        text = read_bounded(path, path.name).decode("utf-8-sig")
        for number, raw in enumerate(csv.reader(io.StringIO(text, newline="")), start=1):
            row = [cell.strip() for cell in raw]
            while row and not row[-1]:
                row.pop()
            if not row or row[0].startswith("#"):
                continue
            if row[0] == "table":
                section, table = _open_section(path, number, row, data)
            elif table is None:
                _set_key(path, number, row, data)
            else:
                _add_row(path, number, row, section, table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path.name}: row {number + 1} is not CSV in UTF-8 ({error})") from None
    return data


_COLUMNS = {"radial_dose_function": "g", "anisotropy_1d": "phi"}


def _open_section(path: Path, number: int, row: list[str], data: Tables) -> tuple[str, Tables]:
    section = row[1] if len(row) > 1 else ""
    if section == "anisotropy_function":
        table: Tables = {"r_cm": [], "theta_deg": [], "F": []}
    elif section in _COLUMNS:
        table = {"r_cm": [], _COLUMNS[section]: []}
    else:
        known = ", ".join(("radial_dose_function", "anisotropy_function", "anisotropy_1d"))
        raise UsageError(
            f"{path.name}: row {number} column 2: unknown table '{section}', choose from {known}"
        )
    known_of = data.setdefault(section, {})
    if not isinstance(known_of, dict):
        raise UsageError(f"{path.name}: row {number}: '{section}' is a table, and has a value above")
    known_of.update(table)
    return section, known_of


def _set_key(path: Path, number: int, row: list[str], data: Tables) -> None:
    """Read a line `key, value`: a dotted key is a key of a table; `caveats` and `aliases` may occur several times."""
    if len(row) != 2:
        raise UsageError(
            f"{path.name}: row {number}: expected 'key,value' before the first table, found {len(row)} cells"
        )
    key, value = row
    if key in ("caveats", "aliases"):
        data.setdefault(key, []).append(value)
        return
    *parents, last = key.split(".")
    table = data
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UsageError(f"{path.name}: row {number}: '{key}' is inside '{parent}', which has a value")
    numeric = last in ("cGy_per_h_U", "mm", "length_mm", "diameter_mm", "U_per_mCi", "half_life_days")
    table[last] = _number(path, number, 2, value) if numeric else value


def _add_row(path: Path, number: int, row: list[str], section: str, table: Tables) -> None:
    if section == "anisotropy_function":
        if row[0] == "theta_deg":
            table["r_cm"] = [_number(path, number, i + 2, cell) for i, cell in enumerate(row[1:])]
        else:
            table["theta_deg"].append(_number(path, number, 1, row[0]))
            table["F"].append([_number(path, number, i + 2, cell) for i, cell in enumerate(row[1:])])
        return
    column = _COLUMNS[section]
    if row[0] == "r_cm":
        return
    if len(row) != 2:
        raise UsageError(f"{path.name}: row {number}: expected 'r_cm,{column}', found {len(row)} cells")
    table["r_cm"].append(_number(path, number, 1, row[0]))
    table[column].append(_number(path, number, 2, row[1]))


def _number(path: Path, row: int, column: int, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise UsageError(f"{path.name}: row {row} column {column}: '{cell}' is not a number") from None
