"""Structure sets in: contours to the digit, names as they were meant, nothing left out without a word."""

import json

import numpy as np
import pytest
from pydicom import dcmread

from brachy.errors import BrachyError, UsageError
from brachy.io.dicom.read import read_case, read_structure_set, read_structures
from brachy.io.dicom.structure_set import usual_gap
from tests import scanner

SQUARE = scanner.square(-45.0)


def read(tmp_path, rois, change=lambda data: None):
    data = scanner.structure_set(rois)
    change(data)
    return read_structure_set(scanner.save(data, tmp_path / "RS.dcm"))


def raw(tmp_path, rois, **replaced):
    """The same with bytes of the file replaced: what pydicom would not write."""
    path = scanner.save(scanner.structure_set(rois), tmp_path / "RS.dcm")
    content = path.read_bytes()
    for old, new in replaced.values():
        assert content.count(old) == 1
        assert len(old) == len(new)
        content = content.replace(old, new)
    path.write_bytes(content)
    return read_structure_set(path)


def test_contours_are_exact(tmp_path):
    points = np.array([[-15.12345678, 32.5, -45], [1e-7, 32.25, -45], [-8.5, 38.0625, -45], [-14, 37, -45]])
    found = read(tmp_path, {"GTV": [points]}).structures[0]
    np.testing.assert_allclose(found.contours_mm[0], points, rtol=0, atol=1e-9)
    assert (found.name, found.interpreted_type, found.number) == ("GTV", "GTV", 1)
    assert found.colour == (255, 128, 0)


def test_liver_volumes_are_those_of_its_masks(shared):
    """Against the voxel counts and polygon areas that came with the data."""
    case = read_case(shared / "data" / "liver_abdomen" / "RTSTRUCT.dcm")
    told = json.loads((shared / "data" / "liver_abdomen" / "structures.json").read_text())["structures"]
    *organs, target = case.structures
    assert [s.name for s in organs] == [entry["name"] for entry in told]
    assert [s.interpreted_type for s in organs] == [entry["type"] for entry in told]
    # an ellipsoid with semi-axes 22, 20, 24 mm, cut into slabs of 3 mm
    assert (target.name, target.interpreted_type) == ("GTV", "GTV")
    assert target.volume_cc == pytest.approx(4 / 3 * np.pi * 2.2 * 2.0 * 2.4, rel=0.01)
    for structure, entry in zip(organs, told, strict=True):
        assert len(structure.contours_mm) == entry["contours"]
        # polygons run through half levels of the mask, so they cut its corners; polygon_cc has 3 decimals
        assert structure.volume_cc == pytest.approx(entry["polygon_cc"], rel=1e-3, abs=0.01), structure.name
        assert structure.slice_spacing_mm == pytest.approx(3.0, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "count", "spacing", "left_out"),
    [
        ("dvh_eclipse_prostate/dicom/RTSTRUCT.dcm", 6, 2.5, []),
        ("dvh_breast/dicom/rtss.dcm", 9, 3.0, ["ROI Areola: is empty"]),
        ("hdr_plans/RS.HDR.dcm", 2, 2.5, ["OPEN_NONPLANAR", "OPEN_PLANAR", "ROI Normal tissue: is empty"]),
        ("prostate_postimplant_day1/dicom/SS001.dcm", 3, 2.5, ["Urètre"]),
    ],
)
def test_structure_sets_of_clinics(shared, name, count, spacing, left_out):
    found = read_structure_set(shared / "data" / name)
    assert len(found.structures) == count
    assert {s.slice_spacing_mm for s in found.structures} == {spacing}
    text = " | ".join(found.assumed)
    assert f"slice spacing {spacing:g} mm derived from the contours" in text
    for part in left_out:
        assert part in text


def test_points_and_open_contours_are_left_out_with_a_word(tmp_path):
    rois = {
        "Marker": [("POINT", SQUARE[:1])],
        "Needle": [("OPEN_NONPLANAR", SQUARE)],
        "Line": [SQUARE[:2]],
        "Mixed": [SQUARE, ("OPEN_PLANAR", SQUARE)],
        "Empty": [],
    }
    found = read(tmp_path, rois)
    assert [s.name for s in found.structures] == ["Mixed"]
    assert len(found.structures[0].contours_mm) == 1
    text = " | ".join(found.assumed)
    for part in (
        "ROI Marker: its POINT",
        "ROI Needle",
        "ROI Line: contours of fewer",
        "Mixed: its OPEN_PLANAR",
    ):
        assert part in text
    assert "ROI Empty: is empty" in text


