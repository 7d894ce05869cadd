"""RT Dose, read back by pydicom and by SimpleITK (which places the voxels itself)."""

import itertools

import numpy as np
import pydicom
import pytest
import SimpleITK

from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Dose, Grid
from brachy.io.dicom.write import write_dose, write_plan
from tests.small_plan import dicom_identity, small_case, small_dose, small_plan

EYE = np.eye(3)
TURNED = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]) @ np.array(
    [[1.0, 0.0, 0.0], [0.0, 0.96, 0.28], [0.0, -0.28, 0.96]]
)
DIRECTIONS = {
    "axial": EYE,
    "left-handed": EYE * [1, 1, -1],
    "feet-first": EYE * [-1, 1, -1],
    "prone": EYE * [-1, -1, 1],
    "sagittal": EYE[:, [1, 2, 0]],
    "left-handed coronal": EYE[:, [0, 2, 1]],
    "oblique": TURNED,
    "oblique left-handed": TURNED * [1, 1, -1],
}


@pytest.fixture(scope="module")
def plan():
    return small_plan()


def written(dose, plan, path, **options):
    write_dose(dose, plan, small_case(dicom_identity()), path, **options)
    return pydicom.dcmread(path)


@pytest.mark.parametrize("bits", [16, 32])
def test_dose_to_the_quantum(plan, tmp_path, bits):
    dose = small_dose()
    read = written(dose, plan, tmp_path / "dose.dcm", bits=bits)
    quantum = float(read.DoseGridScaling)
    assert len(str(read["DoseGridScaling"].value.original_string)) <= 16
    assert quantum == pytest.approx(dose.gy.max() / (2**bits - 1), rel=2e-6)
    found = read.pixel_array.astype(np.float64) * quantum
    assert np.abs(found - dose.gy).max() <= 0.5000001 * quantum
    assert read.pixel_array.max() <= 2**bits - 1


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_every_voxel_is_where_it_was(plan, tmp_path, direction):
    dose = small_dose(direction)
    read = written(dose, plan, tmp_path / "dose.dcm")
    # the standard's own placing, PS3.3 C.7.6.2.1.1 and C.8.8.3.2
    row, column = np.reshape([float(x) for x in read.ImageOrientationPatient], (2, 3))
    dy, dx = (float(x) for x in read.PixelSpacing)
    corner = np.array([float(x) for x in read.ImagePositionPatient])
    found = {}
    for k, j, i in itertools.product(*map(range, read.pixel_array.shape)):
        offset = float(read.GridFrameOffsetVector[k])
        place = corner + row * dx * i + column * dy * j + np.cross(row, column) * offset
        found[tuple(np.round(place, 3) + 0.0)] = int(read.pixel_array[k, j, i])
    wanted = {
        tuple(np.round(place, 3) + 0.0): round(float(gy) / float(read.DoseGridScaling))
        for place, gy in zip(dose.grid.centres_mm(), dose.gy.ravel(), strict=True)
    }
    assert len(wanted) == dose.gy.size
    assert found == wanted
    assert np.all(np.diff([float(x) for x in read.GridFrameOffsetVector]) > 0)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_simpleitk_sees_the_same_dose(plan, tmp_path, direction):
    dose = small_dose(direction)
    read = written(dose, plan, tmp_path / "dose.dcm")
    image = SimpleITK.ReadImage(str(tmp_path / "dose.dcm"))
    centres = dose.grid.centres_mm()
    for index in range(0, dose.gy.size, 7):
        voxel = image.TransformPhysicalPointToIndex([float(x) for x in centres[index]])
        place = image.TransformIndexToPhysicalPoint(voxel)
        assert np.linalg.norm(np.subtract(place, centres[index])) < 1e-3
        stored = image.GetPixel(voxel)
        # GDCM applies the Dose Grid Scaling or not, by its version
        scaled = stored if stored == pytest.approx(float(dose.gy.ravel()[index]), rel=1e-3) else None
        if scaled is None:
            assert stored == round(float(dose.gy.ravel()[index]) / float(read.DoseGridScaling))


def test_a_single_slice_has_no_frames(plan, tmp_path):
    dose = Dose(Grid((1, 2, 3), (1, 1, 2), (1, 3, 4)), np.arange(12.0).reshape(1, 3, 4))
    read = written(dose, plan, tmp_path / "dose.dcm")
    assert "GridFrameOffsetVector" not in read
    assert "NumberOfFrames" not in read
    assert read.pixel_array.shape == (3, 4)


def test_no_dose_at_all(plan, tmp_path):
    read = written(Dose(small_dose().grid, np.zeros((5, 6, 7))), plan, tmp_path / "dose.dcm")
    assert float(read.DoseGridScaling) > 0
    assert not read.pixel_array.any()


def test_what_it_is(plan, tmp_path):
    case = small_case(dicom_identity())
    made = write_plan(plan, case, tmp_path / "plan.dcm")
    read = written(small_dose(), plan, tmp_path / "dose.dcm")
    assert (read.DoseUnits, read.DoseType, read.DoseSummationType) == ("GY", "PHYSICAL", "PLAN")
    assert read.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == made
    assert read.FrameOfReferenceUID == "1.2.3.2"
    assert "1D" in read.DoseComment
    assert (read.BitsAllocated, read.BitsStored, read.HighBit, read.PixelRepresentation) == (32, 32, 31, 0)


def test_dose_of_another_systems_plan(tmp_path):
    write_dose(
        small_dose(), None, dicom_identity(), tmp_path / "dose.dcm", plan_instance_uid="1.2.9", comment="30 d"
    )
    read = pydicom.dcmread(tmp_path / "dose.dcm")
    assert read.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == "1.2.9"
    assert read.DoseComment == "30 d"
    with pytest.raises(UsageError, match="refers to its RT Plan"):
        write_dose(small_dose(), None, dicom_identity(), tmp_path / "none.dcm")


def test_same_bytes_again_and_another_identifier_for_another_dose(plan, tmp_path):
    dose = small_dose()
    first, again = (written(dose, plan, tmp_path / name) for name in ("a", "b"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    other = written(Dose(dose.grid, dose.gy * 1.01), plan, tmp_path / "c")
    assert first.SOPInstanceUID == again.SOPInstanceUID != other.SOPInstanceUID


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_a_dose_that_is_none_is_refused(plan, tmp_path, bad):
    dose = small_dose()
    dose.gy[2, 3, 4] = bad
    with pytest.raises(BrachyError, match="negative or not a number"):
        written(dose, plan, tmp_path / "dose.dcm")
    assert list(tmp_path.iterdir()) == []
