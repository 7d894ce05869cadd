"""Templates that stand on the skin: closed, off the skin by 0.5 mm, no undercut; by rays written down here."""

import numpy as np
import pytest
import trimesh

from brachy.errors import UsageError
from brachy.geometry.structures import Structure
from brachy.io.phantom.file import load_phantom
from brachy.needles.template import TemplateLayout
from brachy.optimise import plan as make
from brachy.output.printed_template import printed_template_options, write_printed_templates
from brachy.output.template_face import FOOT_MM, OFFSET_MM, WALL_MM
from brachy.output.template_solid import PrintedTemplateOptions
from brachy.patient.anatomy import prepare
from tests.output.test_printed_template import crossings
from tests.quick_protocol import QUICK
from tests.small_plan import circle, small_plan

FACES = ("skin", "feet")


@pytest.fixture(scope="module")
def liver():
    case = prepare(load_phantom("liver-metastasis"), QUICK, ["GTV"])
    return make(load_phantom("liver-metastasis"), QUICK, direction=(320.0, 0.0)), case


@pytest.fixture(scope="module", params=FACES)
def printed(request, liver, tmp_path_factory):
    plan, case = liver
    file = tmp_path_factory.mktemp("face") / f"{request.param}.stl"
    (made,) = write_printed_templates(
        plan, case, file, PrintedTemplateOptions(face=request.param), case.structures
    )
    return request.param, trimesh.load(file), made.notes


def crossings_of(mesh, points, direction):
    """Distances (sorted) at which the ray of each point along a direction meets the mesh."""
    return [crossings(mesh, point, direction) for point in points]


def lines_before(plan, mesh, count=600):
    """Starts of lines along the template's axis over its whole plate, 30 mm before it."""
    layout = TemplateLayout.of(plan.templates[0])
    flat = layout.to_plate(mesh.vertices)[:, :2]
    places = np.random.default_rng(3).uniform(flat.min(axis=0), flat.max(axis=0), (count, 2))
    starts = layout.origin_mm + places @ np.array([layout.column, layout.row]) - 30.0 * layout.direction
    return starts, layout.direction


def test_it_is_one_closed_body(printed):
    _, mesh, _ = printed
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert len(mesh.split()) == 1


def test_every_needle_passes(liver, printed):
    plan, _ = liver
    for needle in plan.needles:
        start = np.array(needle.hole_mm) - 60.0 * np.array(needle.direction)
        assert len(crossings_of(printed[1], [start], np.array(needle.direction))[0]) == 0


def test_it_ends_half_a_millimetre_off_the_skin_and_has_no_undercut(liver, printed):
    """Of each line along the axis: what lies deepest ends before the skin, in one piece from the plate on."""
    face, mesh, _ = printed
    plan, case = liver
    (external,) = case.with_role("external")
    starts, direction = lines_before(plan, mesh)
    found = crossings_of(mesh, starts, direction)
    skin = [piece[0, 0] if len(piece) else np.inf for piece in external.intervals_on_lines(starts, direction)]
    gaps = []
    for start, meets, depth in zip(starts, found, skin, strict=True):
        if len(meets) < 2:
            continue
        assert meets[-1] <= depth + 0.5  # nowhere deeper than half a millimetre under the skin
        if meets[-1] - 30.0 > 16.0:  # beyond plate and sleeves: a wall or a foot
            assert len(meets) in (2, 4)  # one piece; four where a letter's rim lies before it
            gaps.append(external.distance_mm((start + meets[-1] * direction)[None])[0])
    assert len(gaps) > (15 if face == "feet" else 60)
    gaps = np.array(gaps)
    assert np.mean(gaps < 1.0) >= 0.9
    assert np.median(gaps) == pytest.approx(OFFSET_MM, abs=0.2)


def test_hardly_any_of_it_lies_in_the_patient(liver, printed):
    """Volume within the external shrunk by 0.5 mm, from lines of known area: under 0.5 cc."""
    plan, case = liver
    (external,) = case.with_role("external")
    mesh = printed[1]
    starts, direction = lines_before(plan, mesh)
    layout = TemplateLayout.of(plan.templates[0])
    area = float(np.prod(np.ptp(layout.to_plate(mesh.vertices)[:, :2], axis=0)))
    inside = 0.0
    for start, meets in zip(starts, crossings_of(mesh, starts, direction), strict=True):
        if len(meets) >= 2:
            depths = np.arange(max(meets[-1] - 5.0, meets[-2]), meets[-1], 0.1)
            deep = external.signed_distance_mm(start + depths[:, None] * direction) < -0.5
            inside += 0.1 * float(deep.sum())
    assert inside * area / len(starts) < 500.0


def test_wall_and_feet_are_as_thick_as_they_say(liver, printed):
    """Along rays across the template, beyond plate and sleeves: the first piece of the wall, the widest of the feet."""
    face, mesh, notes = printed
    layout = TemplateLayout.of(liver[0].templates[0])
    flat = layout.to_plate(mesh.vertices)[:, :2]
    low, high = flat.min(axis=0), flat.max(axis=0)
    rows = np.linspace(low[1] + 1.0, high[1] - 1.0, 150)
    left = layout.origin_mm + (low[0] - 5.0) * layout.column + 15.6 * layout.direction
    met = crossings_of(mesh, left + rows[:, None] * layout.row, layout.column)
    pieces = [np.diff(each)[::2] for each in met if len(each)]
    if face == "feet":
        assert max(piece.max() for piece in pieces) == pytest.approx(2 * FOOT_MM, rel=0.01)
    else:
        inner = [piece[0] for each, piece in zip(met, pieces, strict=True) if len(each) == 4]
        assert len(inner) > 100
        assert np.median(inner) == pytest.approx(WALL_MM, abs=0.01)
    assert "it stands on" in notes[0]


def test_where_no_skin_lies_it_is_said(tmp_path):
    far = Structure("BODY", [circle((300.0, 300.0, z), 20.0) for z in (90.0, 100.0)], role="external")
    plan, alone = small_plan(), PrintedTemplateOptions()
    plates = write_printed_templates(plan, None, tmp_path / "plate.stl", alone, structures=[far])
    for face, words in (("skin", "no skin lies under the template"), ("feet", "not lie under three feet")):
        made = write_printed_templates(
            plan, None, tmp_path / "t.stl", PrintedTemplateOptions(face=face), structures=[far]
        )
        for each, plate in zip(made, plates, strict=True):
            assert words in each.notes[0]
            assert not any("it stands on" in note for note in each.notes)
            assert each.path.read_bytes() == plate.path.read_bytes()
    with pytest.raises(UsageError, match="--guide face=legs: choose skin, feet, plate"):
        printed_template_options("face=legs")
    assert printed_template_options("face=feet,patient").face == "feet"
