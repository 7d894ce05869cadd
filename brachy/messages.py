"""Translates the validation messages of pydantic into one plain line that says what to change."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


def plainly(message: str) -> str:
    """A message of pydantic as a plain instruction.

    Examples
    --------
    >>> plainly("Field required"), plainly("Input should be a valid number, unable to parse string as a number")
    ('is missing: add it', 'give a number')
    """
    message = message.removeprefix("Value error, ").replace("Field required", "is missing: add it")
    message = message.replace("Extra inputs are not permitted", "there is no such field: leave it out")
    message = re.sub(
        r"Input should be a valid integer(, unable to parse string as an integer)?",
        "give a whole number",
        message,
    )
    return re.sub(
        r"Input should be a valid number(, unable to parse string as a number)?", "give a number", message
    )


def first_problem(error: "ValidationError") -> str:
    """One line for a pydantic error: the field, what is wrong with it, and how many more problems there are."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the file"
    what = plainly(str(problem["msg"]))
    more = len(error.errors()) - 1
    return f"{where}: {what}" + (f" (and {more} more)" if more else "")
