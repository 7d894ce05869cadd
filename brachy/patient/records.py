"""Base of the frozen records that the program's JSON files are made of: plan.json, verification.json, robust.json.

A record refuses fields that it does not have. Its fields are written in the order in which the class has them.
"""

import math
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from brachy.writing import canonical, rounded

Vector = tuple[float, float, float]
"""x, y, z in the patient frame (LPS): a position in mm, or a unit vector."""


def vector(values: NDArray[np.float64]) -> Vector:
    """The three numbers of an array (3,)."""
    x, y, z = values.tolist()
    return x, y, z


def finite_or_none(value: object) -> object:
    """The value, or None for NaN and infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(finite_or_none)]
"""A number, or None (null in the file) where it is not known: NaN and infinity are not known."""


class Record(BaseModel):
    """A frozen object of a file.

    Examples
    --------
    >>> class Point(Record):
    ...     x_mm: float
    ...     seen_mm: Number = None
    >>> found = Point(x_mm=1.5, seen_mm=float("nan"))
    >>> found.x_mm, found["x_mm"], found.seen_mm
    (1.5, 1.5, None)
    """

    # "constants": a NaN reaches `brachy.writing.rounded`, which refuses it, and does not become null before
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
        populate_by_name=True,
    )

    def __getitem__(self, key: str) -> Any:
        """Value of a field by its key in the file, for scripts that read the record as they read the JSON."""
        for name, field in type(self).model_fields.items():
            if key == (field.alias or name):
                return getattr(self, name)
        raise KeyError(key)


class FileRecord(Record):
    """Content of a JSON file."""

    def data(self) -> dict[str, Any]:  # plain JSON data of any shape
        """The record as JSON data, numbers as they were computed."""
        return self.model_dump(mode="json", by_alias=True)

    def as_written(self) -> Self:
        """The record with numbers at 6 significant digits, as the file has them."""
        return self.model_validate(rounded(self.data()))

    def to_json(self) -> str:
        """Text of the file."""
        return canonical(rounded(self.data()))


class SparseRecord(Record):
    """A record of which only the fields that were given are written.

    Examples
    --------
    >>> class Reach(SparseRecord):
    ...     found: int = 0
    ...     missing: int | None = None
    >>> Reach(found=2).model_dump(), Reach(found=2, missing=None).model_dump()
    ({'found': 2}, {'found': 2, 'missing': None})
    """

    def only(self, *names: str) -> Self:
        """The record with some of its fields, as far as they were given."""
        return self.model_validate({key: value for key, value in self.model_dump().items() if key in names})

    def having(self, **fields: object) -> Self:
        """The record with further or other fields."""
        return self.model_validate({**self.model_dump(), **fields})

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}
