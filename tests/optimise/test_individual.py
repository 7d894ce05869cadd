"""Plans with needles at angles: chosen where ribs bar the parallel ones, named in order, the same on any machine."""

import json

import numpy as np
import pytest
import trimesh

from brachy.check.folder import check_plan
from brachy.errors import UsageError
from brachy.io.phantom.file import load_phantom
from brachy.needles.channel import Channel
from brachy.needles.template import TemplateLayout
from brachy.optimise import plan, plan_alternatives
from brachy.optimise.replanning.edits import read_edits
from brachy.optimise.replanning.implanted_so_far import Placed
from brachy.optimise.replanning.replan import replan
from brachy.output.plan_folder import write_outputs
from brachy.output.report.needle_chart import chart_rows, plate_maps
from brachy.output.template_solid import PrintedTemplateOptions, template_solid
from brachy.patient.anatomy import prepare
from brachy.patient.plan import Plan
from brachy.patient.protocol import change
from tests.sphere_case import QUICK, sphere

ANGLES = change(QUICK, template={"arrangement": "individual"}, search={"axes": 1, "rounds": 2})


@pytest.fixture(scope="module")
def made():
    return plan(sphere(), ANGLES, direction=(40, 10))


def test_needles_are_named_in_the_order_of_insertion_and_lie_in_their_holes(made):
    (template,) = made.templates
    assert template.arrangement == "individual"
    names = [needle.hole for needle in made.needles]
    assert names == [f"N{k + 1}" for k in range(len(names))] == [hole.hole for hole in template.holes]
    layout = TemplateLayout.of(template)
    for needle, hole in zip(made.needles, template.holes, strict=True):
        assert layout.at(needle.hole) == pytest.approx(np.array(needle.hole_mm), abs=2e-3)
        assert needle.direction == pytest.approx(hole.direction, abs=1e-5)
        way = Channel.of(needle).direction
        assert np.degrees(np.arccos(min(way @ layout.direction, 1.0))) <= 30.01
    directions = np.array([needle.direction for needle in made.needles])
    assert np.degrees(np.arccos((directions @ directions.T).min())) > 15


def test_the_plan_is_the_same_for_any_number_of_threads_and_after_writing(made, tmp_path):
    again = plan(sphere(), ANGLES, direction=(40, 10), threads=1)
    assert again.to_json() == made.to_json()
    made.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json").to_json() == made.to_json()
    assert json.loads(made.to_json())["optimiser"]["arrangement"]["chosen"] == "individual"


def test_a_cone_of_0_degrees_gives_the_objective_of_parallel_needles():
    flat = plan(sphere(), change(QUICK, search={"moves": 20_000}), direction=(40, 10))
    rule = change(ANGLES, template={"cone_deg": 0.0}, search={"moves": 20_000, "rounds": 4})
    none = plan(sphere(), rule, direction=(40, 10))
    both = none.optimiser.arrangement
    assert both.parallel.objective == pytest.approx(
        flat.optimiser.objective - flat.optimiser.terms["lateral"], rel=1e-5
    )
    assert both.individual.objective <= both.parallel.objective * 1.005
    for needle in none.needles:
        assert needle.direction == pytest.approx(none.templates[0].direction, abs=1e-6)


@pytest.mark.slow
def test_angles_are_chosen_where_ribs_keep_parallel_needles_away():
    """The ribs leave bands of 7.7 mm, 28 mm apart, to parallel needles; phantoms/rib-cage.toml says why."""
    case = load_phantom("rib-cage")
    rule = change(QUICK, direction={"azimuth_deg": 270.0}, search={"axes": 1, "rounds": 2})
    flat = plan(case, rule)
    (lost,) = flat.optimiser.out_of_reach
    assert lost.volume_cc > 0.05 * flat.targets[0].volume_cc
    assert flat.evaluation.structures["GTV"]["V100_pct"] < 93
    angled = plan(case, change(rule, template={"arrangement": "choose"}))
    assert angled.templates[0].arrangement == "individual"
    assert angled.optimiser.out_of_reach == ()
    assert angled.evaluation.structures["GTV"]["V100_pct"] >= 96
    assert [r.rule for r in angled.rules if r.broken] == []
    assert "parallel ones do not meet the required coverage" in angled.optimiser.arrangement.why