def test_roi_without_contour_item(tmp_path):
    def change(data):
        data.ROIContourSequence = data.ROIContourSequence[:1]

    found = read(tmp_path, {"GTV": [SQUARE], "Planned": [SQUARE]}, change)
    assert [s.name for s in found.structures] == ["GTV"]
    assert any("Planned: is empty" in note for note in found.assumed)


def test_contour_without_a_type_is_closed(tmp_path):
    def change(data):
        del data.ROIContourSequence[0].ContourSequence[0].ContourGeometricType

    found = read(tmp_path, {"GTV": [SQUARE]}, change)
    assert len(found.structures) == 1
    assert any("taken as closed" in note for note in found.assumed)


def test_holes_by_even_odd(tmp_path):
    """A square of 70 x 60 mm with a square hole of 20 x 20 mm: 42 - 4 cm2 on each of three slices 5 mm apart."""
    contours = []
    for z in (-50.0, -45.0, -40.0):
        contours += [scanner.square(z, (0, 0), (70, 60)), scanner.square(z, (10, 10), (30, 30))[::-1]]
    structure = read(tmp_path, {"GTV": contours}).structures[0]
    assert structure.volume_cc == pytest.approx(38.0 * 1.5)


def test_two_rois_of_one_name(tmp_path):
    def change(data):
        data.StructureSetROISequence[1].ROIName = "GTV"

    slices = scanner.ct_slices()
    scanner.save_all(slices, tmp_path / "case")
    data = scanner.structure_set({"GTV": [SQUARE], "Other": [SQUARE]}, slices)
    change(data)
    case = read_case(scanner.save(data, tmp_path / "case" / "RS.dcm"))
    assert [s.name for s in case.structures] == ["GTV", "GTV"]
    assert any("ROI GTV: 2 ROIs have this name" in note for note in case.assumed)
    with pytest.raises(UsageError, match="2 ROIs are called 'GTV'"):
        case.structure("GTV")


def test_roi_numbers_from_zero_and_in_any_order(tmp_path):
    def change(data):
        for sequence, keyword in [
            (data.StructureSetROISequence, "ROINumber"),
            (data.ROIContourSequence, "ReferencedROINumber"),
            (data.RTROIObservationsSequence, "ReferencedROINumber"),
        ]:
            for item, number in zip(sequence, (7, 0), strict=True):
                setattr(item, keyword, number)
        data.ROIContourSequence = data.ROIContourSequence[::-1]
        data.RTROIObservationsSequence = data.RTROIObservationsSequence[::-1]

    found = read(tmp_path, {"GTV": [SQUARE], "Liver": [scanner.square(-40.0), SQUARE]}, change).structures
    assert [(s.name, s.number, s.interpreted_type, len(s.contours_mm)) for s in found] == [
        ("GTV", 7, "GTV", 1),
        ("Liver", 0, "ORGAN", 2),
    ]


def test_one_number_for_two_rois(tmp_path):
    def change(data):
        data.StructureSetROISequence[1].ROINumber = 1

    with pytest.raises(BrachyError, match="uses ROI number 1 for several ROIs"):
        read(tmp_path, {"GTV": [SQUARE], "Liver": [SQUARE]}, change)


@pytest.mark.parametrize(
    ("declared", "stored", "expected", "told"),
    [
        (None, "Urètre".encode("latin-1"), "Urètre", True),
        (None, "Urètre".encode(), "Urètre", True),
        ("ISO_IR 192", "Urètre".encode(), "Urètre", False),
        ("ISO_IR 192", "Urètre".encode("latin-1"), "Urètre", True),
        ("ISO_IR 100", "Urètre".encode("latin-1"), "Urètre", False),
        ("ISO_IR 144", "Печень".encode("iso8859_5"), "Печень", False),
        ("ISO_IR 999", "Urètre".encode("latin-1"), "Urètre", True),
        (None, b"Liver", "Liver", False),
    ],
)
def test_character_sets(declared, stored, expected, told, tmp_path):
    data = scanner.structure_set({"#" * 24: [SQUARE]})
    if declared is None:
        del data.SpecificCharacterSet
    path = scanner.save(data, tmp_path / "RS.dcm")
    content = path.read_bytes().replace(b"#" * 24, stored.ljust(24))
    path.write_bytes(content.replace(b"ISO_IR 192", declared.encode() if declared else b"ISO_IR 192"))
    found = read_structure_set(path)
    assert found.structures[0].name == expected
    assert any("character set" in note for note in found.assumed) == told


def test_names_become_one_printable_line(tmp_path):
    names = {"a\tb  c": [SQUARE], "": [SQUARE], "x" * 64: [SQUARE]}
    found = read(tmp_path, names)
    assert [s.name for s in found.structures] == ["a b c", "ROI 2", "x" * 64]
    assert any("has no name" in note for note in found.assumed)


