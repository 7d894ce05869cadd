"""What is written of needles with directions of their own: sleeves, tables and views, against rays and closed forms."""

import csv
import io

import numpy as np
import pytest
import trimesh

from brachy.geometry.structures import Structure
from brachy.output import csv_tables
from brachy.output.figures import axes as figure_axes
from brachy.output.figures import cuts
from brachy.output.printed_template import write_printed_templates
from brachy.output.report.picture import template_pictures
from brachy.output.template_solid import PrintedTemplateOptions, template_solid
from tests.needle_cases import box, to_box
from tests.output.test_printed_template import crossings
from tests.small_plan import needle, small_case, small_plan

BORE, WALL, PLATE, SLEEVE = 1.5, 1.5, 5.0, 10.0
TILTS = ((1, 1, 0, 0), (1, 2, 12, 200), (3, 1, 29, 10), (0, 3, 25, 150), (3, 3, 20, 60))
"""Column, row, degrees off the template's axis, and degrees round it of each needle."""


def direction_of(tilt, turn):
    tilt, turn = np.radians([tilt, turn])
    return np.array([np.sin(tilt) * np.cos(turn), np.cos(tilt), np.sin(tilt) * np.sin(turn)])


def angled_plan():
    """The small plan's first template with needles at 0 to 29 degrees to its axis, which is y."""
    plan = small_plan()
    plate = np.array(plan.templates[0].origin_mm)
    needles = [
        needle(
            f"{'ABCD'[c]}{r}", 0, plate + [10.0 * c, 0, 10.0 * (r - 1)], direction_of(tilt, turn), 111.25,
            (2.25, 7.25), (0, 0),
        )
        for c, r, tilt, turn in TILTS
    ]  # fmt: skip
    template = plan.templates[0].model_copy(update={"cone_deg": 30.0})
    return plan.model_copy(update={"needles": tuple(needles), "templates": (template,)})


def mesh_of(options):
    solid = template_solid(angled_plan(), 0, options)
    mesh = solid.to_mesh()
    return trimesh.Trimesh(np.asarray(mesh.vert_properties)[:, :3], np.asarray(mesh.tri_verts), process=False)


@pytest.fixture(scope="module", params=[0.0, 12.0], ids=["on the plane", "12 mm outside"])
def printed(request):
    return request.param, mesh_of(PrintedTemplateOptions(standoff_mm=request.param))


def test_a_template_of_angled_sleeves_can_be_printed(printed):
    _, mesh = printed
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert len(mesh.split()) == 1
    assert mesh.euler_number == 2 - 2 * len(TILTS)  # one through hole a needle


def test_every_needle_passes_along_its_own_axis_and_no_wider_one(printed):
    standoff, mesh = printed
    for each in angled_plan().needles:
        along = np.array(each.direction)
        cosine = along[1]
        side = np.cross(along, [0.3, -0.5, 0.8])
        side /= np.linalg.norm(side)
        start = np.array(each.hole_mm) - 80 * along
        end = (PLATE - standoff) / cosine + SLEEVE
        for turn in np.linspace(0, 2 * np.pi, 7, endpoint=False):
            across = np.cos(turn) * side + np.sin(turn) * np.cross(along, side)
            assert len(crossings(mesh, start + 0.49 * BORE * across, along)) == 0
            wall = crossings(mesh, start + (0.5 * BORE + 0.5 * WALL) * across, along) - 80
            assert wall[-1] == pytest.approx(end, abs=1e-3)  # the sleeve ends square to its axis
            # and there is no gap between sleeve and plate
            assert wall[-2] == pytest.approx(-standoff / cosine, abs=1.0)


def test_axes_of_the_sleeves_are_those_of_the_needles(printed):
    standoff, mesh = printed
    for each in angled_plan().needles:
        hole, along = np.array(each.hole_mm), np.array(each.direction)
        off = mesh.vertices - hole
        depth = off @ along
        radius = np.linalg.norm(off - depth[:, None] * along, axis=1)
        ring = mesh.vertices[radius < 0.5 * BORE + 0.05]
        end = (PLATE - standoff) / along[1] + SLEEVE
        near = ring[np.abs(ring[:, 1] - (hole[1] - standoff)) < 1e-3]
        far = ring[np.abs((ring - hole) @ along - end) < 1e-3]
        assert min(len(near), len(far)) >= 40
        middle = hole - standoff / along[1] * along
        assert np.linalg.norm(near.mean(axis=0) - middle) < 0.1
        assert np.linalg.norm(far.mean(axis=0) - hole - end * along) < 0.1
        found = far.mean(axis=0) - near.mean(axis=0)
        assert np.degrees(np.arccos(min(1.0, found @ along / np.linalg.norm(found)))) < 0.1


def test_a_thin_plate_keeps_its_outer_face_flat():
    mesh = mesh_of(PrintedTemplateOptions(thickness_mm=1.0, wall_mm=4.0))
    letters = 0.8
    assert mesh.vertices[:, 1].min() == pytest.approx(-110.0 - letters, abs=1e-3)
    raised = mesh.vertices[(mesh.vertices[:, 1] < -110.01)]
    assert raised[:, 1] == pytest.approx(np.full(len(raised), -110.8), abs=1e-3)


