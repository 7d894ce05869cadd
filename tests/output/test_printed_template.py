"""The printed template, read back by an independent mesh library and by rays written down here."""

import numpy as np
import pytest
import trimesh

from brachy.errors import BrachyError, UsageError
from brachy.geometry.structures import Structure
from brachy.output.printed_template import write_printed_templates
from brachy.output.template_solid import PrintedTemplateOptions, stl_bytes, template_solid
from tests.small_plan import TILTED, small_case, small_plan

BORE = 1.5  # needle of 1.3 mm and 0.2 mm


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """STL files of the small plan, its needles, and their meshes."""
    folder = tmp_path_factory.mktemp("printed")
    templates = write_printed_templates(
        small_plan(), small_case(), folder / "template.stl", PrintedTemplateOptions()
    )
    return templates, [trimesh.load(template.path) for template in templates]


def crossings(mesh, start, direction):
    """Distances at which a ray from `start` meets the mesh (Moeller & Trumbore, J. Graphics Tools 2, 21, 1997)."""
    corner = mesh.triangles.astype(np.float64)
    one, two = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    p = np.cross(direction, two)
    det = (one * p).sum(axis=1)
    flat = np.abs(det) < 1e-12
    inverse = 1.0 / np.where(flat, 1.0, det)
    away = start - corner[:, 0]
    u = (away * p).sum(axis=1) * inverse
    q = np.cross(away, one)
    v = (q @ direction) * inverse
    t = (two * q).sum(axis=1) * inverse
    return np.sort(t[~flat & (u >= 0) & (v >= 0) & (u + v <= 1)])


def needles_of(template):
    return [needle for needle in small_plan().needles if needle.template == template]


def test_one_file_a_template(printed):
    templates, _ = printed
    assert [template.path.name for template in templates] == ["template-1.stl", "template-2.stl"]


@pytest.mark.parametrize("template", [0, 1])
def test_a_printer_can_print_it(printed, template):
    mesh = printed[1][template]
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 1000
    assert len(mesh.split()) == 1


@pytest.mark.parametrize("template", [0, 1])
def test_one_hole_through_it_a_needle(printed, template):
    # V - E + F = 2 - 2 x (number of through holes)
    assert printed[1][template].euler_number == 2 - 2 * len(needles_of(template))


@pytest.mark.parametrize("template", [0, 1])
def test_every_needle_passes_and_no_wider_one(printed, template):
    mesh = printed[1][template]
    for needle in needles_of(template):
        along = np.array(needle.direction)
        side = np.cross(along, [0.3, -0.5, 0.8])
        side /= np.linalg.norm(side)
        for turn in np.linspace(0, 2 * np.pi, 7, endpoint=False):
            across = np.cos(turn) * side + np.sin(turn) * np.cross(along, side)
            start = np.array(needle.hole_mm) - 60 * along
            assert len(crossings(mesh, start + 0.49 * BORE * across, along)) == 0
            wall = crossings(mesh, start + (0.5 * BORE + 0.75) * across, along) - 60
            # the sleeve's wall: from the outer face to the end of plate and sleeve; a hole's name may stand before
            assert wall[-1] == pytest.approx(15.0, abs=1e-3)
            assert wall[-2] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("template", [0, 1])
def test_axes_are_those_of_the_needles(printed, template):
    mesh = printed[1][template]
    for needle in needles_of(template):
        hole, along = np.array(needle.hole_mm), np.array(needle.direction)
        off = mesh.vertices - hole
        depth = off @ along
        radius = np.linalg.norm(off - depth[:, None] * along, axis=1)
        ring = mesh.vertices[(radius < 0.5 * BORE + 0.05) & (depth > -2)]
        near, far = (ring[np.abs((ring - hole) @ along - d) < 0.01] for d in (0.0, 15.0))
        assert len(near) >= 40
        found = far.mean(axis=0) - near.mean(axis=0)
        assert np.linalg.norm(near.mean(axis=0) - hole) < 0.1
        angle = np.degrees(np.arccos(min(1.0, found @ along / np.linalg.norm(found))))
        assert angle < 0.1


