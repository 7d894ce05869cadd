"""A fixed handful of mutated inputs for every reader: each ends in a result or a one-line error (`make fuzz` has more)."""  # noqa: E501

import pytest

from tests.fuzz.targets import TARGETS, outcome

COUNT = 50


@pytest.mark.parametrize("name", TARGETS)
def test_every_mutant_is_read_or_refused_in_a_line(name, tmp_path):
    target = TARGETS[name]
    target.prepare(tmp_path)
    found = [outcome(target, number, tmp_path) for number in range(COUNT)]
    assert set(found) <= {"result", "refused"}
    assert "refused" in found
