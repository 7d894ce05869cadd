"""How many examples a property test runs, and how many of them were refused."""

import os
import re
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from brachy.errors import BrachyError

MOST_REFUSED = 0.2
"""A larger part of refusals would leave too little tested (engineering choice)."""

REASONS = (
    r"no clear needle path to 'GTV' in (the given direction|any of \d+ directions): .*",
    r".* reach V100 [\d.]+ %, 95 % is required: about .* mCi a seed would do, or a larger count",
    r"\d+ seeds are to be used and only \d+ find a place under the rules: lower seeds\.count",
    r"the least number of needles finds no place under the rules: lower needle\.count",
    r"no seed is placed and none can be: there is nothing to plan",
    r"no hole's axis crosses target 'GTV': it is narrower than the pitch of .*",
)
"""All that a random case may be refused for: each is one line that names what is in the way or the remedy."""


def examples(few):
    """Settings: `few` examples, always the same; with PROPERTY_EXAMPLES=N in the environment, N new ones.

    A failing example is printed and not made smaller, which would take minutes.
    """
    many = os.environ.get("PROPERTY_EXAMPLES")
    return settings(
        max_examples=int(many or few),
        derandomize=not many,
        database=None,
        deadline=None,
        print_blob=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


numbers = given(st.integers(0, 2**32 - 1))
"""Numbers from which a test draws a case of its own."""


@dataclass
class Counted:
    """Calls that were answered, and the messages of those that were refused."""

    made: int = 0
    refused: list[str] = field(default_factory=list)

    def __call__(self, function, *args, **options):
        """What the function returns, or None if it refuses for one of the known reasons."""
        try:
            found = function(*args, **options)
        except BrachyError as error:
            message = str(error)
            assert any(re.fullmatch(reason, message) for reason in REASONS), message
            self.refused.append(message)
            return None
        self.made += 1
        return found

    def check(self):
        """Fail if nothing was asked, or more than a fifth of it was refused."""
        asked = self.made + len(self.refused)
        assert asked
        assert len(self.refused) <= MOST_REFUSED * asked, "\n".join(self.refused)
