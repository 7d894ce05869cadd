"""`brachy dose` and `brachy dvh` on real files: a clinical system's plan, its dose, its structures."""

import json
from datetime import date

import numpy as np
import pydicom
import pytest

from brachy.errors import BrachyError, UsageError
from brachy.output.recompute import dose_volume_table, ratios, recompute
from tests import scanner


@pytest.fixture
def day1(shared):
    return shared / "data" / "prostate_postimplant_day1"


def test_a_clinical_plan_again(day1, tmp_path):
    """54 seeds of STM1251, 1D: median 1.000 +- 0.001 over 100 Gy beyond 3 mm; 1.000 +- 0.004 over 5 Gy beyond 5 mm."""
    from brachy.io.dicom.read import read_dose, read_plan

    out = tmp_path / "dose.dcm"
    found = recompute(day1 / "dicom" / "PL001.dcm", like=day1 / "dicom" / "DO001.dcm", out=out)
    assert found.summary()["seeds"] == 54
    reference = read_dose(day1 / "dicom" / "DO001.dcm")
    seeds = read_plan(day1 / "dicom" / "PL001.dcm").implants()
    assert np.median(ratios(found.dose, reference, seeds, 100.0, 3.0)) == pytest.approx(1.0, abs=0.001)
    low = ratios(found.dose, reference, seeds, 5.0, 5.0)
    assert np.median(low) == pytest.approx(1.0, abs=0.004)
    assert np.mean(np.abs(low - 1.0) <= 0.007) >= 0.99
    written = pydicom.dcmread(out)
    assert written.PatientID == pydicom.dcmread(day1 / "dicom" / "PL001.dcm").PatientID
    assert "1D" in written.DoseComment
    with pytest.raises(UsageError, match="exists"):
        recompute(day1 / "dicom" / "PL001.dcm", out=out)


def test_metrics_of_a_clinical_dose(day1):
    """D90 and V145 of the prostate as the clinical system printed them (truth.json)."""
    truth = json.loads((day1 / "truth" / "truth.json").read_text())["structures"]["Prostate"]
    table = dose_volume_table(
        day1 / "dicom" / "DO001.dcm",
        day1 / "dicom" / "SS001.dcm",
        {None: 145.0},
        ["D90", "V145Gy_cc", "volume_cc", "V100_pct"],
    )
    found = table.values["Prostate"]
    assert found["volume_cc"] == pytest.approx(truth["TPS_volume_cc"], rel=0.005)
    assert found["D90_gy"] == pytest.approx(truth["TPS_D90_Gy"], abs=0.8)
    assert found["V145Gy_cc"] == pytest.approx(truth["TPS_V145_cc"], abs=0.2)
    assert found["V100_pct"] == pytest.approx(100 * truth["TPS_V145_cc"] / truth["TPS_volume_cc"], abs=0.5)
    assert table.to_csv().splitlines()[0] == "roi,D90_gy,V145Gy_cc,volume_cc,V100_pct"


def test_what_cannot_be_is_refused(day1, shared, tmp_path):
    plan, dose = day1 / "dicom" / "PL001.dcm", day1 / "dicom" / "DO001.dcm"
    with pytest.raises(UsageError, match="exclude each other"):
        recompute(plan, like=dose, spacing_mm=2.0)
    with pytest.raises(UsageError, match="--days"):
        recompute(plan, days=-1.0)
    with pytest.raises(UsageError, match="--grid"):
        recompute(plan, spacing_mm=0.0)
    with pytest.raises(BrachyError, match=r"another patient|frame of reference"):
        recompute(plan, like=shared / "data" / "dvh_eclipse_prostate" / "dicom" / "RTDOSE.dcm")
    with pytest.raises(BrachyError, match="HDR"):
        recompute(shared / "data" / "hdr_plans" / "RP.HDR.dcm")
    with pytest.raises(UsageError, match="metric"):
        dose_volume_table(dose, day1 / "dicom" / "SS001.dcm", {}, ["D-1"])
    with pytest.raises(UsageError, match="no such ROI"):
        dose_volume_table(dose, day1 / "dicom" / "SS001.dcm", {"Liver": 100.0})


