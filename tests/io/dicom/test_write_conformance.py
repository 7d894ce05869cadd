"""What is written against the standard: its module tables, dicom3tools' dciodvfy, DCMTK's drtdump."""

import importlib.util
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pydicom
import pytest

from brachy.io.dicom.write import write_ct, write_dose, write_plan, write_structures
from tests.small_plan import dicom_identity, small_case, small_dose, small_plan

# Modules of each IOD (PS3.3 A.20, A.18, A.19, A.3): the mandatory ones, and the others that these files have.
MODULES = {
    "RTPLAN": (
        "rt-plan",
        {
            "frame-of-reference",
            "rt-prescription",
            "rt-fraction-scheme",
            "rt-brachy-application-setups",
            "approval",
        },
    ),
    "RTDOSE": ("rt-dose", {"general-image", "image-plane", "image-pixel", "multi-frame"}),
    "RTSTRUCT": ("rt-structure-set", {"frame-of-reference", "approval"}),
    "CT": ("ct-image", set()),
}


@pytest.fixture(scope="module", params=["volume", "dicom"])
def written(request, tmp_path_factory):
    """One file of each kind, of a case that was DICOM and of one that was not."""
    folder = tmp_path_factory.mktemp(request.param)
    case = small_case(dicom_identity() if request.param == "dicom" else None)
    plan = small_plan()
    (folder / "ct").mkdir()
    made = write_plan(plan, case, folder / "RTPLAN.dcm", case.structures)
    write_dose(small_dose(), plan, case, folder / "RTDOSE.dcm", plan_instance_uid=made)
    # dciodvfy aborts on 32 bits
    write_dose(small_dose(), plan, case, folder / "RTDOSE16.dcm", plan_instance_uid=made, bits=16)
    write_structures(case.structures, case, folder / "RTSTRUCT.dcm")
    write_ct(case, folder / "ct")
    shutil.copy(folder / "ct" / "CT0005.dcm", folder / "CT.dcm")
    return folder


@cache
def tables():
    spec = importlib.util.find_spec("highdicom")
    if spec is None or spec.origin is None:
        pytest.skip("highdicom with its module tables is not installed")
    standard = Path(spec.origin).parent / "_standard"
    return (
        json.loads((standard / "iod_module_map.json").read_text()),
        json.loads((standard / "module_attribute_map.json").read_text()),
    )


def reached(dataset, path):
    """Every dataset at the end of a path of sequences."""
    found = [dataset]
    for keyword in path:
        found = [item for each in found if keyword in each for item in each[keyword].value or []]
    return found


def problems(dataset, kind):
    """Type 1 attributes that are absent or empty, Type 2 that are absent, attributes of no module of the IOD."""
    iods, attributes = tables()
    iod, also = MODULES[kind]
    wanted = [m["key"] for m in iods[iod] if m["usage"] == "M" or m["key"] in also]
    assert also <= set(wanted)
    found, known = [], set()
    for module in wanted:
        for row in attributes[module]:
            keyword, path = row["keyword"], tuple(row["path"])
            known.add((*path, keyword))
            for item in reached(dataset, path):
                where = "/".join((*path, keyword))
                if row["type"] in {"1", "2"} and keyword not in item:
                    found.append(f"{where} is absent (Type {row['type']})")
                elif row["type"] in {"1", "1C"} and keyword in item and item[keyword].is_empty:
                    found.append(f"{where} is empty (Type {row['type']})")
    stack = [((), dataset)]
    while stack:
        path, item = stack.pop()
        for element in item:
            if (*path, element.keyword) not in known:
                found.append(f"{'/'.join((*path, element.keyword))} is of no module")
            if element.VR == "SQ":
                stack += [((*path, element.keyword), each) for each in element.value]
    return found


@pytest.mark.parametrize("kind", list(MODULES))
def test_has_every_attribute_the_module_tables_ask_for(written, kind):
    assert problems(pydicom.dcmread(written / f"{kind}.dcm"), kind) == []


def test_module_tables_find_what_is_missing(written):
    plan = pydicom.dcmread(written / "RTPLAN.dcm")
    del plan.ApplicationSetupSequence[1].ChannelSequence[1].ChannelTotalTime
    plan.SourceSequence[0].SourceIsotopeName = ""
    del plan.RTPlanTime
    plan.DoseComment = "not here"
    assert problems(plan, "RTPLAN") == [
        "RTPlanTime is absent (Type 2)",
        "SourceSequence/SourceIsotopeName is empty (Type 1)",
        "ApplicationSetupSequence/ChannelSequence/ChannelTotalTime is absent (Type 1)",
        "DoseComment is of no module",
    ]


@pytest.mark.parametrize("name", ["RTPLAN", "RTDOSE16", "RTSTRUCT", "CT"])
def test_dciodvfy_finds_no_error(written, name):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    run = subprocess.run(
        ["dciodvfy", "-new", written / f"{name}.dcm"], capture_output=True, text=True, check=False
    )
    report = run.stdout + run.stderr
    assert {"RTPLAN": "RTPlan", "RTDOSE16": "RTDose", "RTSTRUCT": "RTStructureSet", "CT": "CTImage"}[
        name
    ] in report
    assert [line for line in report.splitlines() if line.startswith("Error")] == []


@pytest.mark.parametrize("kind", ["RTPLAN", "RTDOSE", "RTSTRUCT"])
def test_dcmtk_reads_it(written, kind):
    if shutil.which("drtdump") is None:
        pytest.skip("drtdump is not installed (Debian: dcmtk)")
    run = subprocess.run(["drtdump", written / f"{kind}.dcm"], capture_output=True, check=False)
    report = (run.stdout + run.stderr).decode("utf-8", "replace")
    assert run.returncode == 0
    assert [line for line in report.splitlines() if line.startswith(("E:", "W:", "F:"))] == []


@pytest.mark.parametrize("kind", ["RTPLAN", "RTDOSE", "RTSTRUCT", "CT"])
def test_shares_patient_study_and_frame(written, kind):
    ct, found = (pydicom.dcmread(written / f"{name}.dcm") for name in ("CT", kind))
    for keyword in (
        "PatientID",
        "PatientName",
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "SpecificCharacterSet",
    ):
        assert found[keyword].value == ct[keyword].value, keyword
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert (found.Manufacturer, found.ManufacturerModelName) == ("brachy", "brachy")
    assert found.SoftwareVersions


def test_references_resolve(written):
    plan, dose, structures = (pydicom.dcmread(written / f"{k}.dcm") for k in ("RTPLAN", "RTDOSE", "RTSTRUCT"))
    images = {
        pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in (written / "ct").iterdir()
    }
    assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structures.SOPInstanceUID
    frame = structures.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert {item.ReferencedSOPInstanceUID for item in series.ContourImageSequence} == images
    numbers = {roi.ROINumber: roi.ROIName for roi in structures.StructureSetROISequence}
    assert numbers[plan.DoseReferenceSequence[0].ReferencedROINumber] == "GTV"
    assert len({plan.SeriesInstanceUID, dose.SeriesInstanceUID, structures.SeriesInstanceUID}) == 3