def test_parallel_needles_are_kept_where_angles_gain_little():
    rule = change(ANGLES, template={"arrangement": "choose", "cone_deg": 0.0})
    flat = plan(sphere(), change(rule, template={"arrangement": "parallel"}), direction=(0, 0))
    found = plan(sphere(), rule, direction=(0, 0))  # a direction is one for all needles
    assert found.templates == flat.templates
    assert found.needles == flat.needles


def test_alternatives_have_names_of_their_own():
    named = plan_alternatives(sphere(), ANGLES, 2, direction=(40, 10))
    for _, each in named:
        assert [n.hole for n in each.needles] == [f"N{k + 1}" for k in range(len(each.needles))]


def test_a_replan_uses_the_holes_that_are_printed(made):
    first, second = made.needles[0], made.needles[1]
    seeds = {
        (0, first.hole, k): seed.position_mm
        for k, seed in enumerate(sorted(first.seeds, key=lambda seed: seed.depth_mm), 1)
    }
    done = replan(made, sphere(), Placed(seeds, frozenset(), frozenset({(0, second.hole)}), {}))
    assert done.templates == made.templates
    holes = {hole.hole: hole for hole in made.templates[0].holes}
    assert second.hole not in {needle.hole for needle in done.needles}
    for needle in done.needles:
        assert needle.direction == pytest.approx(holes[needle.hole].direction, abs=1e-5)


@pytest.mark.parametrize(("hole", "words"), [("N99", "has no hole N99"), ("C4", "its holes are N1 to N")])
def test_an_edit_of_a_hole_that_is_not_there_names_those_that_are(made, tmp_path, hole, words):
    file = tmp_path / "edits.csv"
    file.write_text(f"action,template,hole,seed,depth_mm\nadd,1,{hole},,95\n")
    with pytest.raises(UsageError, match=words):
        read_edits(file, made)


def test_files_agree_and_the_printed_guide_lets_every_needle_through(made, tmp_path):
    folder = write_outputs(made, sphere(), tmp_path / "out", pictures=False, independent_check=False)
    assert check_plan(folder).verdict == "pass"
    solid = template_solid(made, 0, PrintedTemplateOptions()).to_mesh()
    mesh = trimesh.Trimesh(solid.vert_properties[:, :3], solid.tri_verts)
    assert mesh.is_watertight
    assert mesh.body_count == 1
    corners = mesh.triangles
    for needle in made.needles:
        hole, way = np.array(needle.hole_mm), np.array(needle.direction)
        assert not crosses(hole - 40 * way, way, corners)
        # a parallel ray 1.5 mm beside it meets the sleeve's wall: the hole is there and no wider
        side = np.cross(way, [0.0, 0.0, 1.0])
        assert crosses(hole - 40 * way + 1.5 * side / np.linalg.norm(side), way, corners)


def crosses(start, way, triangles):
    """Whether a ray of 90 mm meets one of the triangles (n, 3, 3), by Moeller and Trumbore's formula."""
    one, two = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    across = np.cross(way, two)
    det = (one * across).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        from_corner = start - triangles[:, 0]
        u = (from_corner * across).sum(axis=1) / det
        other = np.cross(from_corner, one)
        v = (other @ way) / det
        t = (two * other).sum(axis=1) / det
        return bool(((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < 90)).any())


def test_chart_and_map_show_the_angles(made):
    rows = chart_rows(made, prepare(sphere(), made.protocol, None).structures)
    assert [row.layer for row in rows] == [None] * len(made.needles)
    # the phantom's skin is a cylinder about z: its normal at an entry is known
    for row, needle in zip(rows, made.needles, strict=True):
        inward = -np.array([needle.skin_mm[0], needle.skin_mm[1], 0.0])
        sine = inward @ np.array(needle.direction) / np.linalg.norm(inward)
        assert row.to_skin_deg == pytest.approx(np.degrees(np.arcsin(sine)), abs=4.0)
    (plate,) = plate_maps(made, rows)
    layout = TemplateLayout.of(made.templates[0])
    for spot, needle in zip(plate.used, made.needles, strict=True):
        (hole, tip) = layout.to_plate([needle.hole_mm, needle.tip_mm])
        way = (tip - hole)[:2] * [1, -1]
        assert np.dot(spot.lean, way) >= 0.999 * np.linalg.norm(spot.lean) * np.linalg.norm(way) - 1e-2
