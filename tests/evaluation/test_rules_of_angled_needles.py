"""Rules of needles with directions of their own: each worst case against closed forms of boxes and dense sampling."""

from dataclasses import replace

import numpy as np
import pytest

from brachy.dosimetry.source import load_source
from brachy.evaluation.rules import check_rules
from brachy.needles.candidates import needle_candidates
from brachy.needles.channel import Channel
from brachy.needles.laying_out import lay_out
from brachy.needles.template import needle_direction
from brachy.patient.target import Target
from tests.needle_cases import (
    apart,
    box,
    cone_axes,
    plan_needles,
    plan_template,
    protocol,
    through_box,
    to_box,
    to_segment,
)

LOW, HIGH = np.array([-22.0, -22, -20]), np.array([22.0, 22, 20])
WATER = box("Body", (-150, -100, -100), (150, 100, 100), "external")
CUBE = box("GTV", LOW, HIGH, "target")
RIB_LOW, RIB_HIGH = (-60, -70, 24), (60, -60, 44)
RIB = box("Ribs", RIB_LOW, RIB_HIGH, "bone")
RULES = protocol(needle={"max_needle_mm": 300.0})
SEED = load_source("amersham_6711")
LAYOUT = replace(lay_out(CUBE, WATER, needle_direction(0), pitch_mm=10.0, standoff_mm=20.0), cone_deg=30.0)


def legal_subset(found):
    """Indices of candidate seeds of needles that exclude each other nowhere."""
    taken, seeds = [], []
    needle_pairs = {tuple(p) for p in found.needle_conflicts.tolist()}
    seed_pairs = {tuple(p) for p in found.seed_conflicts.tolist()}
    for k in range(len(found.needles)):
        if not any((j, k) in needle_pairs for j in taken):
            taken.append(k)
    for i in range(len(found.positions_mm)):
        if found.needle_of[i] in taken and not any((j, i) in seed_pairs for j in seeds):
            seeds.append(i)
    return seeds


@pytest.fixture(scope="module")
def needles():
    axes = cone_axes(LAYOUT, LOW, HIGH, 40, seed=5)
    found = needle_candidates(CUBE, WATER, [RIB], LAYOUT, RULES, SEED.capsule_length_mm, axes=axes)
    return plan_needles(found, legal_subset(found))


def check(needles, layout=LAYOUT, structures=(WATER, CUBE, RIB)):
    results = check_rules(needles, [plan_template(layout)], [Target(CUBE, 120.0)], structures, RULES, SEED)
    return {result.rule: result for result in results}


def test_angled_needles_keep_every_rule_but_the_lateral_margin(needles):
    directions = np.array([n.direction for n in needles])
    assert len(needles) > 10
    assert np.degrees(np.arccos(directions[:, 1])).max() > 12  # they are far from parallel
    found = check(needles)
    assert {r for r, result in found.items() if result.broken} <= {
        r for r in found if r.startswith("target edge")
    }


