"""Rules of a finished plan: each one's worst case in closed form, and each one found broken when it is broken."""

import numpy as np
import pytest

from brachy.dosimetry.source import load_source
from brachy.errors import UsageError
from brachy.evaluation.lateral_rule import nearest_on_path
from brachy.evaluation.rules import check_rules
from brachy.geometry.structures import Structure
from brachy.needles.candidates import needle_candidates
from brachy.needles.laying_out import lay_out
from brachy.needles.template import needle_direction
from brachy.patient.plan import PlanNeedle, PlanSeed, PlanTemplate
from brachy.patient.target import Target
from brachy.writing import rounded
from tests.needle_cases import SHIFT, box, ellipsoid, plan_needles, plan_template, protocol, shifted

WATER = box("Body", (-150, -100, -100), (150, 100, 100), "external")
CUBE = box("GTV", (-22, -22, -20), (22, 22, 20), "target")
RIB = box("Ribs", (-60, -70, 24), (60, -60, 44), "bone")
VENA = box("Vena", (30, -50, -60), (40, 50, 60), "vessel")
RULES = protocol(needle={"max_needle_mm": 300.0})
SEED = load_source("amersham_6711")
ROLES = ["bone", "vessel", "lung", "bile duct", "gallbladder", "bowel"]


def planned(target=CUBE, obstacles=(RIB, VENA), azimuth=0.0, tilt=0.0, rules=RULES, external=WATER):
    direction = needle_direction(azimuth, tilt)
    layout = lay_out(
        target, external, direction, pitch_mm=rules.template.pitch_mm, standoff_mm=rules.template.standoff_mm
    )
    found = needle_candidates(target, external, obstacles, layout, rules, SEED.capsule_length_mm)
    return found, plan_needles(found, np.arange(len(found.positions_mm))), plan_template(layout)


OFFER, NEEDLES, TEMPLATE = planned()


def check(needles=NEEDLES, templates=(TEMPLATE,), structures=(WATER, CUBE, RIB, VENA), rules=RULES, gy=120.0):
    results = check_rules(needles, templates, [Target(CUBE, gy)], structures, rules, SEED)
    assert len({result.rule for result in results}) == len(results)
    return {result.rule: result for result in results}


def broken(results):
    return {rule for rule, result in results.items() if result.broken}


def with_needle(index, **fields):
    return [n.model_copy(update=fields) if i == index else n for i, n in enumerate(NEEDLES)]


def with_seed(index, seed, position):
    seeds = list(NEEDLES[index].seeds)
    tip = np.array(NEEDLES[index].tip_mm)
    depth = float(np.linalg.norm(tip - position))
    seeds[seed] = PlanSeed(position_mm=tuple(np.asarray(position).tolist()), depth_mm=depth)
    return with_needle(index, seeds=tuple(seeds))


def test_a_legal_plan_keeps_every_rule_with_the_worst_case_in_closed_form():
    found = check()
    assert broken(found) == set()
    # layers at -1.2476 + 10 k, up to 18.7524; the rib begins at z = 24
    assert found["needle to bone"].worst == pytest.approx(24 - 18.752361 - 0.65, abs=1e-3)
    assert "Ribs" in found["needle to bone"].where
    assert "needle A4" in found["needle to bone"].where
    # columns at 0.0038 + 10 k, up to 20.0038; the vessel begins at x = 30
    assert found["needle to vessel"].worst == pytest.approx(30 - 20.003819 - 0.65, abs=1e-3)
    lung = found["needle to lung"]
    assert (lung.worst, lung.status, lung.where) == (None, "not checked", "no such structure")
    judged = {rule: result.status for rule, result in found.items() if result.worst is not None}
    assert set(judged.values()) == {"kept"}
    assert found["seed to skin"].worst == pytest.approx(100 - 22 + 4, abs=4)
    assert found["seed to distal edge"].worst == pytest.approx(5.001, abs=1e-5)
    assert found["seed between first entry and last exit"].worst == pytest.approx(44 - 5.001 - 35, abs=1e-5)
    assert found["needle length"].worst == pytest.approx(120 + 17 - 0.001 + 2.25, abs=1e-4)
    assert found["between needles"].worst == pytest.approx(10 - 1.3, abs=1e-6)
    assert found["between seeds"].worst == pytest.approx(5, abs=1e-6)
    assert found["template to skin, along a needle"].worst == pytest.approx(20, abs=1e-5)
    assert found["prescription"].worst == 120
    assert found["activity"].worst == RULES.source.activity_mCi
    # in each layer the farthest edge points are the corners (22, 22), 1.9962 from an axis in x at full depth
    for layer in (-1, 0, 1, 2):
        row = found[f"target edge to needle, layer {layer:+d}"]
        assert row.worst == pytest.approx(5, abs=0.6)  # between two columns, on the entry or exit face
        assert row.limit == "<= 10 mm, or barred and reported"


