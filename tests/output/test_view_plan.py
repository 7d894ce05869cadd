"""`brachy view`: what it writes, with and without the patient's CT, and what it refuses."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from PIL import Image

from brachy.errors import BrachyError, UsageError
from brachy.output import plan_folder, view_plan
from brachy.output.figures import scene
from brachy.output.printed_template import printed_template_options
from tests.small_plan import dicom_identity, small_case, small_dose, small_plan


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A plan of a case that was not DICOM: its CT is in the folder."""
    made = tmp_path_factory.mktemp("plans") / "out"
    options = {"dose": small_dose(), "curves": {}, "independent_check": False, "pictures": False}
    case = small_case()
    plan_folder.write_outputs(small_plan(), case, made, structures=case.structures, **options)
    return made


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "brachy", "view", *map(str, arguments)],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def test_a_picture_without_a_display(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    said = []
    (written,) = view_plan.view(folder, screenshot=tmp_path / "scene.png", say=said.append)
    assert said == []
    picture = np.asarray(Image.open(written).convert("RGB"), dtype=float)
    assert picture.shape == (1000, 1400, 3)
    assert picture.std() > 10


def test_a_page_and_a_template_from_the_command_line(folder, tmp_path):
    done = run(
        folder, "--html", tmp_path / "scene.html", "--stl", tmp_path / "t.stl", "--guide", "hole=2,all"
    )
    assert done.returncode == 0, done.stderr
    assert {file.name for file in tmp_path.iterdir()} == {"scene.html", "t-1.stl", "t-2.stl"}
    assert 'id="scene-data"' in (tmp_path / "scene.html").read_text()
    mesh = trimesh.load(tmp_path / "t-1.stl")
    assert mesh.is_watertight
    # one hole for each of the 4 x 3 places: each adds one handle, so Euler's number is 2 - 2 x 12
    body = max(mesh.split(), key=lambda part: part.volume)
    assert body.euler_number == 2 - 2 * 12


def run_without_pyvista(*arguments):
    """The same where neither PyVista nor VTK can be imported."""
    words = ["brachy", "view", *map(str, arguments)]
    code = (
        "import sys; sys.modules['pyvista'] = sys.modules['vtk'] = sys.modules['vtkmodules'] = None; "
        f"sys.argv = {words!r}; from brachy.__main__ import main; main()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_page_and_template_need_no_pyvista(folder, tmp_path):
    done = run_without_pyvista(folder, "--html", tmp_path / "scene.html", "--stl", tmp_path / "t.stl")
    assert done.returncode == 0, done.stderr
    assert '"mesh3d"' in (tmp_path / "scene.html").read_text()
    assert trimesh.load(tmp_path / "t-1.stl").is_watertight


def test_a_picture_without_pyvista_is_refused_in_one_line(folder, tmp_path):
    done = run_without_pyvista(folder, "--screenshot", tmp_path / "scene.png")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'brachy-seeds[view]'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_scene_has_an_actor_for_each_thing(folder):
    found = view_plan.load(folder, None, pytest.fail)
    assert found.has_ct
    plotter = scene.scene(found.plan, found.case, structures=found.structures, off_screen=True)
    try:
        assert {"GTV", "BODY", "Rippe löst", "CT", "needles", "seeds", "templates", "100 %"} <= set(
            plotter.actors
        )
        low, high = np.reshape(plotter.actors["needles"].bounds, (3, 2)).T
        ends = np.array([end for n in found.plan.needles for end in (n.hole_mm, n.tip_mm)])
        assert low == pytest.approx(ends.min(axis=0), abs=0.66)
        assert high == pytest.approx(ends.max(axis=0), abs=0.66)
    finally:
        plotter.close()


def test_a_structure_of_any_name_has_its_own_actor_and_box(folder, monkeypatch):
    found = view_plan.load(folder, None, pytest.fail)
    named = replace(found.case.structure("GTV"), name="seeds")
    plotter = scene.scene(found.plan, found.case, structures=(*found.structures, named), off_screen=True)
    try:
        assert {"seeds", "seeds (ROI)"} <= set(plotter.actors)
        shown = [name for name in plotter.actors if name != "names"]
        boxes = []
        monkeypatch.setattr(
            plotter, "add_checkbox_button_widget", lambda turn, **given: boxes.append((turn, given["value"]))
        )
        scene._add_toggles(plotter)
        assert len(boxes) == len(shown)
        # "seeds" is an organ of no known kind and would hide what matters; "Rippe" is bone, which is shown
        hidden = {"50 %", "150 %", "200 %", "seeds (ROI)"}
        for name, (turn, ticked) in zip(shown, boxes, strict=True):
            assert bool(plotter.actors[name].visibility) == ticked == (name not in hidden)
            turn(not ticked)
            assert bool(plotter.actors[name].visibility) != ticked
    finally:
        plotter.close()


def test_without_the_ct_the_rest_is_shown(tmp_path):
    case = small_case(dicom_identity())  # its CT is elsewhere
    options = {"dose": small_dose(), "curves": {}, "independent_check": False, "pictures": False}
    plan_folder.write_outputs(small_plan(), case, tmp_path / "out", structures=case.structures, **options)
    said = []
    found = view_plan.load(tmp_path / "out", None, said.append)
    assert not found.has_ct
    assert {s.name for s in found.structures if s.role == "target"} == {"GTV"}
    assert any("--case" in sentence for sentence in said)
    (written,) = view_plan.view(tmp_path / "out", screenshot=tmp_path / "a.png", say=said.append)
    assert written.stat().st_size > 10_000


def test_another_patients_case_is_refused(folder, tmp_path):
    with pytest.raises(UsageError, match="not the case of this plan"):
        view_plan.view(folder, case="single-seed-water", page=tmp_path / "scene.html")


def test_no_display_is_said(folder, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("os.name", "posix")
    with pytest.raises(BrachyError, match="no display"):
        view_plan.view(folder)


def test_files_are_not_replaced_unless_forced(folder, tmp_path):
    (tmp_path / "scene.html").write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        view_plan.view(folder, page=tmp_path / "scene.html")
    assert (tmp_path / "scene.html").read_text() == "mine"
    view_plan.view(folder, page=tmp_path / "scene.html", force=True)
    assert (tmp_path / "scene.html").read_text() != "mine"
    with pytest.raises(UsageError, match="make it first"):
        view_plan.view(folder, page=tmp_path / "none" / "scene.html")
    with pytest.raises(UsageError, match=r"\.png"):
        view_plan.view(folder, screenshot=tmp_path / "scene.jpg")


@pytest.mark.parametrize("text", ["hole", "hole=", "hole=x", "hole=nan", "depth=3", "all=1", ""])
def test_measures_that_are_none(text):
    with pytest.raises(UsageError, match="--guide"):
        printed_template_options(text)


@pytest.mark.parametrize(
    ("text", "word"), [("hole=1.2", "1.3 mm"), ("plate=0.1", "thickness"), ("wall=-1", "wall")]
)
def test_measures_are_refused_before_anything_is_planned(tmp_path, text, word):
    done = subprocess.run(
        [sys.executable, "-m", "brachy", "plan", "no such case", "--guide", text, "-o", str(tmp_path / "out")],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 2
    assert word in done.stderr
    assert done.stderr.count("\n") == 1


def test_measures_of_the_template():
    options = printed_template_options("hole=1.7, plate=6,sleeve=0,wall=2,standoff=3,all")
    assert options.hole_diameter_mm == 1.7
    assert (options.thickness_mm, options.sleeve_mm, options.wall_mm) == (6, 0, 2)
    assert (options.standoff_mm, options.whole_grid) == (3, True)
    assert printed_template_options(None) is None
