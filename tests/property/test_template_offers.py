"""Whatever the target, the obstacles, the direction and the protocol: every loading that is offered obeys every rule.

The rules are recomputed by `brachy.evaluation.rules` from the plan's geometry alone, after plan.json's rounding.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brachy.dosimetry.source import load_source
from brachy.errors import BrachyError
from brachy.evaluation.lateral_rule import TOLERANCE_MM
from brachy.evaluation.rules import check_rules
from brachy.geometry.structures import Structure
from brachy.needles.candidates import needle_candidates
from brachy.needles.laying_out import lay_out
from brachy.needles.template import needle_direction
from brachy.patient.plan import PlanNeedle, PlanTemplate
from brachy.patient.target import Target
from brachy.writing import rounded
from tests.needle_cases import SHIFT, box, ellipsoid, plan_needles, plan_template, protocol, shifted
from tests.property.counted import Counted, examples

SEED = load_source("amersham_6711")
BODY = ellipsoid("Body", (0, 0, 0), (160, 110, 130), "external", slices=5.0, points=72)


@st.composite
def protocols(draw):
    """Tables of a protocol."""
    step = draw(st.sampled_from([2.5, 5.0, 5.0, 7.5]))
    return {
        "template": {
            "pitch_mm": draw(st.sampled_from([4.0, 7.0, 10.0, 12.5])),
            "lateral_overshoot_mm": draw(st.sampled_from([0.0, 0.0, 4.0])),
            "lateral_margin_mm": draw(st.floats(4, 12)),
            "standoff_mm": draw(st.floats(0, 40)),
        },
        "needle": {
            "radius_mm": draw(st.floats(0.3, 1.5)),
            "max_needle_mm": draw(st.floats(80, 250)),
            "tip_to_seed_mm": draw(st.floats(0, 6)),
            "min_needle_spacing_mm": draw(st.sampled_from([2.0, 2.0, 6.0])),
        },
        "seeds": {
            "step_mm": step,
            "distal_margin_mm": draw(st.floats(0, 8)),
            "skin_margin_mm": draw(st.floats(0, 15)),
            "min_spacing_mm": draw(st.sampled_from([5.0, 6.0])),
        },
        "obstacles": {"clearance_mm": draw(st.floats(0, 5))},
    }


def within(*spread):
    return st.tuples(*(st.floats(-s, s) for s in spread))


obstacle = st.tuples(
    within(50, 50, 30),
    st.tuples(st.floats(1, 25), st.floats(1, 25), st.integers(1, 16)),
    st.sampled_from(["bone", "vessel", "lung", "bowel"]),
)
bodies = st.tuples(
    within(60, 40, 40), st.tuples(*[st.floats(8, 28)] * 3), st.lists(obstacle, min_size=0, max_size=5)
)


def build(body):
    """A target somewhere in the body, and bars, plates and lumps round it."""
    centre, half_axes, lumps = body
    target = ellipsoid("GTV", centre, half_axes, "target", slices=2.5, points=48)
    obstacles = []
    for k, (at, (dx, dy, slabs), role) in enumerate(lumps):
        low = np.add(centre, at) - (dx, dy, 0.0)
        high = np.add(low, (2 * dx, 2 * dy, 2.5 * slabs))
        obstacles.append(box(f"{role} {k}", low, high, role))
    return target, obstacles


directions = st.tuples(st.integers(0, 35).map(lambda k: 10.0 * k), st.sampled_from([0.0, 0.0, 12.0, -25.0]))
offsets = st.tuples(st.floats(-5, 5), st.floats(-5, 5))


def offered(target, obstacles, direction, rules, offset, body=BODY):
    layout = lay_out(
        target,
        body,
        needle_direction(*direction),
        pitch_mm=rules.template.pitch_mm,
        standoff_mm=rules.template.standoff_mm,
        offset_mm=offset,
        overshoot_mm=rules.template.lateral_overshoot_mm,
    )
    return needle_candidates(target, body, obstacles, layout, rules, SEED.capsule_length_mm)


def legal_subset(found, chosen):
    """Candidates in a random order, each kept unless it is in conflict with one that is."""
    forbidden = {tuple(pair) for pair in found.seed_conflicts.tolist()}
    apart = {tuple(pair) for pair in found.needle_conflicts.tolist()}
    kept, used = [], set()
    for candidate in chosen:
        needle = int(found.needle_of[candidate])
        near = any((min(candidate, k), max(candidate, k)) in forbidden for k in kept)
        if near or any((min(needle, k), max(needle, k)) in apart for k in used):
            continue
        kept.append(candidate)
        used.add(needle)
    return kept


def test_every_loading_that_is_offered_obeys_every_rule():
    counted = Counted()

    @examples(40)
    @given(bodies, directions, protocols(), offsets, st.randoms(use_true_random=False))
    def obeys(body, direction, tables, offset, random):
        target, obstacles = build(body)
        rules = protocol(**tables)
        found = counted(offered, target, obstacles, direction, rules, offset)
        if found is None:
            return  # no axis crosses so small a target
        if not found.needles:
            assert found.blocked
            return
        candidates = list(range(len(found.positions_mm)))
        random.shuffle(candidates)
        loaded = legal_subset(found, candidates[: random.randint(1, len(candidates))])
        needles = [
            PlanNeedle.model_validate(rounded(n.model_dump(mode="json"))) for n in plan_needles(found, loaded)
        ]
        template = PlanTemplate.model_validate(rounded(plan_template(found.layout).model_dump(mode="json")))
        structures = [BODY, target, *obstacles]
        results = check_rules(needles, [template], [Target(target, 120.0)], structures, rules, SEED)
        broken = [result for result in results if result.broken and not result.rule.startswith("target edge")]
        assert broken == []

    obeys()
    counted.check()


def test_coverage_of_the_edge_is_as_offered():
    counted = Counted()

    @examples(25)
    @given(bodies, directions, protocols(), offsets, st.randoms(use_true_random=False))
    def is_as_offered(body, direction, tables, offset, random):
        target, obstacles = build(body)
        rules = protocol(**tables)
        found = counted(offered, target, obstacles, direction, rules, offset)
        if found is None:
            return
        if not found.needles:
            return
        used = sorted(random.sample(range(len(found.needles)), random.randint(1, len(found.needles))))
        # the deepest candidate of each, so that a shortened needle counts as far as it was offered
        loaded = [int(np.flatnonzero(found.needle_of == needle)[0]) for needle in used]
        structures = [BODY, target, *obstacles]
        template = plan_template(found.layout)
        results = check_rules(
            plan_needles(found, loaded), [template], [Target(target, 120.0)], structures, rules, SEED
        )
        covered = found.edge_covered_by[:, used].any(axis=1)
        for result in results:
            if result.rule.startswith("target edge"):
                layer = int(result.rule.split()[-1])
                if abs(result.worst - rules.template.lateral_margin_mm) > 2 * TOLERANCE_MM:
                    within = result.worst <= rules.template.lateral_margin_mm
                    assert within == covered[found.edge_layer == layer].all()
                # a breach is only what some needle that was offered and left out would have served
                left_out = found.edge_covered_by.any(axis=1) & ~covered
                assert not result.broken or left_out[found.edge_layer == layer].any()
        everything = [cause == "" for cause in found.edge_cause]
        assert everything == found.edge_covered_by.any(axis=1).tolist()

    is_as_offered()
    counted.check()


def test_a_patient_who_lies_elsewhere_gets_the_same_offer():
    counted = Counted()

    @examples(20)
    @given(bodies, directions, protocols(), offsets)
    def is_the_same(body, direction, tables, offset):
        target, obstacles = build(body)
        rules = protocol(**tables)
        here = counted(offered, target, obstacles, direction, rules, offset)
        if here is None:
            with pytest.raises(BrachyError):
                offered(shifted(target), [], direction, rules, offset, shifted(BODY))
            return
        there = offered(
            shifted(target), [shifted(s) for s in obstacles], direction, rules, offset, shifted(BODY)
        )
        assert [needle.hole for needle in there.needles] == [needle.hole for needle in here.needles]
        assert [(b.hole, b.cause) for b in there.blocked] == [(b.hole, b.cause) for b in here.blocked]
        assert np.array_equal(there.needle_of, here.needle_of)
        assert there.positions_mm - SHIFT == pytest.approx(here.positions_mm, abs=5e-3)
        assert np.array_equal(there.seed_conflicts, here.seed_conflicts)

    is_the_same()
    counted.check()


def test_obstacles_never_add_a_needle_or_reach_further():
    counted = Counted()

    @examples(25)
    @given(bodies, directions, protocols())
    def never_further(body, direction, tables):
        target, obstacles = build(body)
        rules = protocol(**tables)
        free = counted(offered, target, [], direction, rules, (0.0, 0.0))
        if free is None:
            return
        hindered = offered(target, obstacles, direction, rules, (0.0, 0.0))
        tips = {needle.hole: needle.tip_depth_mm for needle in free.needles}
        for needle in hindered.needles:
            assert needle.tip_depth_mm <= tips[needle.hole] + 1e-6
        assert len(hindered.needles) + len(hindered.blocked) == len(free.needles) + len(free.blocked)

    never_further()
    counted.check()


@pytest.mark.parametrize(("thick", "beyond"), [(0.4, False), (0.6, True)])
def test_a_sliver_of_the_target_beyond_a_gap_does_not_move_its_distal_edge(thick, beyond):
    """Found by the tests above: the axis leaves the target, and crosses a little of it again 4 mm deeper."""
    corners = [
        np.array([[-12, low, z], [12, low, z], [12, high, z], [-12, high, z]], dtype=float)
        for z in np.arange(-8.75, 10.0, 2.5)
        for low, high in ((-10.0, 10.0), (14.0, 14.0 + thick))
    ]
    target = Structure("GTV", corners, "target", slice_spacing_mm=2.5)
    rules = protocol(seeds={"distal_margin_mm": 2.0})
    found = offered(target, [], (0.0, 0.0), rules, (0.0, 0.0))
    deepest = [needle.hole_mm[1] + needle.depths_mm[0] for needle in found.needles]
    assert deepest == pytest.approx([12.0 + thick if beyond else 8.0] * len(deepest), abs=0.01)
    loaded = [int(np.flatnonzero(found.needle_of == k)[0]) for k in range(len(found.needles))]
    template, needles = plan_template(found.layout), plan_needles(found, loaded)
    results = check_rules(needles, [template], [Target(target, 120.0)], [BODY, target], rules, SEED)
    edge = next(result for result in results if result.rule == "seed to distal edge")
    assert edge.worst == pytest.approx(2.0, abs=0.01)
    assert not any(result.broken for result in results if "edge" in result.rule)
