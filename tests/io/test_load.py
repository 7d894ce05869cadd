"""Any case by what it is, and one line for everything that is none."""

import shutil

import numpy as np
import pytest

from brachy.errors import BrachyError, UsageError
from brachy.io.load import load_case
from tests import scanner
from tests.io.test_volumes import box_mask, ct, write


def refused(path, *parts, kind=UsageError, **options):
    with pytest.raises(kind) as caught:
        load_case(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_dicom_file_folder_and_zip(tmp_path):
    files, structures, _ = scanner.box_case(tmp_path / "case")
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "case")
    first = scanner.content(load_case(structures))
    for path in (files[0], str(files[3]), tmp_path / "case", archive):
        assert scanner.content(load_case(path)) == first


def test_volume_with_masks(tmp_path):
    labels = write(tmp_path / "labels.nrrd", box_mask())
    case = load_case(ct(tmp_path / "ct.nii.gz"), masks={"GTV": f"{labels}:1"})
    assert [s.name for s in case.structures] == ["GTV"]


def test_masks_on_a_dicom_case(tmp_path):
    files, _, _ = scanner.box_case(tmp_path / "case")
    mask = write(tmp_path / "lesion.nrrd", (box_mask() == 1).astype(np.uint8))
    case = load_case(files[0], masks={"Lesion": mask})
    assert [s.name for s in case.structures] == ["GTV", "Lesion"]
    assert "lesion.nrrd" in [entry.name for entry in case.inputs]
    replaced = load_case(files[0], masks={"GTV": mask})
    assert [s.name for s in replaced.structures] == ["GTV"]


def test_phantom_by_name_and_by_file(tmp_path):
    from brachy import resources

    by_name = load_case("sphere-35mm")
    by_file = load_case(resources.find("phantoms", "sphere-35mm"))
    np.testing.assert_array_equal(by_name.ct_hu, by_file.ct_hu)
    assert by_name.inputs == by_file.inputs


def test_a_file_goes_before_a_phantom(tmp_path, monkeypatch):
    scanner.box_case(tmp_path / "sphere-35mm")
    monkeypatch.chdir(tmp_path)
    assert load_case("sphere-35mm").identity.patient_id == "T1"


def test_things_that_are_no_case(tmp_path):
    refused("no-such-thing", "no file, folder or phantom 'no-such-thing'", "sphere-35mm")
    refused(tmp_path / "none.dcm", "none.dcm")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "the folder empty is empty")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "readme.txt").write_text("hello")
    refused(tmp_path / "text", "no DICOM file in text")
    refused(tmp_path / "text" / "readme.txt", "readme.txt is no DICOM file")
    (tmp_path / "zero.dcm").write_bytes(b"")
    refused(tmp_path / "zero.dcm", "zero.dcm is empty")
    (tmp_path / "plan.json").write_text('{"format": "brachy-plan"}')
    refused(tmp_path / "plan.json", "plan.json is JSON")
    volume = ct(tmp_path / "ct.nii.gz")
    shutil.copy(volume, tmp_path / "ct.dat")
    refused(tmp_path / "ct.dat", "by its content, not by its name")
    refused("x" * 5000, "no file, folder or phantom")
    refused("", "no case is named")


def test_a_folder_of_two_series_is_listed(tmp_path):
    scanner.save_all(scanner.ct_slices(description="arterial"), tmp_path / "case" / "1")
    other = scanner.ct_slices(series="1.2.3.4.5", description="portal venous", shape=(4, 10, 12))
    scanner.save_all(other, tmp_path / "case" / "2")
    refused(
        tmp_path / "case",
        "2 CT series in case",
        "'arterial' (6 images, series " + scanner.SERIES,
        "'portal venous' (4 images, series 1.2.3.4.5)",
        "give one .dcm file of the one meant",
    )


def test_nothing_is_said_beside_the_case(shared, capfd):
    """A noisy export (UIDs that pydicom complains about) prints nothing."""
    load_case(shared / "data" / "prostate_postimplant_day1" / "dicom" / "SS001.dcm")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_broken_file_is_one_line(tmp_path):
    files, _, _ = scanner.box_case(tmp_path / "case")
    files[0].write_bytes(files[0].read_bytes()[:300])
    refused(files[0], "CT000.dcm", kind=BrachyError)
