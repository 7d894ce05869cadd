"""The independent check: a sound plan passes, and each of ten planted faults is caught in a folder that looks whole."""

import copy
import json
import shutil

import numpy as np
import pydicom
import pytest

from brachy.check import CheckReport, check_plan
from brachy.check.clinical import clinical_items
from brachy.check.commission import commission, commissioning_files
from brachy.check.shapes import METRICS, SHAPES, exact
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source
from brachy.dosimetry.tg43 import dose
from brachy.errors import BrachyError
from brachy.geometry.grid import Dose, Grid
from brachy.io.phantom.file import load_phantom
from brachy.optimise import plan
from brachy.output import plan_folder
from brachy.patient.plan import Plan, checksum_of
from brachy.patient.protocol import change
from brachy.patient.uids import identified
from brachy.writing import canonical
from tests.quick_protocol import AXIAL, SEARCH

QUICK = change(AXIAL, search=SEARCH | {"moves": 10_000, "fine_moves": 5_000})


@pytest.fixture(scope="module")
def case():
    return identified(load_phantom("sphere-35mm"))


@pytest.fixture(scope="module")
def made(case):
    return plan(case, QUICK, direction=(0.0, 0.0)).sealed()


@pytest.fixture(scope="module")
def sound(case, made, tmp_path_factory):
    """A plan folder as the program writes it, with a coarse dose to be quick."""
    out = tmp_path_factory.mktemp("sound") / "out"
    return plan_folder.write_outputs(made, case, out, dose=coarse(made), curves={})


def coarse(made: Plan) -> Dose:
    seeds = np.vstack([implant.positions_mm for implant in made.implants()])
    grid = Grid.around(seeds.min(axis=0) - 25, seeds.max(axis=0) + 25, 2.0)
    return dose(grid, made.implants(), formalism=made.evaluation.formalism)


def changed(made: Plan, edit) -> Plan:
    """The plan with its record edited as a faulty program would: consistent, with a right checksum."""
    data = copy.deepcopy(made.model_dump(mode="json"))
    edit(data)
    data["checksum"] = checksum_of(data)
    return Plan.model_validate(data)


def rewritten(case, faulty: Plan, folder, gy: Dose | None = None):
    """Folder of a faulty plan; its dose is that of the faulty plan unless given."""
    return plan_folder.write_outputs(faulty, case, folder / "out", dose=gy or coarse(faulty), curves={})


def failed(report) -> list[str]:
    assert report.verdict == "fail"
    return [item.name for item in report.failures]


def test_a_sound_plan_passes(sound):
    report = check_plan(sound)
    assert report.failures == ()
    assert report.verdict == "pass"
    assert any("D90" in item.name for item in report.checks)


def test_strength_times_1_27(case, made, tmp_path):
    """U taken for mCi and converted once more."""

    def edit(data):
        data["sources"][0]["air_kerma_strength_U"] *= 1.27

    assert any(
        "strength" in name for name in failed(check_plan(rewritten(case, changed(made, edit), tmp_path)))
    )


def test_half_life_60_2(case, made, tmp_path):
    def edit(data):
        data["sources"][0]["half_life_days"] = 60.2

    assert "half-life used" in failed(check_plan(rewritten(case, changed(made, edit), tmp_path)))


def edit_rtplan(folder, edit):
    """A fault of the writer: RTPLAN.dcm alone is changed."""
    content = pydicom.dcmread(folder / "RTPLAN.dcm")
    edit(content)
    content.save_as(folder / "RTPLAN.dcm")


def points(content):
    for setup in content.ApplicationSetupSequence:
        for channel in setup.ChannelSequence:
            yield from channel.BrachyControlPointSequence


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "out")


def test_x_and_y_swapped(folder):
    def edit(content):
        for point in points(content):
            x, y, z = point.ControlPoint3DPosition
            point.ControlPoint3DPosition = [y, x, z]

    edit_rtplan(folder, edit)
    assert "seed positions in the RT Plan" in failed(check_plan(folder))


def test_z_reversed_in_the_dose(folder):
    content = pydicom.dcmread(folder / "RTDOSE.dcm")
    gy = content.pixel_array
    content.PixelData = np.ascontiguousarray(gy[::-1]).tobytes()
    content.ImagePositionPatient[2] += 3.0
    content.save_as(folder / "RTDOSE.dcm")
    assert any(name.startswith("dose,") for name in failed(check_plan(folder)))


def test_a_seed_lost(folder):
    def edit(content):
        del content.ApplicationSetupSequence[0].ChannelSequence[-1]

    edit_rtplan(folder, edit)
    assert "seeds in the RT Plan" in failed(check_plan(folder))


def test_dose_scaling_2_percent(folder):
    content = pydicom.dcmread(folder / "RTDOSE.dcm")
    content.DoseGridScaling = float(content.DoseGridScaling) * 1.02
    content.save_as(folder / "RTDOSE.dcm")
    assert "dose, median ratio" in failed(check_plan(folder))


def test_wrong_capsule_data(case, made, tmp_path):
    def edit(data):
        data["sources"][0]["data"]["capsule"]["diameter_mm"] = 0.5

    names = failed(check_plan(rewritten(case, changed(made, edit), tmp_path)))
    assert any(name.startswith("TG-43 data") for name in names)


