"""A case from any of its files: found by UID, the same from each, refused where it is not clear which is meant."""

import hashlib
import shutil
import zipfile

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.uid import generate_uid

from brachy.errors import BrachyError, UsageError
from brachy.io.dicom.read import read_case
from tests import scanner


def one_line(caught, *parts):
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


# ---- the same case from everywhere -----------------------------------------------------------------------------


def test_liver_from_any_file(shared):
    folder = shared / "data" / "liver_abdomen"
    cases = [
        read_case(folder / given) for given in ("RTSTRUCT.dcm", "CT/CT_0001.dcm", "CT/CT_0112.dcm", "", "CT")
    ]
    first = cases[0]
    assert first.ct_hu.shape == (112, 101, 122)
    assert len(first.structures) == 20
    assert len(first.inputs) == 113
    assert first.assumed == ()
    assert first.identity.patient_id == "TSEX01"
    assert str(first.identity.ct_date) == "2026-01-01"
    for case in cases[1:]:
        assert scanner.content(case) == scanner.content(first)


def test_liver_ct_is_that_of_its_nifti_twin(shared):
    import SimpleITK

    case = read_case(shared / "data" / "liver_abdomen" / "RTSTRUCT.dcm")
    twin = SimpleITK.ReadImage(str(shared / "data" / "liver_abdomen" / "ct.nii.gz"))
    np.testing.assert_array_equal(case.ct_hu, SimpleITK.GetArrayFromImage(twin))
    np.testing.assert_allclose(case.grid.origin_mm, twin.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(case.grid.spacing_mm, twin.GetSpacing(), atol=1e-5)


def test_every_kind_of_file_of_the_day1_export(shared):
    """Plan, dose, structure set, slice, DICOMDIR: UIDs with leading zeros, ROI numbers from 0, Latin-1 names."""
    folder = shared / "data" / "prostate_postimplant_day1" / "dicom"
    first = None
    for name in ("PL001.dcm", "DO001.dcm", "SS001.dcm", "CT001.dcm", "CT036.dcm", "DICOMDIR", "."):
        case = read_case(folder / name)
        if first is None:
            first = case
            assert [s.name for s in case.structures] == ["Prostate", "Urètre", "Rectum"]
            assert [s.number for s in case.structures] == [0, 1, 2]
            assert case.identity.frame_of_reference_uid.endswith("0000129.20180420152003.1.1")
            assert case.ct_hu.min() == -2048
            np.testing.assert_allclose(case.grid.spacing_mm, (0.48828101, 0.48828101, 2.5))
            assert any("Urètre" in note for note in case.assumed)
            assert any("2015-09-16" in note for note in case.assumed)
            # the volumes of the planning system itself
            assert case.structure("Prostate").volume_cc == pytest.approx(41.43, abs=0.05)
            assert case.structure("Urètre").volume_cc == pytest.approx(0.891, abs=0.01)
        else:
            assert scanner.content(case) == scanner.content(first)


def test_inputs_are_the_files_used_and_no_paths(tmp_path):
    files, structures, _ = scanner.box_case(tmp_path / "case")
    (tmp_path / "case" / "notes.txt").write_text("nothing")
    case = read_case(structures)
    expected = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in [*files, structures]}
    assert {entry.name: entry.sha256 for entry in case.inputs} == expected
    assert [entry.sha256 for entry in case.inputs] == sorted(expected.values())


def test_structure_set_beside_above_and_below(tmp_path):
    files, structures, _ = scanner.box_case(tmp_path / "beside")
    expected = scanner.content(read_case(structures))
    # siblings are not searched, but the folder above them may be given
    apart = tmp_path / "apart"
    (apart / "RS").mkdir(parents=True)
    shutil.copytree(files[0].parent, apart / "CT", ignore=shutil.ignore_patterns("RS.dcm"))
    shutil.copy(structures, apart / "RS")
    assert scanner.content(read_case(apart)) == expected
    with pytest.raises(BrachyError, match="give a folder that holds both"):
        read_case(apart / "RS" / "RS.dcm")
    for name, ct, rs in [("above", "CT", "."), ("below", ".", "RS"), ("bare", ".", ".")]:
        folder = tmp_path / name / "case"
        (folder / ct).mkdir(parents=True, exist_ok=True)
        (folder / rs).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, folder / ct / file.name)
        shutil.copy(structures, folder / rs / structures.name)
        for given in (folder / ct / files[2].name, folder / rs / structures.name, folder):
            assert scanner.content(read_case(given)) == expected


