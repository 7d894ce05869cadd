"""A fixed handful of mutated inputs for every reader; `make fuzz` has more."""

import warnings

import pytest

from tests.fuzz.targets import TARGETS, outcome

COUNT = 50


@pytest.mark.parametrize("name", TARGETS)
def test_every_mutant_is_read_or_refused_in_a_line(name, tmp_path):
    target = TARGETS[name]
    target.prepare(tmp_path)
    found = [outcome(target, number, tmp_path) for number in range(COUNT)]
    assert set(found) == {"result", "refused"}


@pytest.mark.parametrize("name", TARGETS)
def test_the_files_that_are_mutated_are_read(name, tmp_path):
    target = TARGETS[name]
    target.prepare(tmp_path)
    originals = target.originals()
    assert originals
    for file, content in originals:
        path = tmp_path / file
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            target.read(path)