def test_the_plate_holds_the_sleeves_where_they_leave_it():
    options = PrintedTemplateOptions(standoff_mm=12.0)
    mesh = mesh_of(options)
    face = mesh.vertices[np.abs(mesh.vertices[:, 1] + 122.0) < 1e-3]
    for each in angled_plan().needles:
        along = np.array(each.direction)
        place = np.array(each.hole_mm) - 12.0 / along[1] * along
        assert (face[:, [0, 2]].min(axis=0) < place[[0, 2]] - 10).all()
        assert (face[:, [0, 2]].max(axis=0) > place[[0, 2]] + 10).all()


def test_notes_on_depth_and_skin_follow_each_needle(tmp_path):
    plan = angled_plan()
    body = Structure(
        "BODY",
        [[(-200, -97, z), (200, -97, z), (200, 100, z), (-200, 100, z)] for z in range(0, 200, 5)],
        role="external",
    )
    (made,) = write_printed_templates(
        plan, None, tmp_path / "t.stl", PrintedTemplateOptions(), structures=[body]
    )
    # the skin is 13 mm below the template's plane; a sleeve's end, a disc across its axis, reaches deepest at its rim
    tilts = np.radians([tilt for _, _, tilt, _ in TILTS])
    deepest = (PLATE + SLEEVE * np.cos(tilts) + (0.5 * BORE + WALL) * np.sin(tilts)).max()
    needed = np.ceil(deepest + 1.0 - 13.0)
    assert needed == 4  # one more than for straight sleeves
    *notes, size = made.notes
    assert notes == [
        f"template 1: the printed template touches the skin; a stand-off of {needed:.0f} mm clears it"
    ]
    mesh = trimesh.load(tmp_path / "t.stl")
    assert " x ".join(f"{length:.0f}" for length in mesh.extents) in size
    volume = mesh.volume / 1000
    assert f"{volume:.0f} cm3, and if solid {1.2 * volume:.0f} g at 1.2 g/cm3" in size
    options = PrintedTemplateOptions(standoff_mm=10.0)
    (made,) = write_printed_templates(plan, None, tmp_path / "t.stl", options, [body])
    most = 10.0 / np.cos(np.radians(29))
    assert f"add 10.0 to {most:.1f} (stand-off / cosine" in made.notes[0]


def test_the_table_of_needles_has_each_ones_own_angles_depths_and_obstacle():
    plan = angled_plan()
    low, high = (-60, -40, 100), (60, -30, 110)
    rib = box("Ribs", low, high, "bone", slices=2.5)
    rows = {row["hole"]: row for row in csv.DictReader(io.StringIO(csv_tables.needles_csv(plan, [rib])))}
    for each in plan.needles:
        row = rows[each.hole]
        azimuth, tilt = np.radians([float(row["azimuth_deg"]), float(row["tilt_deg"])])
        found = [-np.sin(azimuth) * np.cos(tilt), np.cos(azimuth) * np.cos(tilt), np.sin(tilt)]
        assert found == pytest.approx(each.direction, abs=2e-4)  # angles are written to 0.01 degrees
        hole, tip, skin = (np.array(p) for p in (each.hole_mm, each.tip_mm, each.skin_mm))
        entry = [float(row[f"entry_{k}_mm"]) for k in "xyz"]
        assert float(row["depth_from_template_mm"]) == pytest.approx(np.linalg.norm(tip - hole), abs=1e-3)
        assert float(row["depth_from_skin_mm"]) == pytest.approx(np.linalg.norm(tip - skin), abs=1e-3)
        assert entry == pytest.approx(skin, abs=1e-3)
        depths = np.arange(0.0, each.depth_mm, 0.01)
        gaps = to_box(hole + depths[:, None] * np.array(each.direction), low, high) - 0.65
        assert float(row["nearest_mm"]) == pytest.approx(gaps.min(), abs=5e-3)
        at = depths[gaps < gaps.min() + 0.01]
        assert at.min() - 0.5 <= float(row["nearest_depth_mm"]) <= at.max() + 0.5


def test_views_along_the_axis_show_each_needle_where_it_crosses_the_plane():
    plan, case = angled_plan(), small_case()
    origin = np.array(plan.templates[0].origin_mm)
    drawn = figure_axes.plot_template(plan, case, depth_mm=80.0)
    texts = {(round(t.get_position()[0], 3), round(t.get_position()[1], 3)) for t in drawn.texts}
    cut = cuts.template_cut(plan, 0, 80.0)
    picture = next(p for p in template_pictures(plan, case, 0, list(case.structures)) if p.loaded)
    assert len(picture.loaded) == len(TILTS)
    for each in plan.needles:
        along = np.array(each.direction)
        place = np.array(each.hole_mm) + 80.0 / along[1] * along
        assert place[1] == pytest.approx(-30.0)
        assert cuts.crossing(cut, each) == pytest.approx([place[0], -place[2]], abs=1e-6)
        wanted = (round(float(place[0] - origin[0]), 3), round(float(place[2] - origin[2]), 3))
        assert wanted in texts
    assert "along the template's axis" in drawn.get_title()