def test_links_to_files(tmp_path):
    files, structures, _ = scanner.box_case(tmp_path / "case")
    (tmp_path / "links").mkdir()
    for file in [*files, structures]:
        (tmp_path / "links" / file.name).symlink_to(file)
    second = scanner.structure_set({"PTV": [scanner.square(-45.0)]}, uid=generate_uid())
    scanner.save(second, tmp_path / "links" / "RS2.dcm")
    assert [s.name for s in read_case(tmp_path / "links" / "RS2.dcm").structures] == ["PTV"]
    assert scanner.content(read_case(tmp_path / "links" / "RS.dcm")) == scanner.content(read_case(structures))


def test_files_without_suffix_or_preamble(tmp_path):
    slices = scanner.ct_slices()
    scanner.save_all(slices, tmp_path / "case", names=[f"IM{k}" for k in range(6)])
    rs = scanner.structure_set({"GTV": [scanner.square(-45.0)]}, slices)
    scanner.save(rs, tmp_path / "case" / "bare")
    # a data set alone, as old systems write it
    content = (tmp_path / "case" / "bare").read_bytes()
    meta = 144 + int.from_bytes(content[140:144], "little")
    (tmp_path / "case" / "bare").write_bytes(content[meta:])
    case = read_case(tmp_path / "case" / "IM3")
    assert [s.name for s in case.structures] == ["GTV"]
    assert scanner.content(read_case(tmp_path / "case" / "bare")) == scanner.content(case)


# ---- zip -------------------------------------------------------------------------------------------------------


def zipped(path, files, prefix="export/"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, prefix + file.name)
    return path


def test_zip_is_the_same_case(tmp_path):
    files, structures, _ = scanner.box_case(tmp_path / "case")
    path = zipped(tmp_path / "case.zip", [*files, structures])
    assert scanner.content(read_case(path)) == scanner.content(read_case(structures))


def test_zip_that_climbs_writes_nothing(tmp_path):
    files, structures, _ = scanner.box_case(tmp_path / "case")
    path = zipped(tmp_path / "evil.zip", [*files, structures], prefix="../../escaped/")
    before = sorted(p for p in tmp_path.rglob("*"))
    case = read_case(path)
    assert len(case.structures) == 1
    assert all("/" not in entry.name for entry in case.inputs)
    assert sorted(p for p in tmp_path.rglob("*")) == before
    assert not (tmp_path.parent.parent / "escaped").exists()


def test_zip_without_dicom(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError) as caught:
        read_case(zipped(tmp_path / "case.zip", [tmp_path / "a.txt"]))
    one_line(caught, "no DICOM file in case.zip")


def test_broken_and_locked_zip(tmp_path):
    files, structures, _ = scanner.box_case(tmp_path / "case")
    path = zipped(tmp_path / "case.zip", [*files, structures])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BrachyError) as caught:
        read_case(path)
    one_line(caught, "case.zip is no readable zip")
    locked = bytearray(content)
    # bit 0 of the general purpose flags of each central directory entry: encrypted
    at = locked.find(b"PK\x01\x02")
    while at >= 0:
        locked[at + 8] |= 1
        at = locked.find(b"PK\x01\x02", at + 4)
    path.write_bytes(bytes(locked))
    with pytest.raises(BrachyError) as caught:
        read_case(path)
    one_line(caught)


def test_zip_bomb_is_refused_by_its_declared_size(tmp_path, monkeypatch):
    from brachy.io.dicom import files as room

    files, structures, _ = scanner.box_case(tmp_path / "case")
    path = zipped(tmp_path / "case.zip", [*files, structures])
    monkeypatch.setattr(room, "MAX_ZIP_BYTES", 1000)
    with pytest.raises(BrachyError) as caught:
        read_case(path)
    one_line(caught, "case.zip unpacks to more than")


# ---- which one -------------------------------------------------------------------------------------------------


def test_two_structure_sets_on_one_ct(tmp_path):
    files, structures, slices = scanner.box_case(tmp_path / "case")
    other = scanner.structure_set({"PTV": [scanner.square(-45.0)]}, slices, uid=generate_uid())
    other.StructureSetLabel = "second"
    second = scanner.save(other, tmp_path / "case" / "RS2.dcm")
    for given in (files[0], tmp_path / "case"):
        with pytest.raises(UsageError) as caught:
            read_case(given)
        one_line(caught, "RS.dcm ('made')", "RS2.dcm ('second')", "give the file of the one meant")
    assert [s.name for s in read_case(structures).structures] == ["GTV"]
    assert [s.name for s in read_case(second).structures] == ["PTV"]