def test_letters_stand_on_the_outer_face_and_can_be_read(printed):
    mesh, first = printed[1][0], small_plan().templates[0]
    out = -np.array(first.direction)
    local = (mesh.triangles_center - np.array(first.origin_mm)) @ np.column_stack(
        [first.column, first.row, out]
    )
    assert ((mesh.vertices - np.array(first.origin_mm)) @ out).max() == pytest.approx(0.8, abs=1e-3)
    raised = (np.abs(local[:, 2] - 0.8) < 1e-3) & (mesh.face_normals @ out > 0.99)
    assert mesh.area_faces[raised].sum() > 30
    # the letter B over column B: its stem is on the left of who stands before the template, and as high as the B
    letter = raised & (np.abs(local[:, 0] - 10) < 3) & (np.abs(local[:, 1] - 29.3) < 3)
    corners = (mesh.triangles[letter].reshape(-1, 3) - np.array(first.origin_mm)) @ np.column_stack(
        [first.column, first.row]
    )
    x, height = corners[:, 0], np.ptp(corners[:, 1])
    assert height == pytest.approx(4.5, abs=0.2)
    assert np.ptp(corners[x < x.min() + 0.01, 1]) == pytest.approx(height)
    assert np.ptp(corners[x > x.max() - 0.01, 1]) < 0.5 * height


def test_the_same_plan_gives_the_same_bytes(printed):
    templates, _ = printed
    assert stl_bytes(template_solid(small_plan(), 0)) == templates[0].path.read_bytes()


def test_the_whole_grid():
    solid = template_solid(small_plan(), 0, PrintedTemplateOptions(whole_grid=True))
    assert solid.genus() == 4 * 3


def test_measures_are_kept():
    options = PrintedTemplateOptions(
        hole_diameter_mm=2.0, thickness_mm=8.0, sleeve_mm=0.0, wall_mm=2.0, standoff_mm=12.0
    )
    plan = small_plan()
    vertices = np.asarray(template_solid(plan, 1, options).to_mesh().vert_properties)
    depth = (vertices - np.array(plan.templates[1].origin_mm)) @ TILTED
    assert depth.max() == pytest.approx(-4.0, abs=1e-3)
    assert depth.min() == pytest.approx(-12.8, abs=1e-3)
    hole = vertices - np.array(needles_of(1)[0].hole_mm)
    radius = np.linalg.norm(hole - (hole @ TILTED)[:, None] * TILTED, axis=1)
    assert radius.min() == pytest.approx(1.0, rel=0.003)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (PrintedTemplateOptions(hole_diameter_mm=1.3), "does not guide a needle of 1.3 mm"),
        (PrintedTemplateOptions(thickness_mm=0.0), "thickness 0 mm"),
        (PrintedTemplateOptions(sleeve_mm=-1.0), "sleeve -1 mm"),
        (PrintedTemplateOptions(standoff_mm=np.nan), "stand-off nan mm"),
    ],
)
def test_measures_that_are_none_are_refused(options, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        write_printed_templates(small_plan(), None, tmp_path / "template.stl", options)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_without_needles_has_no_template(tmp_path):
    with pytest.raises(BrachyError, match="without needles"):
        write_printed_templates(small_plan(needles=()), None, tmp_path / "template.stl")


def test_a_printed_template_that_would_touch_the_skin_says_so(tmp_path):
    plan = small_plan()
    plan = plan.model_copy(update={"templates": plan.templates[:1], "needles": plan.needles[:5]})
    # a flat patient whose skin is 13 mm below the template's plane: plate and sleeves reach 15 mm
    body = Structure(
        "BODY",
        [
            [(-200, -110 + 13, z), (200, -110 + 13, z), (200, 100, z), (-200, 100, z)]
            for z in range(0, 200, 5)
        ],
        role="external",
    )
    (template,) = write_printed_templates(
        plan, None, tmp_path / "t.stl", PrintedTemplateOptions(), structures=[body]
    )
    assert template.notes[:-1] == (
        "template 1: the printed template touches the skin; a stand-off of 3 mm clears it",
    )
    (template,) = write_printed_templates(
        plan, None, tmp_path / "t.stl", PrintedTemplateOptions(standoff_mm=3.0), structures=[body]
    )
    assert template.notes[:-1] == (
        "template 1: the outer face is 3 mm outside the template's plane: add 3 mm to each depth from the template",
    )
    (template,) = write_printed_templates(plan, None, tmp_path / "t.stl", PrintedTemplateOptions())
    assert "no outline of the patient" in template.notes[0]


def test_a_narrow_pitch_has_no_names_beside_its_holes():
    plan = small_plan()
    near = plan.templates[0].model_copy(update={"spacing_mm": 5.0})
    needles = tuple(
        n.model_copy(
            update={
                "hole_mm": tuple(
                    np.array(near.origin_mm) + 0.5 * (np.array(n.hole_mm) - np.array(near.origin_mm))
                )
            }
        )
        for n in plan.needles[:5]
    )
    solid = template_solid(plan.model_copy(update={"templates": (near,), "needles": needles}), 0)
    assert solid.genus() == 5