def test_worst_cases_against_brute_force(needles):
    found = check(needles)
    lines = [Channel.of(n) for n in needles]
    paths = [line.at(np.arange(0.0, line.tip_depth_mm, 0.02)) for line in lines]
    gap = min(to_box(path, RIB_LOW, RIB_HIGH).min() for path in paths) - 0.65
    assert found["needle to bone"].worst == pytest.approx(gap, abs=3e-3)
    assert gap < 20
    spans = [through_box(line.hole_mm, line.direction, LOW, HIGH) for line in lines]
    depths = [line.depth_of([s.position_mm for s in n.seeds]) for line, n in zip(lines, needles, strict=True)]
    distal = min(span[1] - d.max() for span, d in zip(spans, depths, strict=True))
    assert found["seed to distal edge"].worst == pytest.approx(distal, abs=1e-4)
    inside = min(min(d.min() - span[0], span[1] - d.max()) for span, d in zip(spans, depths, strict=True))
    assert found["seed between first entry and last exit"].worst == pytest.approx(inside, abs=1e-4)
    assert found["needle length"].worst == pytest.approx(max(line.tip_depth_mm for line in lines), abs=1e-6)
    nearest = min(apart(lines[i], lines[j]) for j in range(len(lines)) for i in range(j))
    assert found["between needles"].worst == pytest.approx(nearest - 1.3, abs=2e-3)
    seeds = np.array([s.position_mm for n in needles for s in n.seeds])
    skin = (np.array([150.0, 100, 100]) - np.abs(seeds)).min()
    assert found["seed to skin"].worst == pytest.approx(skin, abs=1e-4)
    gaps = np.linalg.norm(seeds[:, None] - seeds, axis=2) + 1e9 * np.eye(len(seeds))
    assert found["between seeds"].worst == pytest.approx(gaps.min(), abs=1e-6)
    along = min(20.0 / line.direction[1] for line in lines)
    assert found["template to skin, along a needle"].worst == pytest.approx(along, abs=1e-4)


def test_the_lateral_margin_is_that_of_each_needles_own_line(needles):
    found = check(needles, structures=(WATER, CUBE))
    side = np.arange(-22.0, 22.0, 0.1)
    edge = np.concatenate(
        [np.column_stack([side, np.full_like(side, y)]) for y in (-22, 22)]
        + [np.column_stack([np.full_like(side, x), side]) for x in (-22, 22)]
    )
    lines = [Channel.of(n) for n in needles]
    for layer in (-1, 0, 1, 2):
        points = np.column_stack([edge, np.full(len(edge), -1.25 + 0.002361 + 10 * layer)])
        # nothing shortens these needles, so each counts as a whole line
        gaps = np.min([to_segment(points, line.hole_mm, line.at(1000.0)) for line in lines], axis=0)
        # edge points are 1 mm apart
        worst = found[f"target edge to needle, layer {layer:+d}"].worst
        assert gaps.max() - 0.51 <= worst <= gaps.max() + 1e-3


def test_a_needle_beyond_the_cone_or_off_its_own_line_is_found(needles):
    rule = "hole, tip and seeds on the template's lattice"
    assert check(needles)[rule].worst < 1e-4
    narrow = check(needles, replace(LAYOUT, cone_deg=5.0))[rule]
    assert narrow.broken
    assert "degrees off its template's axis" in narrow.where
    assert check(needles, replace(LAYOUT, cone_deg=0.0))[rule].broken
    tip = tuple(np.add(needles[2].tip_mm, (0.3, 0.0, 0.0)).tolist())
    bent = [n.model_copy(update={"tip_mm": tip}) if k == 2 else n for k, n in enumerate(needles)]
    off = check(bent)[rule]
    assert off.broken
    assert off.worst == pytest.approx(0.3, abs=0.05)
    assert needles[2].hole in off.where


def test_a_parallel_plan_still_has_to_be_parallel():
    found = needle_candidates(CUBE, WATER, [], replace(LAYOUT, cone_deg=0.0), RULES, SEED.capsule_length_mm)
    straight = plan_needles(found, np.arange(len(found.positions_mm)))
    rule = "hole, tip and seeds on the template's lattice"
    assert check(straight, replace(LAYOUT, cone_deg=0.0))[rule].met
    axis = np.array([0.01, 1.0, 0.0]) / np.hypot(0.01, 1.0)
    hole, tip = np.array(straight[0].hole_mm), np.array(straight[0].hole_mm) + straight[0].depth_mm * axis
    tilted = straight[0].model_copy(update={"tip_mm": tuple(tip), "direction": tuple(axis)})
    result = check([tilted, *straight[1:]], replace(LAYOUT, cone_deg=0.0))[rule]
    assert result.worst == pytest.approx(np.linalg.norm(np.cross(tip - hole, [0, 1, 0])), abs=1e-3)
    assert result.broken
