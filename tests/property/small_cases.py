"""Random small targets with obstacles round them, random protocols and random moments of an implantation.

All is drawn from one number, which alone repeats a case.
"""

from functools import cache

import numpy as np

from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.optimise.replanning.implanted_so_far import Placed
from brachy.patient.case import Case
from brachy.patient.protocol import change
from tests.needle_cases import ellipsoid
from tests.property.sampled_rules import begun
from tests.quick_protocol import AXIAL

SLICES_MM = 2.5
GRID = Grid((-120, -100, -75), (8.0, 8.0, 5.0), (31, 26, 31))
ROLES = ("bone", "vessel", "bowel", "lung")
QUICK = change(
    AXIAL,
    search={"starts": 1, "moves": 3000, "fine_moves": 1000, "scan_moves": 200, "directions": 1, "layouts": 1},
    direction={"azimuth_step_deg": 180.0},
    source={"activity_mCi": 0.8},
    replan={"moves": 1500},
)
"""A short search from the front or from behind, with strong seeds, because a target that small needs few."""

CHOICES = {
    "template": {
        "pitch_mm": (5.0, 7.5, 7.5, 10.0),
        "lateral_margin_mm": (8.0, 10.0, 12.0),
        "layer_offset": ("in-layer", "free"),
    },
    "needle": {
        "radius_mm": (0.5, 0.65, 0.9),
        "max_needle_mm": (120.0, 150.0, 220.0),
        "tip_to_seed_mm": (0.0, 3.0),
        "count": (None, None, 12, (2, 40)),
    },
    "seeds": {
        "supply": ("loose", "loose", "strand", "cartridge"),
        "distal_margin_mm": (2.0, 2.0, 5.0),
        "skin_margin_mm": (5.0, 10.0),
        "smallest_spacer_mm": (0.5, 3.0),
        "count": (None, None, None, (1, 60)),
    },
    "obstacles": {"clearance_mm": (1.0, 2.0, 4.0)},
    "source": {"activities_mCi": ((), (0.6, 0.8))},
    "direction": {"tilts_deg": ((), (0.0, 20.0))},
    "replan": {"blocked_radius_mm": (0.0, 0.0, 8.0)},
}
"""Rules of a protocol, each drawn by itself."""

STATES = ("to come",) * 4 + ("placed",) * 2 + ("one placed", "one lost", "blocked", "measured")
"""What may be reported of a needle."""


def protocol(rng):
    """`QUICK` with other rules."""

    def one_of(values):
        return values[rng.integers(len(values))]

    return change(
        QUICK, **{table: {k: one_of(v) for k, v in keys.items()} for table, keys in CHOICES.items()}
    )


def drawn(name, centre, half_axes, role, half_length_mm=np.inf):
    """An ellipsoid as slabs of 2.5 mm, cut off at a distance along z."""
    whole = ellipsoid(name, centre, half_axes, role, SLICES_MM, 40)
    rings = tuple(ring for ring in whole.contours_mm if abs(ring[0, 2] - centre[2]) < half_length_mm)
    return Structure(name, rings, role, slice_spacing_mm=SLICES_MM)


@cache
def body():
    """Outline of the patient: about 220 by 180 mm wherever the CT is."""
    return drawn("Body", (0, 0, 0), (110, 90, 400), "external", 75.0)


def small_case(rng):
    """Case, target of 2 to 14 cc, and up to two obstacles; one near the target's middle would be a case of its own."""
    middle = np.append(rng.uniform((-20, -15), (20, 15)), 0.0)
    gtv = drawn("GTV", middle, rng.uniform(8, 15, 3), "target")
    around = []
    for k in range(rng.integers(3)):
        at, half_axes = rng.uniform((-60, -60, -30), (60, 60, 30)), rng.uniform(4, 14, 3)
        role = ROLES[rng.integers(len(ROLES))]
        if np.linalg.norm(at - middle) > 30:
            around.append(drawn(f"{role} {k}", at, half_axes, role))
    return Case(np.zeros(GRID.shape, np.int16), GRID, (body(), gtv, *around)), gtv, around


def implanted(rng, plan):
    """What is reported of each needle at some moment; a needle that was begun cannot be blocked any more."""
    seeds, lost, blocked, lines = {}, set(), set(), {}
    for needle in plan.needles:
        what, off = STATES[rng.integers(len(STATES))], rng.uniform(-3, 3, 3)
        key = (needle.template, needle.hole)
        ordered = sorted(needle.seeds, key=lambda seed: seed.depth_mm)
        free = [((*key, k), seed.position_mm) for k, seed in enumerate(ordered, 1) if not seed.placed]
        count = {"placed": len(free), "one placed": 1}.get(what, 0)
        seeds |= {name: tuple(np.round(np.add(place, off), 2).tolist()) for name, place in free[:count]}
        if what == "one lost":
            lost |= {name for name, _ in free[:1]}
        if what == "blocked" and not begun(needle):
            blocked.add(key)
        if what == "measured":
            ends = np.add(needle.tip_mm, off), np.subtract(needle.skin_mm, off)
            lines[key] = tuple(tuple(np.round(end, 2).tolist()) for end in ends)
    return Placed(seeds, frozenset(lost), frozenset(blocked), lines)
