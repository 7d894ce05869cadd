"""RT Dose in: every voxel's place and value for each way of storing it, and the DVHs of the file itself."""

import json

import numpy as np
import pytest
from pydicom.uid import RLELossless

from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Dose
from brachy.io.dicom.read import read_dose
from tests import scanner
from tests.io.dicom.test_read_ct import ORIENTATIONS

SHAPE = (5, 6, 7)


def gy_at(points_mm):
    """A dose that tells the position: linear in it, positive in the region of the tests."""
    return 200.0 + np.asarray(points_mm) @ (0.5, 0.3, 1.1)


def dose_set(orientation=scanner.AXIAL, order="ascending", offsets="relative", bits=32, scaling=1e-3):
    """RTDOSE data set of `gy_at`; frames along or against the normal of the image plane (PS3.3 C.8.8.3.2)."""
    where = scanner.positions(orientation, shape=SHAPE)
    if order == "descending":
        where = where[::-1]
    normal = np.cross(orientation[:3], orientation[3:])
    data = scanner.common(scanner.DOSE_CLASS, "RTDOSE", scanner.generate_uid())
    data.DoseUnits, data.DoseType, data.DoseSummationType = "GY", "PHYSICAL", "PLAN"
    data.DoseGridScaling = scanner.decimal(scaling)[0]
    data.ImagePositionPatient, data.ImageOrientationPatient = (
        scanner.decimal(where[0, 0, 0]),
        scanner.decimal(orientation),
    )
    data.PixelSpacing = scanner.decimal([scanner.SPACING[1], scanner.SPACING[0]])
    along = (where[:, 0, 0] - where[0, 0, 0]) @ normal
    if offsets == "absolute":
        along = where[:, 0, 0, 2]
    data.GridFrameOffsetVector = scanner.decimal(along)
    data.NumberOfFrames, data.FrameIncrementPointer = SHAPE[0], 0x3004000C
    stored = np.rint(gy_at(where) / scaling).astype(np.uint32 if bits == 32 else np.uint16)
    scanner.pixels(data, stored, bits)
    return data


def read(tmp_path, data):
    return read_dose(scanner.save(data, tmp_path / "RD.dcm"))


def assert_dose(dose, quantum=1e-3):
    assert isinstance(dose, Dose)
    assert np.abs(dose.gy.ravel() - gy_at(dose.grid.centres_mm())).max() <= 0.5 * quantum + 1e-5


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_voxel_tells_where_it_is(name, order, tmp_path):
    dose = read(tmp_path, dose_set(ORIENTATIONS[name], order))
    assert_dose(dose)
    assert dose.gy.shape == SHAPE
    assert np.linalg.det(dose.grid.direction) == pytest.approx(1)
    np.testing.assert_allclose(dose.grid.spacing_mm, scanner.SPACING, rtol=1e-6)


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("name", ["head first supine", "feet first", "prone"])
def test_absolute_offsets(name, order, tmp_path):
    assert_dose(read(tmp_path, dose_set(ORIENTATIONS[name], order, "absolute")))


def test_16_bits(tmp_path):
    assert_dose(read(tmp_path, dose_set(bits=16, scaling=0.01)), quantum=0.01)


def test_compressed(tmp_path):
    data = dose_set(bits=16, scaling=0.01)
    data.file_meta = scanner.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = scanner.ExplicitVRLittleEndian
    data.compress(RLELossless, generate_instance_uid=False)
    assert_dose(read_dose(scanner.save(data, tmp_path / "RD.dcm", RLELossless)), quantum=0.01)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda d: setattr(d, "DoseUnits", "RELATIVE"), "RELATIVE, not in Gy"),
        (lambda d: delattr(d, "DoseUnits"), "no named unit"),
        (lambda d: setattr(d, "DoseType", "ERROR"), "differences of dose"),
        (lambda d: setattr(d, "DoseGridScaling", "0"), "DoseGridScaling"),
        (lambda d: delattr(d, "DoseGridScaling"), "DoseGridScaling"),
        (
            lambda d: setattr(d, "GridFrameOffsetVector", [0, 2.5, 5, 7.5, 12.5]),
            "unevenly spaced (5 mm after frame 4",
        ),
        (lambda d: setattr(d, "GridFrameOffsetVector", [0, 2.5, 5, 7.5]), "4 frame offsets for 5 frames"),
        (lambda d: setattr(d, "GridFrameOffsetVector", [3, 5.5, 8, 10.5, 13]), "begin at 3 mm"),
        (lambda d: delattr(d, "ImageOrientationPatient"), "where its dose lies"),
        (lambda d: setattr(d, "PixelSpacing", [0, 1]), "where its dose lies"),
        (lambda d: delattr(d, "PixelData"), "no pixel data"),
        (lambda d: setattr(d, "Rows", 600), "cut short"),
    ],
)
def test_refused(change, part, tmp_path):
    data = dose_set()
    change(data)
    with pytest.raises(BrachyError) as caught:
        read(tmp_path, data)
    message = str(caught.value)
    assert "\n" not in message
    assert part in message, message
    assert "RD.dcm" in message