def test_outside_the_ct_is_told(tmp_path):
    slices = scanner.ct_slices()
    scanner.save_all(slices, tmp_path / "case")
    inside = scanner.square(-45.0)
    # the voxels' outer edges are the end of the CT: a contour on them is inside
    edge = scanner.square(-45.0, (-20.75, 29.375), (-2.75, 41.875))
    rois = {
        "In": [inside],
        "Edge": [edge],
        "Over": [scanner.square(-45.0, (-25, 32), (-8, 38))],
        "Above": [scanner.square(20.0)],
    }
    case = read_case(scanner.save(scanner.structure_set(rois, slices), tmp_path / "case" / "RS.dcm"))
    text = " | ".join(case.assumed)
    assert "ROI Over: reaches outside the CT" in text
    assert "ROI Above: lies outside the CT" in text
    assert "ROI In" not in text
    assert "Edge" not in text


def test_contours_between_slices_are_kept(tmp_path):
    slices = scanner.ct_slices()
    scanner.save_all(slices, tmp_path / "case")
    rois = {"GTV": [scanner.square(z) for z in (-46.3, -43.8, -41.3)]}
    case = read_case(scanner.save(scanner.structure_set(rois, slices), tmp_path / "case" / "RS.dcm"))
    assert [c[0, 2] for c in case.structures[0].contours_mm] == [-46.3, -43.8, -41.3]
    assert case.structures[0].slice_spacing_mm == 2.5


def test_roi_of_another_frame_is_left_out_with_a_word(tmp_path):
    slices = scanner.ct_slices()
    scanner.save_all(slices, tmp_path / "case")
    data = scanner.structure_set({"GTV": [SQUARE], "MR lesion": [SQUARE]}, slices)
    data.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.3"
    case = read_case(scanner.save(data, tmp_path / "case" / "RS.dcm"))
    assert [s.name for s in case.structures] == ["GTV"]
    assert any("MR lesion: in another frame of reference" in note for note in case.assumed)


def test_broken_coordinates(tmp_path):
    line = b"-15\\32\\-45\\-8\\32\\-45"
    for bad, expected in [
        (b"nan", "no finite number"),
        (b"inf", "no finite number"),
        (b"x45", "no finite number"),
    ]:
        with pytest.raises(BrachyError) as caught:
            raw(tmp_path, {"GTV": [SQUARE]}, one=(line, line[:-3] + bad))
        message = str(caught.value)
        assert "\n" not in message
        assert "ROI 'GTV'" in message
        assert expected in message
    with pytest.raises(BrachyError, match="11 coordinates"):
        raw(
            tmp_path,
            {"GTV": [SQUARE]},
            one=(line, line.replace(b"-45\\-8", b"-45.-8").replace(b".-8", b".80")),
        )


def test_contour_out_of_plane(tmp_path):
    bent = SQUARE.copy()
    bent[2, 2] += 4
    with pytest.raises(BrachyError, match="ROI 'GTV'"):
        read(tmp_path, {"GTV": [bent]})


def test_no_structure_set(shared, tmp_path):
    with pytest.raises(UsageError, match=r"CT_0001\.dcm is CT: give an RT Structure Set"):
        read_structures(shared / "data" / "liver_abdomen" / "CT" / "CT_0001.dcm")
    with pytest.raises(BrachyError, match="has no ROIs"):
        read(tmp_path, {})
    with pytest.raises(UsageError, match="no file"):
        read_structures(tmp_path / "none.dcm")
    (tmp_path / "text.dcm").write_text("hello")
    with pytest.raises(UsageError, match="is no DICOM file"):
        read_structures(tmp_path / "text.dcm")


def test_usual_gap_is_the_most_frequent_one():
    def stack(*heights):
        return [scanner.square(z) for z in heights]

    assert usual_gap([stack(0, 3, 6, 12), stack(0, 6)]) == 3
    assert usual_gap([stack(0, 2.5), stack(0, 5)]) == 2.5
    assert usual_gap([stack(0), stack(7)]) is None
    # sagittal contours are stacked along x
    sagittal = [scanner.square(x)[:, [2, 0, 1]] for x in (0.0, 4.0, 8.0)]
    assert usual_gap([sagittal]) == 4


def test_pydicom_reads_the_same_numbers(shared):
    data = dcmread(shared / "data" / "liver_abdomen" / "RTSTRUCT.dcm")
    found = read_structures(shared / "data" / "liver_abdomen" / "RTSTRUCT.dcm")
    for item, structure in list(zip(data.ROIContourSequence, found, strict=True))[::5]:
        for contour, points in zip(item.ContourSequence, structure.contours_mm, strict=True):
            np.testing.assert_array_equal(np.array(contour.ContourData, float), points.ravel())