# ---- frames of reference and patients --------------------------------------------------------------------------


def flat_dose(path, frame=scanner.FRAME, patient=None):
    """RTDOSE of 50 Gy over the boxes of `scanner.square`."""
    data = scanner.common(scanner.DOSE_CLASS, "RTDOSE", scanner.generate_uid(), frame)
    data.DoseUnits, data.DoseType, data.DoseSummationType = "GY", "PHYSICAL", "PLAN"
    data.DoseGridScaling, data.NumberOfFrames = "0.5", 12
    data.ImagePositionPatient, data.ImageOrientationPatient = ["-20", "28", "-60"], list(scanner.AXIAL)
    data.PixelSpacing, data.GridFrameOffsetVector = ["2", "2"], [2.0 * k for k in range(12)]
    scanner.pixels(data, np.full((12, 10, 12), 100, dtype=np.uint16))
    if patient is not None:
        data.SpecificCharacterSet, data.PatientID = "GB18030", patient
    return scanner.save(data, path)


BOXES = {name: [scanner.square(z) for z in (-47.5, -45.0, -42.5)] for name in ("GTV", "GTV_MR")}


def drawn(path, of_another_frame=(), **changes):
    data = scanner.structure_set(BOXES)
    for roi in data.StructureSetROISequence:
        if roi.ROIName in of_another_frame:
            roi.ReferencedFrameOfReferenceUID = "1.2.3"
    for keyword, value in changes.items():
        setattr(data, keyword, value)
    return scanner.save(data, path)


def test_an_roi_of_another_frame_is_left_out_and_said(tmp_path):
    table = dose_volume_table(
        flat_dose(tmp_path / "RD.dcm"), drawn(tmp_path / "RS.dcm", ["GTV_MR"]), {}, ["mean"]
    )
    assert table.values == {"GTV": {"mean_gy": pytest.approx(50.0)}}
    assert any("GTV_MR" in note and "another frame of reference" in note for note in table.notes)


def test_where_every_roi_is_of_another_frame_all_are_named(tmp_path):
    with pytest.raises(
        BrachyError, match=r"every ROI .*GTV, GTV_MR.* another frame of reference than RD.dcm"
    ):
        dose_volume_table(
            flat_dose(tmp_path / "RD.dcm"), drawn(tmp_path / "RS.dcm", ["GTV", "GTV_MR"]), {}, ["mean"]
        )


def test_a_dose_without_a_frame_is_used_and_said(tmp_path):
    table = dose_volume_table(
        flat_dose(tmp_path / "RD.dcm", frame=""), drawn(tmp_path / "RS.dcm"), {}, ["mean"]
    )
    assert set(table.values) == {"GTV", "GTV_MR"}
    assert any("no frame of reference in RD.dcm" in note for note in table.notes)


def test_a_dose_of_another_patient_is_refused(tmp_path):
    with pytest.raises(BrachyError, match=r"RD.dcm is of patient '病人001' and RS.dcm of 'SYN-7'"):
        dose_volume_table(
            flat_dose(tmp_path / "RD.dcm", patient="病人001"),
            drawn(tmp_path / "RS.dcm", PatientID="SYN-7"),
            {},
        )


