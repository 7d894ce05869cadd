"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real data and source tables beside the checkout; skips where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no folder ../shared with the real data beside this checkout")
    return SHARED


SLOW = (
    "test_killed",
    "test_wheel",
    "test_cluster",
    "test_phantom_plans",
    "test_docs",
    "test_verify",
    "test_examples",
)
"""Files that take longest: they are marked slow and run first, so that no worker is left alone with one at the end."""


def pytest_collection_modifyitems(items):
    """Slow files first and marked, all else as it was."""
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker("slow")
    items.sort(key=lambda item: item.path.stem not in SLOW)


collect_ignore = ["peers"]
"""Scripts for environments of their own."""