def test_a_plan_read_back_from_its_file_keeps_the_same_rules():
    needles = [PlanNeedle.model_validate(rounded(n.model_dump(mode="json"))) for n in NEEDLES]
    template = PlanTemplate.model_validate(rounded(TEMPLATE.model_dump(mode="json")))
    before, after = check(), check(needles, (template,))
    assert broken(after) == set()
    for rule, result in before.items():
        if result.worst is not None:
            assert after[rule].worst == pytest.approx(result.worst, abs=5e-3)


@pytest.mark.parametrize(
    ("obstacle", "rule", "worst"),
    [
        (box("Rib", (-60, -70, 20), (60, -60, 40), "bone"), "needle to bone", 20 - 18.752361 - 0.65),
        (box("Aorta", (21, 0, -60), (40, 50, 60), "vessel"), "needle to vessel", 21 - 20.003819 - 0.65),
        (box("Colon", (-60, 19.5, -60), (60, 30, 60), "bowel"), "needle to bowel", 19.5 - 19.249 - 0.65),
        (box("Duct", (0, 0, -5), (5, 5, 5), "bile_duct"), "needle to bile duct", -0.65),
    ],
)
def test_an_obstacle_too_near_is_found(obstacle, rule, worst):
    found = check(structures=(WATER, CUBE, obstacle))
    assert rule in broken(found)
    assert found[rule].worst == pytest.approx(worst, abs=2e-3)
    assert obstacle.name in found[rule].where
    assert broken(found) - {rule} <= {r for r in found if r.startswith("target edge")}


def test_seeds_too_near_the_skin_are_found():
    thin = box("Body", (-150, -31, -100), (150, 100, 100), "external")
    found = check(structures=(thin, CUBE))
    first = -22 + 4 - 0.001  # the most proximal candidate, 5 mm steps from 17
    assert found["seed to skin"].worst == pytest.approx(31 + 17 - 0.001 - 35, abs=1e-3)
    assert first < -17
    thinner = box("Body", (-150, -27, -100), (150, 100, 100), "external")
    found = check(structures=(thinner, CUBE))
    assert found["seed to skin"].worst == pytest.approx(9 - 0.001, abs=1e-3)
    assert "seed to skin" in broken(found)
    assert "seed 8" in found["seed to skin"].where


def test_a_seed_moved_along_its_needle_is_found():
    tip = np.array(NEEDLES[3].tip_mm)
    deeper = with_seed(3, 0, tip - (0, 0.5, 0))
    found = check(deeper)
    distal = 22 - (19.249 - 0.5)
    assert found["seed to distal edge"].worst == pytest.approx(distal, abs=1e-3)
    assert broken(found) == {"seed to distal edge", "tip to first seed centre, off 2.25 mm"}
    assert found["tip to first seed centre, off 2.25 mm"].worst == pytest.approx(1.75, abs=1e-3)
    nearer = with_seed(3, 1, np.add(NEEDLES[3].seeds[1].position_mm, (0, 0.5, 0)))
    found = check(nearer)
    assert broken(found) == {"between seeds", "between seeds of a needle"}
    assert found["between seeds"].worst == pytest.approx(4.5, abs=1e-6)
    assert (
        found["between seeds"].where
        == f"needle {NEEDLES[3].hole}, seed 1 and needle {NEEDLES[3].hole}, seed 2"
    )
    before = with_seed(3, 7, np.subtract(NEEDLES[3].seeds[7].position_mm, (0, 6.0, 0)))
    found = check(before)
    assert broken(found) == {"seed between first entry and last exit"}
    assert found["seed between first entry and last exit"].worst == pytest.approx(-2.001, abs=1e-3)


def test_a_seed_off_its_needle_is_found():
    aside = with_seed(3, 4, np.add(NEEDLES[3].seeds[4].position_mm, (0.3, 0, 0.4)))
    found = check(aside)
    assert broken(found) == {"hole, tip and seeds on the template's lattice"}
    assert found["hole, tip and seeds on the template's lattice"].worst == pytest.approx(0.5, abs=1e-6)