def test_a_copy_of_the_structure_set_is_no_second_one(tmp_path):
    files, structures, _ = scanner.box_case(tmp_path / "case")
    shutil.copy(structures, tmp_path / "case" / "copy.dcm")
    assert [s.name for s in read_case(files[0]).structures] == ["GTV"]


def test_of_two_series_the_structure_set_chooses(tmp_path):
    _, structures, _ = scanner.box_case(tmp_path / "case" / "a")
    other = scanner.ct_slices(series=generate_uid(), frame=generate_uid())
    files = scanner.save_all(other, tmp_path / "case" / "b")
    case = read_case(tmp_path / "case")
    assert case.identity.ct_series_uid == scanner.SERIES
    assert scanner.content(case) == scanner.content(read_case(structures))
    # a slice of the other series: a structure set of the same study, but in another frame of reference
    shutil.copy(structures, tmp_path / "case" / "b" / "RS.dcm")
    with pytest.raises(BrachyError) as caught:
        read_case(files[0])
    one_line(caught, "another frame of reference")


def test_another_series_of_the_same_frame_is_told(tmp_path):
    _, structures, _ = scanner.box_case(tmp_path / "case" / "a")
    thin = scanner.save_all(
        scanner.ct_slices(series=generate_uid(), description="thin"), tmp_path / "thin" / "CT"
    )
    shutil.copy(structures, tmp_path / "thin" / "RS.dcm")
    case = read_case(thin[0])
    assert [s.name for s in case.structures] == ["GTV"]
    assert any("drawn on another series of the same frame" in note for note in case.assumed)


@pytest.mark.parametrize("changed", ["CT", "RTSTRUCT"])
def test_ct_of_another_frame_of_reference(changed, tmp_path):
    slices = scanner.ct_slices(frame=generate_uid() if changed == "CT" else scanner.FRAME)
    files = scanner.save_all(slices, tmp_path / "case")
    frame = generate_uid() if changed == "RTSTRUCT" else scanner.FRAME
    rs = scanner.structure_set({"GTV": [scanner.square(-45.0)]}, slices, frame=frame)
    structures = scanner.save(rs, tmp_path / "case" / "RS.dcm")
    for given in (structures, files[0], tmp_path / "case"):
        with pytest.raises(BrachyError) as caught:
            read_case(given)
        one_line(caught, "another frame of reference", "RS.dcm")


def test_structure_set_without_references_is_matched_by_frame(tmp_path):
    slices = scanner.ct_slices()
    files = scanner.save_all(slices, tmp_path / "case")
    rs = scanner.structure_set({"GTV": [scanner.square(-45.0)]}, slices, series="")
    structures = scanner.save(rs, tmp_path / "case" / "RS.dcm")
    assert scanner.content(read_case(files[0])) == scanner.content(read_case(structures))


def test_no_ct(tmp_path):
    (tmp_path / "case").mkdir()
    rs = scanner.structure_set({"GTV": [scanner.square(-45.0)]}, scanner.ct_slices())
    structures = scanner.save(rs, tmp_path / "case" / "RS.dcm")
    for given in (structures, tmp_path / "case"):
        with pytest.raises(BrachyError) as caught:
            read_case(given)
        one_line(caught, "no CT for RS.dcm", scanner.SERIES)


def test_no_ct_for_the_breast(shared):
    with pytest.raises(BrachyError) as caught:
        read_case(shared / "data" / "dvh_breast" / "dicom" / "rtplan.dcm")
    one_line(caught, "no CT for rtss.dcm")


def test_plan_whose_structure_set_is_away(tmp_path):
    _, structures, _ = scanner.box_case(tmp_path / "case")
    plan = scanner.common(scanner.PLAN_CLASS, "RTPLAN")
    reference = scanner.Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = scanner.STRUCTURE_CLASS, "1.2.3.4"
    plan.ReferencedStructureSetSequence = [reference]
    path = scanner.save(plan, tmp_path / "case" / "RP.dcm")
    with pytest.raises(BrachyError) as caught:
        read_case(path)
    one_line(caught, "structure set of RP.dcm, UID 1.2.3.4")
    reference.ReferencedSOPInstanceUID = scanner.STRUCTURES
    scanner.save(plan, path)
    assert scanner.content(read_case(path)) == scanner.content(read_case(structures))


