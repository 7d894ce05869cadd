"""The sphere of 35 mm and a quickly made plan for it: built once a process, when first asked for, and shared."""

from functools import cache

from brachy.io.phantom.file import load_phantom
from brachy.optimise import plan
from brachy.patient.protocol import change
from tests.quick_protocol import AXIAL

QUICK = change(
    AXIAL,
    search={
        "starts": 1,
        "moves": 10_000,
        "fine_moves": 5_000,
        "scan_moves": 500,
        "directions": 1,
        "layouts": 1,
    },
    replan={"moves": 3000},
)
"""The liver protocol with a short search."""


@cache
def sphere():
    """The phantom `sphere-35mm`; its CT cannot be written to, because tests share it."""
    case = load_phantom("sphere-35mm")
    case.ct_hu.setflags(write=False)
    return case


@cache
def quick_plan():
    """A plan of the sphere from the front with `QUICK`."""
    return plan(sphere(), QUICK, direction=(0, 0))