def test_wrong_labels_are_found():
    assert "hole, tip and seeds on the template's lattice" in broken(check(with_needle(0, hole="B2")))
    found = check(with_needle(0, hole="Z99"))["hole, tip and seeds on the template's lattice"]
    assert (found.worst, found.met) == (None, False)
    assert "no hole of its template" in found.where


@pytest.mark.parametrize("field", ["depth_mm", "depth_from_skin_mm"])
def test_wrong_depths_are_found(field):
    found = check(with_needle(2, **{field: getattr(NEEDLES[2], field) + 0.2}))
    assert broken(found) == {"recorded depths"}
    assert found["recorded depths"].worst == pytest.approx(0.2, abs=1e-6)


def test_a_wrong_skin_entry_is_found():
    skin = np.add(NEEDLES[2].skin_mm, (0, 3.0, 0))
    found = check(with_needle(2, skin_mm=tuple(skin.tolist())))
    assert broken(found) == {"skin entry", "recorded depths"}
    assert found["skin entry"].worst == pytest.approx(3.0, abs=1e-4)


def test_an_arm_before_the_entry_is_found():
    arm = box("Body", (-15, -180, -100), (15, -150, 100))
    body = Structure("Body", (*WATER.contours_mm, *arm.contours_mm), "external", slice_spacing_mm=2.5)
    found = check(structures=(body, CUBE))
    assert {"skin entry"} <= broken(found)
    assert found["skin entry"].worst == pytest.approx(30, abs=0.6)


def test_a_template_too_near_the_skin_is_found():
    fat = box("Body", (-150, -110, -100), (150, 100, 100), "external")
    found = check(structures=(fat, CUBE))
    assert found["template to skin, along a needle"].worst == pytest.approx(10, abs=1e-5)
    assert "template to skin, along a needle" in broken(found)


def test_two_needles_too_near_are_found_across_templates():
    twin = [n.model_copy(update={"template": 1}) for n in NEEDLES[:1]]
    found = check([*NEEDLES, *twin], (TEMPLATE, TEMPLATE))
    assert {"between needles", "between seeds"} <= broken(found)
    assert found["between needles"].worst == pytest.approx(-1.3, abs=1e-6)
    assert "of template 1" in found["between needles"].where
    assert "of template 2" in found["between needles"].where


def test_skew_needles_of_two_templates_in_closed_form():
    hole, tip = np.array([-70.0, -30.0, 3.0]), np.array([50.0, -30.0, 3.0])
    across = PlanNeedle(
        hole="A1",
        template=1,
        hole_mm=tuple(hole),
        skin_mm=tuple(hole),
        tip_mm=tuple(tip),
        direction=(1, 0, 0),
        depth_mm=120,
        depth_from_skin_mm=120,
        seeds=(),
    )
    found = check([*NEEDLES, across], (TEMPLATE, TEMPLATE))
    # it crosses all needles of the layers at -1.2476 and 8.7524 at right angles
    assert found["between needles"].worst == pytest.approx(3 + 1.247639 - 1.3, abs=1e-6)


def test_needle_length_and_ranges():
    short = protocol(needle={"max_needle_mm": 139.0})
    found = check(rules=short)
    assert "needle length" in broken(found)
    assert found["needle length"].worst == pytest.approx(139.249, abs=1e-3)
    assert broken(check(gy=190.0)) == {"prescription"}
    assert broken(check(gy=105.0)) == {"prescription"}


def test_lateral_margin_names_the_place_and_the_cause():
    bar = box("Ribs", (15, -70, -60), (60, -60, 60), "bone")
    rules = protocol(needle={"max_needle_mm": 300.0}, template={"lateral_margin_mm": 8.0})
    _, needles, template = planned(obstacles=[bar], rules=rules)
    found = check(needles, (template,), (WATER, CUBE, bar), rules)
    layers = [rule for rule in found if rule.startswith("target edge")]
    # what no clear hole can reach is reported with place and cause, as the protocol asks, and breaks nothing
    assert broken(found) == set()
    for rule in layers:
        assert found[rule].status == "reported"
        # the face x = 22 seen from the column at 10.0038, at the skin-ward and far edges too
        assert found[rule].worst == pytest.approx(22 - 10.003819, abs=1e-2)
        assert "(22.0" in found[rule].where
        assert "blocked by Ribs at 0.0 mm" in found[rule].where


def test_lateral_margin_of_holes_left_unused():
    rules = protocol(needle={"max_needle_mm": 300.0}, template={"lateral_margin_mm": 8.0})
    chosen = [n for n in NEEDLES if n.hole.startswith(("A", "B", "C", "D"))]
    found = check(chosen, rules=rules)
    row = found["target edge to needle, layer +0"]
    assert row.broken
    assert "is free but not used" in row.where


