"""`brachy dose` and `brachy dvh` on real files: a clinical system's plan, its dose, its structures."""

import json

import numpy as np
import pydicom
import pytest

from brachy.errors import BrachyError, UsageError
from brachy.output.recompute import dose_volume_table, ratios, recompute


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
