"""`plan` and `verify` ended while they run: by SIGKILL, by Ctrl-C, by a full disk."""

import signal
import sys

import pytest

from tests import killing

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs /proc and signals of Linux"
)

COUNT = 2
"""Runs of each command that are killed; `make reliability` has 25."""


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    return killing.prepare(tmp_path_factory.mktemp("prepared"))


def test_killed_at_random_moments(commands, tmp_path):
    found = killing.series(tmp_path, commands, COUNT, signal.SIGKILL, seed=1)
    assert not found["problems"]
    assert found["ended"] > 0


def test_interrupted_at_random_moments(commands, tmp_path):
    found = killing.series(tmp_path, commands, COUNT, signal.SIGINT, seed=2)
    assert not found["problems"]
    assert found["ended"] > 0


def test_disk_full(commands, tmp_path):
    assert not killing.full_disk(tmp_path, commands, 1, seed=3)["problems"]
