"""RT Structure Set and CT series, read back by pydicom and SimpleITK."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
import SimpleITK

from brachy.errors import BrachyError
from brachy.geometry.structures import Structure
from brachy.io.dicom.write import write_ct, write_structures
from brachy.patient.case import Case, Identity
from tests.small_plan import circle, dicom_identity, small_case


def written(case, path, structures=None):
    write_structures(case.structures if structures is None else structures, case, path)
    return pydicom.dcmread(path)


def contours(read):
    names = {int(roi.ROINumber): roi.ROIName for roi in read.StructureSetROISequence}
    return {
        names[int(item.ReferencedROINumber)]: list(item.get("ContourSequence", []))
        for item in read.ROIContourSequence
    }


def test_every_point_to_a_thousandth(tmp_path):
    case = small_case(dicom_identity())
    read = contours(written(case, tmp_path / "s.dcm"))
    assert list(read) == ["BODY", "GTV", "Rippe löst", "nothing drawn"]
    for structure in case.structures:
        assert len(read[structure.name]) == len(structure.contours_mm)
        for item, points in zip(read[structure.name], structure.contours_mm, strict=True):
            assert item.ContourGeometricType == "CLOSED_PLANAR"
            assert int(item.NumberOfContourPoints) == len(points)
            found = np.array([float(x) for x in item.ContourData]).reshape(-1, 3)
            assert np.abs(found - points).max() < 0.0001
            assert max(len(str(x.original_string).strip()) for x in item.ContourData) <= 16


@pytest.mark.parametrize("sign", [1, -1])
def test_a_contour_refers_to_the_slice_it_lies_on(tmp_path, sign):
    direction = np.eye(3) * [1, 1, sign]
    case = small_case(direction=direction)
    write_structures(case.structures, case, tmp_path / "s.dcm")
    (tmp_path / "ct").mkdir()
    write_ct(case, tmp_path / "ct")
    heights = {}
    for path in (tmp_path / "ct").iterdir():
        image = pydicom.dcmread(path, stop_before_pixels=True)
        heights[image.SOPInstanceUID] = float(image.ImagePositionPatient[2])
    read = contours(pydicom.dcmread(tmp_path / "s.dcm"))
    for items in read.values():
        for item in items:
            (image,) = item.ContourImageSequence
            assert heights[image.ReferencedSOPInstanceUID] == float(item.ContourData[2])


def test_a_contour_off_the_slices(tmp_path):
    case = small_case(dicom_identity())
    tilted = circle((0, 0, 110), 10) @ np.array([[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]])
    near = Structure("near", (circle((0, 0, 101.4), 5), circle((0, 0, 90.0), 5)))  # of slice 0, below all
    across = Structure("across", (tilted,))
    read = contours(written(case, tmp_path / "s.dcm", (near, across)))
    assert read["near"][0].ContourImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.1"
    assert "ContourImageSequence" not in read["near"][1]
    assert "ContourImageSequence" not in read["across"][0]


def test_closed_once_and_points(tmp_path):
    ring = circle((0, 0, 103), 5, 8)
    shapes = (np.vstack([ring, ring[:1]]), ring[:1], ring[:2])
    items = contours(written(small_case(), tmp_path / "s.dcm", (Structure("x", shapes),)))["x"]
    assert [int(i.NumberOfContourPoints) for i in items] == [8, 1, 2]
    assert [i.ContourGeometricType for i in items] == ["CLOSED_PLANAR", "POINT", "OPEN_PLANAR"]


def test_a_contour_of_ten_thousand_points(tmp_path):
    ring = circle((0, 0, 103), 100.1234, 10_000)
    (item,) = contours(written(small_case(), tmp_path / "s.dcm", (Structure("fine", (ring,)),)))["fine"]
    found = np.array(item.ContourData, dtype=float).reshape(-1, 3)
    assert np.abs(found - ring).max() < 0.0001


def test_numbers_types_and_colours(tmp_path):
    case = small_case(dicom_identity())
    read = written(case, tmp_path / "s.dcm")
    assert [int(roi.ROINumber) for roi in read.StructureSetROISequence] == [3, 1, 2, 4]
    types = [item.RTROIInterpretedType for item in read.RTROIObservationsSequence]
    assert types == ["EXTERNAL", "GTV", "ORGAN", "ORGAN"]
    assert list(read.ROIContourSequence[0].ROIDisplayColor) == [0, 255, 0]
    assert all(len(item.ROIDisplayColor) == 3 for item in read.ROIContourSequence)
    assert read.PredecessorStructureSetSequence[0].ReferencedSOPInstanceUID == "1.2.3.5"
    assert read.ApprovalStatus == "UNAPPROVED"


def test_an_expanded_target_is_a_roi_like_any_other(tmp_path):
    case = small_case(dicom_identity())
    planned = Structure("GTV + 5 mm", case.structures[1].contours_mm, role="target", interpreted_type="PTV")
    read = written(case, tmp_path / "s.dcm", (*case.structures, planned))
    assert read.StructureSetROISequence[-1].ROIName == "GTV + 5 mm"
    assert read.RTROIObservationsSequence[-1].RTROIInterpretedType == "PTV"


def test_names_fit(tmp_path):
    ring = (circle((0, 0, 103), 5),)
    names = ("a\\b\nc", "x" * 90, "")
    read = written(small_case(), tmp_path / "s.dcm", tuple(Structure(name, ring) for name in names))
    assert [roi.ROIName for roi in read.StructureSetROISequence] == ["a/b c", "x" * 64, ""]


def test_same_bytes_again(tmp_path):
    case = small_case()
    first = written(case, tmp_path / "a")
    written(case, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    moved = tuple(replace(s, contours_mm=tuple(c + 0.01 for c in s.contours_mm)) for s in case.structures)
    assert written(case, tmp_path / "c", moved).SOPInstanceUID != first.SOPInstanceUID


def test_nothing_to_write_is_refused(tmp_path):
    with pytest.raises(BrachyError, match="needs a structure"):
        write_structures((), small_case(), tmp_path / "s.dcm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_simpleitk_reads_the_ct_series(tmp_path, sign):
    case = small_case(direction=np.eye(3) * [1, 1, sign])
    series = write_ct(case, tmp_path)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path), series)
    assert len(names) == 12
    image = SimpleITK.ReadImage(names)
    read = SimpleITK.GetArrayFromImage(image)[::sign]
    assert np.array_equal(read, case.ct_hu)
    assert image.GetSpacing() == pytest.approx((2.0, 2.5, 3.0))
    lowest = case.grid.index_to_mm([0, 0, 0 if sign == 1 else 11])
    assert image.GetOrigin() == pytest.approx(tuple(lowest))


def test_ct_of_an_oblique_grid_with_fractions(tmp_path):
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    case = small_case(direction=turn)
    case = Case(
        case.ct_hu.astype(np.float32) + 0.3, case.grid, case.structures, Identity(patient_position="HFS")
    )
    write_ct(case, tmp_path)
    files = [pydicom.dcmread(path) for path in sorted(tmp_path.iterdir())]
    assert [int(f.InstanceNumber) for f in files] == list(range(1, 13))
    for k, file in enumerate(files):
        hu = file.pixel_array * float(file.RescaleSlope) + float(file.RescaleIntercept)
        assert np.abs(hu - case.ct_hu[k]).max() <= 0.5
        position = [float(x) for x in file.ImagePositionPatient]
        assert position == pytest.approx(case.grid.index_to_mm([0, 0, k]).tolist(), abs=1e-5)
        assert [float(x) for x in file.ImageOrientationPatient] == pytest.approx([0.8, 0.6, 0, -0.6, 0.8, 0])
    assert len({file.SOPInstanceUID for file in files}) == 12
    assert {file.PatientPosition for file in files} == {"HFS"}


@pytest.mark.parametrize("bad", [np.nan, 40000.0, -32769.0])
def test_a_ct_number_that_is_none_is_refused(tmp_path, bad):
    case = small_case()
    hu = case.ct_hu.astype(np.float32)
    hu[0, 1, 2] = bad
    with pytest.raises(BrachyError, match="CT number"):
        write_ct(replace(case, ct_hu=hu), tmp_path)
    assert list(tmp_path.iterdir()) == []
