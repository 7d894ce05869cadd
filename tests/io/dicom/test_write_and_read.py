"""What is written, read back by this program's own readers: nothing is lost on the way."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from brachy.geometry.grid import Dose
from brachy.io.dicom.read import read_case, read_dose, read_plan, read_structures
from brachy.io.dicom.write import write_dose, write_plan, write_structures
from brachy.io.volumes import read_volume
from brachy.output import plan_folder
from tests.small_plan import dicom_identity, small_case, small_dose, small_plan


def test_plan(tmp_path):
    plan = small_plan()
    made = write_plan(plan, small_case(dicom_identity()), tmp_path / "plan.dcm")
    read = read_plan(tmp_path / "plan.dcm")
    seeds = [(seed, needle) for needle in plan.needles for seed in needle.seeds]
    # channels are written template by template; here that is the order of the needles
    assert np.abs(read.positions_mm - [seed.position_mm for seed, _ in seeds]).max() < 0.01
    assert np.abs(read.axes - [needle.direction for _, needle in seeds]).max() < 1e-6
    assert read.strength_U.tolist() == [plan.sources[seed.source].air_kerma_strength_U for seed, _ in seeds]
    assert [read.sources[i].model for i in read.source_of] == [plan.sources[s.source].model for s, _ in seeds]
    assert {source.half_life_days for source in read.sources} == {59.4}
    assert [(s.name, s.dose_gy) for s in read.setups] == [("GTV", 120.0), ("GTV 2", 145.0)]
    assert read.setup_of.tolist() == [needle.template for _, needle in seeds]
    assert (read.uid, read.structure_set_uid, read.frame_of_reference_uid) == (made, "1.2.3.5", "1.2.3.2")
    assert (read.patient_id, read.approval) == ("P-17", "UNAPPROVED")
    for mine, theirs in zip(plan.implants(), read.implants(), strict=True):
        assert mine.source.name == theirs.source.name
        assert np.abs(mine.positions_mm - theirs.positions_mm).max() < 0.01


@pytest.mark.parametrize("sign", [1, -1])
def test_dose(tmp_path, sign):
    dose = small_dose(np.eye(3) * [1, 1, sign])
    write_dose(dose, small_plan(), small_case(dicom_identity()), tmp_path / "dose.dcm")
    read = read_dose(tmp_path / "dose.dcm")
    assert isinstance(read, Dose)
    places = read.grid.mm_to_index(dose.grid.centres_mm())
    x, y, z = np.rint(places).astype(int).T
    assert np.abs(places - np.stack([x, y, z], axis=1)).max() < 1e-6
    assert np.abs(read.gy[z, y, x] - dose.gy.ravel()).max() <= 1e-6 * dose.gy.max()


def test_structures(tmp_path):
    case = small_case(dicom_identity())
    write_structures(case.structures, case, tmp_path / "s.dcm")
    read = {structure.name: structure for structure in read_structures(tmp_path / "s.dcm")}
    for structure in case.structures[:3]:
        found = read[structure.name]
        assert len(found.contours_mm) == len(structure.contours_mm)
        for ours, theirs in zip(structure.contours_mm, found.contours_mm, strict=True):
            assert np.abs(ours - theirs).max() < 1e-4
        assert found.volume_cc == pytest.approx(structure.volume_cc, rel=1e-4)
    assert (read["BODY"].number, read["BODY"].colour) == (3, (0, 255, 0))
    assert read["GTV"].interpreted_type == "GTV"


@pytest.mark.parametrize("sign", [1, -1])
def test_case(tmp_path, sign):
    case = small_case(direction=np.eye(3) * [1, 1, sign])
    case = replace(case, identity=replace(dicom_identity(), slices=(), is_dicom=False, structure_set_uid=""))
    plan_folder.write_case(case, tmp_path / "case")
    read = read_case(tmp_path / "case")
    assert np.array_equal(read.ct_hu[::sign], case.ct_hu)
    assert np.allclose(np.sort(read.grid.corners_mm(), axis=0), np.sort(case.grid.corners_mm(), axis=0))
    assert [s.name for s in read.structures[:3]] == ["BODY", "GTV", "Rippe löst"]
    for key in (
        "patient_id",
        "patient_name",
        "study_uid",
        "frame_of_reference_uid",
        "ct_series_uid",
        "ct_date",
    ):
        assert getattr(read.identity, key) == getattr(case.identity, key), key
    # any file of it leads to the same case
    assert read_case(tmp_path / "case" / "RTSTRUCT.dcm").identity == read.identity


def test_files_of_one_plan_find_each_other(tmp_path):
    case = small_case()
    out = plan_folder.write_outputs(
        small_plan(), case, tmp_path / "out", structures=case.structures, dose=small_dose(), curves={}
    )
    for name in ("RTPLAN.dcm", "RTDOSE.dcm", "RTSTRUCT.dcm"):
        read = read_case(out / name)
        assert np.array_equal(read.ct_hu, case.ct_hu)
        assert "GTV" in [structure.name for structure in read.structures]


def test_contours_of_a_real_case(shared, tmp_path):
    case = read_case(shared / "data" / "liver_abdomen" / "RTSTRUCT.dcm")
    write_structures(case.structures, case, tmp_path / "s.dcm")
    read = {structure.name: structure for structure in read_structures(tmp_path / "s.dcm")}
    assert read.keys() == {structure.name for structure in case.structures}
    points = 0
    for structure in case.structures:
        for ours, theirs in zip(structure.contours_mm, read[structure.name].contours_mm, strict=True):
            assert np.abs(ours - theirs).max() < 1e-4
            points += len(ours)
    assert points > 10_000
    if shutil.which("dciodvfy"):
        run = subprocess.run(
            ["dciodvfy", "-new", tmp_path / "s.dcm"], capture_output=True, text=True, check=False
        )
        assert [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")] == []


def test_dose_of_a_real_case_to_the_quantum(shared, tmp_path):
    """A clinical system's dose: frames in descending z, a structure set and UIDs with leading zeros."""
    theirs = read_dose(shared / "data" / "prostate_postimplant_day1" / "dicom" / "DO001.dcm")
    write_dose(theirs, None, dicom_identity(), tmp_path / "dose.dcm", plan_instance_uid="1.2.3.4")
    ours = read_dose(tmp_path / "dose.dcm")
    assert np.allclose(ours.grid.origin_mm, theirs.grid.origin_mm)
    assert np.allclose(ours.grid.direction, theirs.grid.direction)
    assert np.abs(ours.gy - theirs.gy).max() <= 1e-9 * theirs.gy.max() + np.spacing(theirs.gy.max())


def test_a_volume_becomes_the_series_it_was_made_from(shared, tmp_path):
    """A NIfTI and the DICOM series of the same CT: independent of each other's geometry."""
    folder = shared / "data" / "liver_abdomen"
    plan_folder.write_case(read_volume(folder / "ct.nii.gz"), tmp_path / "case")
    ours, theirs = read_case(tmp_path / "case"), read_case(folder / "CT")
    assert np.array_equal(ours.ct_hu, theirs.ct_hu)
    assert np.abs(ours.grid.corners_mm() - theirs.grid.corners_mm()).max() < 0.001