def test_6702_for_6711(case, made, tmp_path):
    """The engine read the tables of another seed."""
    wrong = load_source("amersham_6702")
    implants = [
        Implant(wrong, i.positions_mm, i.axes, strength_U=i.strength_U, half_life_days=i.half_life_days)
        for i in made.implants()
    ]
    gy = dose(coarse(made).grid, implants)
    assert "dose, median ratio" in failed(check_plan(rewritten(case, made, tmp_path, gy)))


def test_mci_read_as_contained(case, made, tmp_path):
    """0.741 U instead of 1.270 U per mCi."""

    def edit(data):
        data["sources"][0]["air_kerma_strength_U"] *= 0.741 / 1.27

    names = failed(check_plan(rewritten(case, changed(made, edit), tmp_path)))
    assert any("U per apparent mCi" in name for name in names)
    assert "total activity for the volume" in names


def test_prescription_changed(folder):
    def edit(content):
        for group in content.FractionGroupSequence:
            for setup in group.ReferencedBrachyApplicationSetupSequence:
                setup.BrachyApplicationSetupDose = 145.0

    edit_rtplan(folder, edit)
    assert "prescription in the RT Plan" in failed(check_plan(folder))


def test_a_changed_plan_json_is_told_by_its_checksum(folder):
    data = json.loads((folder / "plan.json").read_text())
    data["targets"][0]["prescription_gy"] = 110.0
    (folder / "plan.json").write_text(canonical(data))
    with pytest.raises(BrachyError, match="checksum"):
        check_plan(folder)


def test_a_missing_file_is_named(folder):
    (folder / "RTDOSE.dcm").unlink()
    with pytest.raises(BrachyError, match=r"RTDOSE\.dcm is missing"):
        check_plan(folder)


def test_a_target_that_moved_breaks_the_distal_rule(folder):
    """Contours 3 mm toward the template: the deepest seeds are too near the edge where the needles leave it."""
    content = pydicom.dcmread(folder / "RTSTRUCT.dcm")
    number = next(r.ROINumber for r in content.StructureSetROISequence if r.ROIName == "GTV")
    for roi in content.ROIContourSequence:
        if roi.ReferencedROINumber == number:
            for contour in roi.ContourSequence:
                points_mm = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
                contour.ContourData = [f"{v:.4f}" for v in (points_mm - [0, 3, 0]).ravel()]
    content.save_as(folder / "RTSTRUCT.dcm")
    names = failed(check_plan(folder))
    assert "rule: seed to distal edge" in names


def test_a_seed_that_moved_along_its_needle_breaks_the_spacing(folder):
    def edit(content):
        channels = content.ApplicationSetupSequence[0].ChannelSequence
        name = channels[0].SourceApplicatorID
        pair = [c for c in channels if c.SourceApplicatorID == name][:2]
        axis = np.array(pair[0].BrachyControlPointSequence[0].ControlPointOrientation)
        for point in pair[1].BrachyControlPointSequence:
            point.ControlPoint3DPosition = [
                f"{v:.4f}" for v in np.array(point.ControlPoint3DPosition) + 2.0 * axis
            ]

    edit_rtplan(folder, edit)
    assert "rule: between seeds" in failed(check_plan(folder))


def test_the_verdict_stands_in_plan_json_and_cannot_be_changed_there(sound, folder):
    made = Plan.load(sound)
    assert made.check.verdict == "pass"
    assert len(made.check.checks) > 30
    data = json.loads((folder / "plan.json").read_text())
    data["check"]["checks"][0]["found"] = "another"
    (folder / "plan.json").write_text(canonical(data))
    with pytest.raises(BrachyError, match="checksum"):
        Plan.load(folder)


def test_an_independent_check_leaves_the_plan_s_checksum(made):
    checked = made.checked(CheckReport.of([]))
    assert checked.sealed().checksum == made.checksum
    assert checked.check.checksum != made.checked(CheckReport(verdict="fail", checks=())).check.checksum


def test_commissioning_with_clinical_data_passes_and_its_files_say_so(shared):
    report = commission(shared / "data")
    assert report.failures == ()
    names = " ".join(item.name for item in report.checks)
    assert all(
        word in names
        for word in ("6711", "G_L", "day-1 implant, Prostate", "Eclipse, PTV", "breast, Heart", "cone")
    )
    files = commissioning_files(report)
    assert json.loads(files["commissioning.json"])["verdict"] == "pass"
    assert all("interseed" in text for text in files.values())
    assert all("research and education" in files[name] for name in ("commissioning.html", "validation.md"))


def test_missing_clinical_data_are_told(tmp_path):
    assert [item.passed for item in clinical_items(tmp_path)] == [False] * 3
    with pytest.raises(BrachyError, match="no folder"):
        list(clinical_items(tmp_path / "none"))


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_answers_are_those_of_the_published_table(shape, shared):
    """data/analytic_dvh.json has the same shapes by their closed forms."""
    names = {
        "sphere": "sphere_linear",
        "cylinder, dose along it": "cylinder_axial_gradient",
        "cylinder, dose across it": "cylinder_transverse_gradient",
        "cone, base at 4 Gy": "cone_axial_base_at_4Gy",
        "cone, apex at 4 Gy": "cone_axial_apex_at_4Gy",
    }
    truth = json.loads((shared / "data" / "analytic_dvh.json").read_text())["cases"][names[shape]]
    assert exact(shape, "volume_cc") == pytest.approx(truth["volume_cc"], rel=1e-5)
    for name in METRICS:
        assert exact(shape, name) == pytest.approx(truth[name.replace("_gy", "_Gy")], abs=2e-4), name