def test_a_vessel_that_was_freed_is_not_covered_by_another_one_that_is_clear():
    """A vein across the needles, freed, beside a vessel at x = 30 that all of them clear by 9 mm."""
    vein = box("PV", (-22, -40, -20), (22, -36, 20), "vessel")
    rules = protocol(obstacles={"free": ("PV",)})
    found = check(structures=(WATER, CUBE, RIB, VENA, vein), rules=rules)
    assert found["needle to vessel"].status == "kept"
    assert found["needle to vessel"].worst == pytest.approx(30 - 20.003819 - 0.65, abs=1e-3)
    freed = found["needle to vessel, freed"]
    assert (freed.status, freed.worst, freed.where) == ("not checked", None, "freed: PV")
    # and without the word of a person they meet it
    assert check(structures=(WATER, CUBE, RIB, VENA, vein))["needle to vessel"].broken


def test_a_shortened_needle_counts_to_its_tip_only():
    wall = box("Vena", (-60, 8, -60), (60, 12, 60), "vessel")
    rules = protocol(needle={"max_needle_mm": 300.0}, template={"lateral_margin_mm": 10.0})
    offered, needles, template = planned(obstacles=[wall], rules=rules)
    found = check(needles, (template,), (WATER, CUBE, wall), rules)
    tip = max(n.tip_mm[1] for n in needles)
    row = found["target edge to needle, layer +0"]
    # midway between two columns on the far face, or within half a mm of there
    assert np.hypot(22 - tip, 4.5) <= row.worst <= np.hypot(22 - tip, 5)
    assert row.status == "reported"
    assert "blocked by Vena" in row.where
    assert (~offered.edge_covered_by.any(axis=1)).any()


def test_nothing_loaded():
    found = check([])
    assert broken(found) == {f"target edge to needle, layer {layer:+d}" for layer in (-1, 0, 1, 2)}
    # no needle is no proof that needles are clear of bone: of a plan without any only the activity can be judged
    assert {rule: result.status for rule, result in found.items() if result.met} == {
        "prescription": "kept",
        "activity": "kept",
    }
    nothing = check_rules([], [], [], [WATER], RULES, SEED)
    assert [result.rule for result in nothing if result.status != "not checked"] == ["activity"]


def test_wrong_use():
    with pytest.raises(UsageError, match="'external'"):
        check(structures=(CUBE,))
    with pytest.raises(UsageError, match="target 'GTV'"):
        check_rules(NEEDLES, [TEMPLATE], [Target(RIB, 120.0)], [WATER], RULES, SEED)


def test_every_row_can_be_written_to_the_plan():
    for result in check().values():
        rounded(result.model_dump(mode="json"))


def test_least_distance_of_a_path_against_dense_sampling():
    random = np.random.default_rng(3)
    rib = ellipsoid("rib", (5, 3, -2), (18, 9, 6), slices=2.0, points=40)
    for _ in range(40):
        start, end = random.uniform(-60, 60, (2, 3))
        found, depth = nearest_on_path(start, end, rib)
        length = np.linalg.norm(end - start)
        along = np.arange(0, length, 0.01)[:, None] * (end - start) / length
        assert found == pytest.approx(rib.distance_mm(start + along).min(), abs=0.006)
        assert rib.distance_mm([start + depth * (end - start) / length])[0] == pytest.approx(found, abs=1e-9)


def test_a_patient_who_lies_elsewhere_keeps_the_same_rules():
    structures = [shifted(s) for s in (WATER, CUBE, RIB, VENA)]
    offered = needle_candidates(
        structures[1],
        structures[0],
        structures[2:],
        lay_out(structures[1], structures[0], needle_direction(0), pitch_mm=10.0, standoff_mm=20.0),
        RULES,
        SEED.capsule_length_mm,
    )
    needles = plan_needles(offered, np.arange(len(offered.positions_mm)))
    there = check_rules(
        needles, [plan_template(offered.layout)], [Target(structures[1], 120.0)], structures, RULES, SEED
    )
    assert np.array(needles[0].tip_mm) - SHIFT == pytest.approx(np.array(NEEDLES[0].tip_mm), abs=1e-5)
    for one, other in zip(check().values(), there, strict=True):
        assert (one.rule, one.status) == (other.rule, other.status)
        if one.worst is not None:
            assert one.worst == pytest.approx(other.worst, abs=1e-5)