def test_absolute_offsets_need_axial_frames(tmp_path):
    data = dose_set(ORIENTATIONS["sagittal"])
    data.GridFrameOffsetVector = [float(data.ImagePositionPatient[2]) + 2.5 * k for k in range(5)]
    with pytest.raises(BrachyError, match="frame offsets begin"):
        read(tmp_path, data)


def test_dose_of_a_part_is_told(tmp_path):
    data = dose_set()
    data.DoseSummationType = "FRACTION"
    dose = read(tmp_path, data)
    assert dose.summation == "FRACTION"
    assert any("FRACTION" in note for note in dose.assumed)


def test_day1_dose(shared):
    """Descending frames of VariSeed, against the values noted with the data."""
    folder = shared / "data" / "prostate_postimplant_day1"
    dose = read_dose(folder / "dicom" / "DO001.dcm")
    truth = json.loads((folder / "truth" / "truth.json").read_text())
    told = truth["dose_grid"]
    assert list(dose.gy.shape) == told["shape_zyx"]
    assert dose.gy.max() == pytest.approx(told["max_gy"], rel=1e-9)
    # the first stored frame is the highest one
    np.testing.assert_allclose(dose.grid.index_to_mm([0, 0, 35]), told["first_voxel_mm"], atol=1e-9)
    np.testing.assert_allclose(dose.grid.spacing_mm, (1, 1, 2.5))
    # the hottest voxel is one that holds a seed: within half its diagonal
    k, j, i = np.unravel_index(dose.gy.argmax(), dose.gy.shape)
    seeds = np.loadtxt(folder / "truth" / "seeds_mm_LPS.csv", delimiter=",", skiprows=1)[:, 1:4]
    assert np.linalg.norm(seeds - dose.grid.index_to_mm([i, j, k]), axis=1).min() < 0.5 * np.linalg.norm(
        [1, 1, 2.5]
    )
    assert dose.plan_uid.endswith(".37")
    assert dose.structure_set_uid.endswith(".36")


def test_the_files_own_dvh(shared):
    """Volumes at the doses for which the planning system's DVH table was noted."""
    folder = shared / "data" / "prostate_postimplant_day1"
    dvh = read_dose(folder / "dicom" / "DO001.dcm").dvhs[0]
    told = json.loads((folder / "truth" / "truth.json").read_text())["structures"]["Prostate"]
    assert (dvh.roi_number, dvh.kind, dvh.volume_units) == (0, "CUMULATIVE", "CM3")
    for gy in (100, 145, 150, 200, 290):
        at = np.interp(gy, dvh.dose_gy, dvh.volume)
        assert at == pytest.approx(told[f"TPS_V{gy}_cc"], abs=1e-3)
    assert dvh.volume[0] == pytest.approx(told["TPS_volume_cc"], abs=0.005)


def test_other_clinics_doses(shared):
    eclipse = read_dose(shared / "data" / "dvh_eclipse_prostate" / "dicom" / "RTDOSE.dcm")
    assert eclipse.gy.shape == (92, 86, 136)
    np.testing.assert_allclose(eclipse.grid.origin_mm, (-162.826, -105.017, -122.5))
    sagiplan = read_dose(shared / "data" / "hdr_plans" / "sagiplan" / "RD.dcm")
    # PixelSpacing is between rows, then between columns
    np.testing.assert_allclose(sagiplan.grid.spacing_mm, (2.423, 2.495, 2.423))
    assert any("FRACTION_SESSION" in note for note in sagiplan.assumed)
    breast = read_dose(shared / "data" / "dvh_breast" / "dicom" / "rtdose.dcm")
    assert len(breast.dvhs) == 9


def test_no_dose(shared):
    with pytest.raises(UsageError, match=r"SS001\.dcm is RTSTRUCT: give an RT Dose"):
        read_dose(shared / "data" / "prostate_postimplant_day1" / "dicom" / "SS001.dcm")
