"""Colour of a verdict, the same on the terminal, in reports and in tables."""

from typing import Literal

Colour = Literal["green", "amber", "red"]
"""Green only where something was checked and holds beyond doubt; red where it does not hold; amber for all else."""
