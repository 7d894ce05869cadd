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


collect_ignore = ["peers"]
"""Scripts for environments of their own."""