def doubted(tmp_path, scaling, own_gy):
    """Notes on a flat dose of 100 x scaling whose file has a DVH of the GTV at `own_gy`."""
    file = flat_dose(tmp_path / "RD.dcm")
    data = pydicom.dcmread(file)
    data.DoseGridScaling = str(scaling)
    curve, named = pydicom.Dataset(), pydicom.Dataset()
    curve.DVHType, curve.DoseUnits, curve.DoseType, curve.DVHVolumeUnits = (
        "CUMULATIVE",
        "GY",
        "PHYSICAL",
        "CM3",
    )
    curve.DVHDoseScaling, curve.DVHNumberOfBins = "1", 3
    curve.DVHData = ["0", "8", str(own_gy), "8", "1", "0"]
    named.DVHROIContributionType, named.ReferencedROINumber = "INCLUDED", 1
    curve.DVHReferencedROISequence = [named]
    data.DVHSequence = [curve]
    data.save_as(file)
    big = {"GTV": [scanner.square(z, (-18.0, 29.0), (0.0, 45.0)) for z in np.arange(-58.0, -40.0, 2.0)]}
    structures = scanner.save(scanner.structure_set(big), tmp_path / "RS.dcm")
    return dose_volume_table(file, structures, {}, ["mean"]).notes


def test_a_dose_that_its_own_dvh_contradicts_is_said(tmp_path):
    """50 Gy in the grid: the curve at 50 Gy agrees, the one at 72.5 Gy (in per cent of 145 Gy) does not."""
    assert not any("own DVH" in note for note in doubted(tmp_path, 0.5, 50))
    (said,) = [note for note in doubted(tmp_path, 0.5, 72.5) if "own DVH" in note]
    assert "GTV" in said
    assert "50.0 Gy" in said


def test_a_mean_dose_beyond_any_implant_is_questioned(tmp_path):
    assert any("in cGy?" in note for note in doubted(tmp_path, 145.0, 14500))
    assert not any("in cGy?" in note for note in doubted(tmp_path, 1.45, 145))


def test_two_rois_of_one_name_have_a_row_each(tmp_path):
    data = scanner.structure_set(BOXES)
    for roi in data.StructureSetROISequence:
        roi.ROIName = "GTV"
    file = scanner.save(data, tmp_path / "RS.dcm")
    table = dose_volume_table(flat_dose(tmp_path / "RD.dcm"), file, {"GTV": 40.0}, ["V100"])
    assert table.values == {f"GTV (ROI {k})": {"V100_pct": pytest.approx(100.0)} for k in (1, 2)}


def one_seed_plan(path, **changes):
    from tests.io.dicom.test_read_plan import plan_set, seed

    data = plan_set([[seed([-12.0, 35.0, -45.0])]], RTPlanDate="20260102", **changes)
    return scanner.save(data, path)


def test_dose_like_takes_frame_patient_and_study_of_that_file(tmp_path):
    """A patient ID in GB18030 is the same patient in both files, and is written as it is."""
    plan = one_seed_plan(
        tmp_path / "RP.dcm", SpecificCharacterSet="GB18030", PatientID="病人001", FrameOfReferenceUID=""
    )
    like = flat_dose(tmp_path / "RD.dcm", patient="病人001")
    found = recompute(plan, like=like, out=tmp_path / "new.dcm")
    written, model = pydicom.dcmread(tmp_path / "new.dcm"), pydicom.dcmread(like)
    assert written.PatientID == model.PatientID == "病人001"
    assert written.StudyInstanceUID == model.StudyInstanceUID
    assert written.FrameOfReferenceUID == model.FrameOfReferenceUID
    assert any("the plan names no frame of reference" in line for line in found.lines)
    drawn(tmp_path / "RS.dcm", SpecificCharacterSet="GB18030", PatientID="病人001")
    assert set(dose_volume_table(tmp_path / "new.dcm", tmp_path / "RS.dcm", {}).values) == {"GTV", "GTV_MR"}


def test_the_day_of_the_implantation_scales_the_dose(tmp_path):
    plan = one_seed_plan(tmp_path / "RP.dcm")
    now = recompute(plan, spacing_mm=10.0).dose.gy
    later = recompute(plan, spacing_mm=10.0, implant_on=date(2026, 3, 2))
    np.testing.assert_allclose(later.dose.gy, now * 2.0 ** (-59 / 59.4), rtol=1e-6)
    assert any("factor 0.502" in line for line in later.lines)
    assert later.summary()["notes"] == list(later.lines)
