"""Random targets, obstacles, sectors and protocols: needles at angles keep every rule, recomputed here by sampling."""

import numpy as np
import pytest
from hypothesis import example

from brachy.optimise import plan
from brachy.patient.protocol import change
from tests.property.counted import Counted, examples, numbers
from tests.property.sampled_rules import Needle, broken_rules
from tests.property.small_cases import body, protocol, small_case

SECTORS = ((), (), ((300.0, 420.0),), ((45.0, 200.0),))


def individual(rng):
    """A random protocol with needles at angles, and now and then a sector."""
    rule = protocol(rng)
    return change(
        rule,
        template={"arrangement": "individual", "cone_deg": float(rng.choice([10.0, 10.0, 20.0, 30.0]))},
        direction={"tilts_deg": (0.0, 20.0), "azimuth_step_deg": 120.0},
        search={"axes": 1, "rounds": 1},
        access={"azimuth_deg": SECTORS[rng.integers(len(SECTORS))]},
    )


def apart(one, other):
    """Least distance of points (n, 3) to points (m, 3)."""
    return float(np.linalg.norm(one[:, None] - other[None], axis=2).min())


def along(needle, first, last, step=0.25):
    """Points on a needle's line between two depths from the hole."""
    depths = np.append(np.arange(first, last, step), last)
    return needle.hole + depths[:, None] * needle.direction


def broken_by_the_guide(found):
    """A sentence for each pair that cannot stand in one guide, by points along the needles, in the order written."""
    rule = found.protocol
    template = found.templates[0]
    axis = np.array(template.direction)
    needles = [Needle(each) for each in found.needles]
    assert [each.name for each in needles] == [f"N{k + 1}" for k in range(len(needles))]
    longest, width, radius = rule.needle.max_needle_mm, rule.access.hub_diameter_mm, rule.needle.radius_mm
    broken = []
    for k, later in enumerate(needles):
        lean = np.degrees(np.arccos(np.clip(later.direction @ axis, -1, 1)))
        if lean > template.cone_deg + 0.01:
            broken.append(f"{later.name} leans by {lean:.2f} degrees")
        for before in needles[:k]:
            pair = f"{before.name} and {later.name}"
            shafts = [along(each, each.length - longest, each.length, 0.5) for each in (before, later)]
            gap = apart(*shafts) - 2 * radius
            if gap < rule.needle.min_needle_spacing_mm - 0.3:
                broken.append(f"{pair}: {gap:.2f} mm")
            # the hub of the later needle comes from where its tip enters the hole; the other is at rest
            way = along(later, -longest, later.length - longest)
            rest = along(before, before.length - longest, before.length - longest)
            if apart(way, rest) < width - 0.3:
                broken.append(f"{pair}: hubs meet")
            if apart(way, shafts[0]) < 0.5 * width + radius - 0.4:
                broken.append(f"{pair}: a hub meets a needle")
            for height in (0.0, 5.0):
                places = [
                    each.hole + height / (each.direction @ axis) * each.direction for each in (before, later)
                ]
                if np.linalg.norm(places[0] - places[1]) < rule.template.sleeve_spacing_mm - 0.01:
                    broken.append(f"{pair}: sleeves {np.linalg.norm(places[0] - places[1]):.2f} mm apart")
    return broken


@pytest.mark.slow
def test_every_rule_holds_in_every_plan_at_angles():
    counted = Counted()

    @examples(30)
    @example(1863958)  # a level line between two slices
    @numbers
    def every_rule_holds(number):
        rng = np.random.default_rng(number)
        case, gtv, around = small_case(rng)
        found = counted(plan, case, individual(rng), threads=2)
        if found is None:
            return
        assert broken_rules(found, gtv, around, body()) == []
        assert broken_by_the_guide(found) == []
        assert [(r.rule, r.worst, r.where) for r in found.rules if r.broken] == []
        both = found.optimiser.arrangement
        assert both.chosen == "individual"
        assert found.seed_count == both.individual.seeds

    every_rule_holds()
    counted.check()
