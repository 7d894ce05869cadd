"""What a kind of odd input is, and the list that the written ones enter."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.odd_inputs.case import Case

GROUPS = ("names", "dates", "units", "frames", "paddings")
VERBS = ("plan", "dvh", "dose", "verify", "find")
"""`find` is `verify` that looks for the seeds on the CT itself."""

Change = Callable[[Case, np.random.Generator], str]


@dataclass(frozen=True)
class Kind:
    """One kind: what changes a copy of a real case, and what a user may expect of it.

    `words` is a pattern: a sentence of the output that has it names the thing. With `same` the files still mean what
    they meant, so that equal numbers are right even without a word; without it a result always needs the sentence.
    `base` changes the case with which it is compared, too.
    """

    name: str
    group: str
    case: str
    verb: str
    expected: str
    words: str
    same: bool
    change: Change
    base: Callable[[Case], None] | None = None


KINDS: list[Kind] = []


def kind(
    group: str,
    case: str,
    verb: str,
    words: str,
    same: bool = False,
    base: Callable[[Case], None] | None = None,
) -> Callable[[Change], Change]:
    """Enter a function as a kind: its name is the kind's, its docstring says what a user may expect."""

    def entered(change: Change) -> Change:
        expected = " ".join((change.__doc__ or "").split())
        name = change.__name__.replace("_", " ")
        KINDS.append(Kind(name, group, case, verb, expected, words, same, change, base))
        return change

    return entered