def test_missing_end_slice_is_known_from_the_structure_set(shared, tmp_path):
    folder = tmp_path / "case"
    shutil.copytree(shared / "data" / "liver_abdomen" / "CT", folder / "CT")
    shutil.copy(shared / "data" / "liver_abdomen" / "RTSTRUCT.dcm", folder)
    (folder / "CT" / "CT_0112.dcm").unlink()
    with pytest.raises(BrachyError) as caught:
        read_case(folder / "RTSTRUCT.dcm")
    one_line(caught, "1 of the 112 CT images that RTSTRUCT.dcm refers to is missing", "z = 427.30 mm")


def test_missing_middle_slice_of_the_liver(shared, tmp_path):
    folder = tmp_path / "case"
    shutil.copytree(shared / "data" / "liver_abdomen" / "CT", folder / "CT")
    shutil.copy(shared / "data" / "liver_abdomen" / "RTSTRUCT.dcm", folder)
    (folder / "CT" / "CT_0050.dcm").unlink()
    with pytest.raises(BrachyError) as caught:
        read_case(folder / "CT" / "CT_0001.dcm")
    one_line(caught, "a CT slice is missing after the one at z = 238.30 mm")


def test_two_patients(tmp_path):
    _, structures, _ = scanner.box_case(tmp_path / "case")
    data = dcmread(structures)
    data.PatientID = "OTHER"
    data.save_as(structures)
    with pytest.raises(BrachyError) as caught:
        read_case(structures)
    one_line(caught, "'T1'", "'OTHER'")


def test_other_modalities(tmp_path):
    slices = scanner.ct_slices()
    for one in slices:
        one.Modality = "MR"
    files = scanner.save_all(slices, tmp_path / "case")
    with pytest.raises(UsageError) as caught:
        read_case(files[0])
    one_line(caught, "CT000.dcm is MR")
    with pytest.raises(BrachyError) as caught:
        read_case(tmp_path / "case")
    one_line(caught, "no CT in case: it holds MR alone")


def test_broken_file_beside_is_mentioned_where_something_is_missing(tmp_path):
    (tmp_path / "case").mkdir()
    rs = scanner.structure_set({"GTV": [scanner.square(-45.0)]}, scanner.ct_slices())
    structures = scanner.save(rs, tmp_path / "case" / "RS.dcm")
    (tmp_path / "case" / "CT.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    with pytest.raises(BrachyError) as caught:
        read_case(structures)
    one_line(caught, "no CT for RS.dcm")


@pytest.mark.parametrize(("day", "said"), [("20260104", True), ("20260203", False), ("20260301", False)])
def test_contours_older_than_their_ct_are_said(day, said, tmp_path):
    """The CT is of 3 February 2026."""
    _, file, slices = scanner.box_case(tmp_path)
    data = scanner.structure_set({"GTV": [scanner.square(z) for z in (-47.5, -45.0, -42.5)]}, slices)
    data.StructureSetDate = day
    scanner.save(data, file)
    assert any("30 days before its CT" in note for note in read_case(file).assumed) == said


def test_two_dates_of_birth_are_said_without_them(tmp_path):
    _, file, slices = scanner.box_case(tmp_path)
    data = scanner.structure_set({"GTV": [scanner.square(z) for z in (-47.5, -45.0, -42.5)]}, slices)
    for k, one in enumerate(slices):
        one.PatientBirthDate = "19500101"
        scanner.save(one, tmp_path / f"CT{k:03d}.dcm")
    for born, said in (("", False), ("19500101", False), ("19600101", True)):
        data.PatientBirthDate = born
        scanner.save(data, file)
        notes = [note for note in read_case(file).assumed if "dates of birth" in note]
        assert bool(notes) == said
        assert not any("19600101" in note for note in notes)


def test_a_case_whose_uids_are_all_blank_is_one_case_and_says_so(tmp_path):
    slices = scanner.ct_slices()
    contours = scanner.structure_set({"GTV": [scanner.square(z) for z in (-47.5, -45.0, -42.5)]}, slices)

    def blank(data):
        for element in data.iterall():
            if element.VR == "UI" and element.keyword not in ("SOPClassUID", "ReferencedSOPClassUID"):
                element.value = ""
        return data

    for k, data in enumerate([*slices, contours]):
        path = scanner.save(data, tmp_path / f"{k}.dcm")
        data.preamble = bytes(128)
        dcmwrite(path, blank(data), enforce_file_format=False)
    case = read_case(tmp_path)
    assert [structure.name for structure in case.structures] == ["GTV"]
    assert any(
        "name no UID at all: nothing proves that they belong together" in note for note in case.assumed
    )
