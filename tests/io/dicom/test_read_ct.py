"""CT series in: where each voxel is and what it holds, for every way of storing it; broken stacks are refused.

The made-up patient's CT number is a function of the position alone (`scanner.hu_at`), so that a voxel that is read
proves its own place.
"""

import gdcm
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from brachy.errors import BrachyError
from brachy.io.dicom.read import read_case
from tests import scanner

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]) @ np.array(
    [[1.0, 0.0, 0.0], [0.0, 0.96, 0.28], [0.0, -0.28, 0.96]]
)
ORIENTATIONS = {
    "head first supine": scanner.AXIAL,
    "feet first": scanner.SUPINE_FEET_FIRST,
    "prone": (-1, 0, 0, 0, -1, 0),
    "decubitus left": scanner.DECUBITUS_LEFT,
    "decubitus right": (0, 1, 0, -1, 0, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "oblique": (*TURN[:, 0], *TURN[:, 1]),
}


def read(folder, slices):
    scanner.save_all(slices, folder / "case")
    return read_case(folder / "case")


def assert_patient(case, tolerance=0):
    """Every voxel holds the CT number of its own position."""
    nz, ny, nx = case.grid.shape
    points = case.grid.centres_mm()
    assert case.ct_hu.shape == (nz, ny, nx)
    assert np.abs(case.ct_hu.ravel() - scanner.hu_at(points)).max() <= tolerance


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("order", ["forward", "reversed", "shuffled"])
def test_every_voxel_tells_where_it_is(name, order, tmp_path):
    slices = scanner.ct_slices(ORIENTATIONS[name])
    if order == "reversed":
        slices = slices[::-1]
    elif order == "shuffled":
        slices = [slices[k] for k in (3, 0, 5, 1, 4, 2)]
    case = read(tmp_path, slices)
    # the oblique positions are rounded to 16 characters: half a HU may tip over
    assert_patient(case, tolerance=1 if name == "oblique" else 0)
    assert case.ct_hu.dtype == np.int16
    assert np.linalg.det(case.grid.direction) == pytest.approx(1)
    np.testing.assert_allclose(case.grid.spacing_mm, scanner.SPACING, rtol=1e-9)
    corners = scanner.positions(ORIENTATIONS[name])[[0, -1]][:, [0, -1]][:, :, [0, -1]].reshape(-1, 3)
    np.testing.assert_allclose(np.sort(corners, axis=0), np.sort(inner_corners(case.grid), axis=0), atol=1e-6)


def inner_corners(grid):
    nz, ny, nx = grid.shape
    return grid.index_to_mm([[i, j, k] for k in (0, nz - 1) for j in (0, ny - 1) for i in (0, nx - 1)])


def test_references_follow_the_sorted_slices(tmp_path):
    slices = scanner.ct_slices(scanner.SUPINE_FEET_FIRST)
    case = read(tmp_path, slices[::-1])
    assert [r.sop_instance_uid for r in case.identity.slices] == [s.SOPInstanceUID for s in slices]
    heights = [r.position_mm for r in case.identity.slices]
    np.testing.assert_allclose(heights, case.grid.index_to_mm([[0, 0, k] for k in range(len(slices))]))


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_rescale_of_each_slice(dtype, tmp_path):
    case = read(tmp_path, scanner.ct_slices(rescale=lambda k: (1 + k % 2, -1024 - 2 * k), dtype=dtype))
    # a slope of 2 cannot hold odd differences
    assert_patient(case, tolerance=1)
    assert case.ct_hu.dtype == np.int16


def test_fractional_rescale_of_each_slice(tmp_path):
    case = read(
        tmp_path, scanner.ct_slices(rescale=lambda k: (0.05 * (k + 1), -1024 - 0.25 * k), dtype=np.uint16)
    )
    assert case.ct_hu.dtype == np.float32
    assert_patient(case, tolerance=0.151)


def test_values_beyond_16_bits_become_float(tmp_path):
    slices = scanner.ct_slices(rescale=lambda k: (1, 0), dtype=np.int16)
    stored = np.full(scanner.SHAPE[1:], 20_000, np.int16)
    slices[2].RescaleSlope, slices[2].PixelData = "2", stored.tobytes()
    case = read(tmp_path, slices)
    assert case.ct_hu.dtype == np.float32
    assert case.ct_hu[2].max() == 40_000


def test_unused_high_bits_are_ignored(tmp_path):
    slices = scanner.ct_slices(bits_stored=12)
    for one in slices:
        one.PixelData = (np.frombuffer(one.PixelData, np.uint16) | 0xA000).tobytes()
    assert_patient(read(tmp_path, slices))


def test_monochrome1_is_no_negative(tmp_path):
    slices = scanner.ct_slices()
    for one in slices:
        one.PhotometricInterpretation = "MONOCHROME1"
    assert_patient(read(tmp_path, slices))


def test_padding_beyond_the_scale_is_air(tmp_path):
    slices = scanner.ct_slices()
    stored = np.frombuffer(slices[1].PixelData, np.uint16).copy()
    stored[:7] = 65_000
    for one in slices:
        one.PixelPaddingValue = 65_000
    slices[1].PixelData = stored.tobytes()
    case = read(tmp_path, slices)
    assert (case.ct_hu[1].ravel()[:7] == -1024).all()
    assert any("65000" in note for note in case.assumed)


WIDE = (4, 40, 44)


def padded(value, **options):
    """A wide series with one stored value outside a circle of 22 mm; the mask of the circle's outside."""
    slices = scanner.ct_slices(shape=WIDE, **options)
    y, x = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip(WIDE[1:], (1.25, 1.5), strict=True))
    outside = np.hypot(x[None], y[:, None]) > 22.0
    for one in slices:
        kind = np.int16 if one.PixelRepresentation else np.uint16
        stored = np.frombuffer(one.PixelData, kind).reshape(WIDE[1:]).copy()
        stored[outside] = value
        one.PixelData = stored.tobytes()
    return slices, outside


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (63_536, {}),
        (4095, {}),
        (1024, {}),
        (3071, {"dtype": np.int16, "rescale": lambda k: (1, 0)}),
    ],
)
def test_padding_that_is_not_declared_is_air_and_said(value, options, tmp_path):
    """63536 is beyond the scale, 4095 - 1024 is metal, 1024 - 1024 is water: none of it was imaged."""
    slices, outside = padded(value, **options)
    case = read(tmp_path, slices)
    assert (case.ct_hu[:, outside] == -1024).all()
    inside = np.broadcast_to(~outside, WIDE).ravel()
    assert np.abs(case.ct_hu.ravel() - scanner.hu_at(case.grid.centres_mm()))[inside].max() == 0
    (said,) = [note for note in case.assumed if "outside the field of view" in note]
    intercept = 0 if options else -1024
    assert f"{value + intercept:g} HU" in said


@pytest.mark.parametrize("value", [-2000, -32_768, -1000])
def test_padding_darker_than_air_stays_and_is_not_mentioned(value, tmp_path):
    slices, outside = padded(value, dtype=np.int16, rescale=lambda k: (1, 0))
    case = read(tmp_path, slices)
    assert (case.ct_hu[:, outside] == value).all()
    assert not case.assumed[:-1]  # the last says that there is no structure set


# ---- slices that do not belong together ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("PatientID", "T2", "of another patient"),
        ("FrameOfReferenceUID", "1.2.3", "in another frame of reference"),
    ],
)
def test_slices_of_two_patients_or_frames_are_refused(keyword, value, words, tmp_path):
    slices = scanner.ct_slices()
    setattr(slices[3], keyword, value)
    with pytest.raises(BrachyError, match=rf"CT003.dcm is {words} than other slices of its series"):
        read(tmp_path, slices)


def test_the_position_of_the_patient_and_the_centre_of_the_bore(tmp_path):
    slices = scanner.ct_slices()
    for image in slices:
        image.PatientPosition, image.DataCollectionCenterPatient = "FFP", [1.5, -2.0, 30.25]
    found = read(tmp_path, slices).identity
    assert (found.patient_position, found.bore_centre_mm) == ("FFP", (1.5, -2.0, 30.25))


@pytest.mark.parametrize("given", [None, [1.0, 2.0], [float("nan"), 0.0, 0.0]])
def test_a_bore_without_a_centre(given, tmp_path):
    slices = scanner.ct_slices()
    for image in slices:
        if given is not None:
            image.DataCollectionCenterPatient = given
    assert read(tmp_path, slices).identity.bore_centre_mm is None


def test_a_slice_without_a_patient_is_no_other_patient(tmp_path):
    slices = scanner.ct_slices()
    slices[3].PatientID, slices[0].FrameOfReferenceUID = "", ""
    assert_patient(read(tmp_path, slices))


def test_slices_of_two_days_are_said(tmp_path):
    slices = scanner.ct_slices()
    slices[3].AcquisitionDate = "20260301"
    case = read(tmp_path, slices)
    assert any("several dates, 2026-02-03 to 2026-03-01" in note for note in case.assumed)


# ---- transfer syntaxes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_plain_syntaxes(syntax, tmp_path):
    folder = tmp_path / "case"
    folder.mkdir()
    for k, data in enumerate(scanner.ct_slices(dtype=np.int16, rescale=lambda k: (1, 0))):
        if syntax == ExplicitVRBigEndian:
            data.PixelData = np.frombuffer(data.PixelData, "<i2").astype(">i2").tobytes()
        scanner.save(data, folder / f"{k}.dcm", syntax)
    assert_patient(read_case(folder))


_GDCM = {
    RLELossless: gdcm.TransferSyntax.RLELossless,
    JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
    JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
}


def compress(path, syntax):
    """Compress a file in place with GDCM's encoders."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(_GDCM[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert dcmread(path).file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize("syntax", list(_GDCM))
@pytest.mark.parametrize(("dtype", "bits"), [(np.uint16, 12), (np.uint16, 16), (np.int16, 16)])
def test_lossless_compression(syntax, dtype, bits, tmp_path):
    intercept = -1024 if dtype == np.uint16 else 0
    slices = scanner.ct_slices(
        rescale=lambda k: (1, intercept), dtype=dtype, bits_stored=bits, shape=(3, 32, 40)
    )
    for path in scanner.save_all(slices, tmp_path / "case"):
        compress(path, syntax)
    assert_patient(read_case(tmp_path / "case"))


def test_the_decoders_of_the_product_are_there():
    for syntax in _GDCM:
        wanted = "pydicom" if syntax == RLELossless else "gdcm"
        assert wanted in get_decoder(syntax).available_plugins


def test_a_syntax_that_is_not_read_is_named(tmp_path):
    files = scanner.save_all(scanner.ct_slices(), tmp_path / "case")
    content = files[0].read_bytes().replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.1.2.9\x00", 1)
    files[0].write_bytes(content)
    with pytest.raises(BrachyError, match=r"CT000\.dcm is compressed as 1\.2\.840\.10008\.1\.2\.9"):
        read_case(tmp_path / "case")


def test_enhanced_multi_frame(tmp_path):
    slices = scanner.ct_slices()
    whole = scanner.common(scanner.ENHANCED_CLASS, "CT")
    whole.NumberOfFrames = len(slices)
    scanner.pixels(
        whole, np.stack([np.frombuffer(s.PixelData, np.uint16).reshape(10, 12) for s in slices[::-1]])
    )
    shared, orientation, measures, values = Dataset(), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = slices[0].ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = slices[0].PixelSpacing, "2.5"
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = "1", "-1024", "HU"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.PixelValueTransformationSequence = [values]
    whole.SharedFunctionalGroupsSequence = [shared]
    whole.PerFrameFunctionalGroupsSequence = []
    for one in slices[::-1]:
        group, place = Dataset(), Dataset()
        place.ImagePositionPatient = one.ImagePositionPatient
        group.PlanePositionSequence = [place]
        whole.PerFrameFunctionalGroupsSequence.append(group)
    (tmp_path / "case").mkdir()
    scanner.save(whole, tmp_path / "case" / "enhanced.dcm")
    assert_patient(read_case(tmp_path / "case"))


# ---- stacks that are refused -----------------------------------------------------------------------------------


def refused(tmp_path, slices, *parts):
    with pytest.raises(BrachyError) as caught:
        read(tmp_path, slices)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def at(slices, k, position):
    slices[k].ImagePositionPatient = scanner.decimal(position)
    return slices


def test_missing_slice(tmp_path):
    slices = scanner.ct_slices()
    del slices[3]
    refused(tmp_path, slices, "missing after the one at z = -45.00 mm", "-40.00 mm")


def test_two_missing_slices_of_a_short_stack(tmp_path):
    slices = [scanner.ct_slices()[k] for k in (0, 1, 4)]
    refused(tmp_path, slices, "2 CT slices are missing after the one at z = -47.50 mm")


def test_duplicate_slice(tmp_path):
    slices = scanner.ct_slices()
    double = scanner.ct_slices()[2]
    refused(tmp_path, [*slices, double], "two CT slices at z = -45.00 mm", "CT002.dcm", "CT006.dcm")


def test_uneven_slices(tmp_path):
    slices = at(scanner.ct_slices(), 3, (-20, 30, -50 + 3.3 * 2.5))
    refused(tmp_path, slices, "unevenly spaced", "z = -45.00", "z = -41.75", "resample")


def test_spacing_that_creeps(tmp_path):
    slices = scanner.ct_slices(shape=(40, 4, 4))
    for k in range(40):
        at(slices, k, (-20, 30, -50 + 2.5 * k + 0.0012 * k**2))
    refused(tmp_path, slices, "unevenly spaced", "ladder")


def test_gantry_tilt(tmp_path):
    tilt = np.radians(12)
    orientation = (1, 0, 0, 0, np.cos(tilt), -np.sin(tilt))
    slices = scanner.ct_slices(orientation)
    for k in range(len(slices)):
        at(slices, k, (-20, 30, -50 + 2.5 * k))
    refused(tmp_path, slices, "tilted gantry (12.0 degrees)", "resample")


def test_slice_out_of_line(tmp_path):
    slices = at(scanner.ct_slices(), 2, (-18, 30, -45))
    refused(tmp_path, slices, "z = -45.00 mm", "shifted by 2.00 mm")


def test_slice_turned(tmp_path):
    slices = scanner.ct_slices()
    slices[4].ImageOrientationPatient = scanner.decimal(scanner.DECUBITUS_LEFT)
    refused(tmp_path, slices, "z = -40.00 mm", "turned")


def test_slice_of_another_pixel_size(tmp_path):
    slices = scanner.ct_slices()
    slices[1].PixelSpacing = ["1.25", "1.6"]
    refused(tmp_path, slices, "z = -47.50 mm", "pixel size")


def test_single_slice(tmp_path):
    refused(tmp_path, scanner.ct_slices()[:1], "one slice alone", "z = -50.00 mm")


def test_rescale_missing(tmp_path):
    slices = scanner.ct_slices()
    del slices[0].RescaleSlope, slices[0].RescaleIntercept
    refused(tmp_path, slices, "CT000.dcm", "HU are unknown")


def test_rescale_missing_on_signed_values_is_told(tmp_path):
    slices = scanner.ct_slices(rescale=lambda k: (1, 0), dtype=np.int16)
    for one in slices:
        del one.RescaleSlope, one.RescaleIntercept
    case = read(tmp_path, slices)
    assert_patient(case)
    assert any("stored values" in note for note in case.assumed)


def test_other_quantities_than_hu(tmp_path):
    slices = scanner.ct_slices()
    for one in slices:
        one.RescaleType = "Z_EFF"
    refused(tmp_path, slices, "Z_EFF", "HU")


def test_colour_pictures(tmp_path):
    slices = scanner.ct_slices()
    for one in slices:
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PlanarConfiguration = 3, "RGB", 0
        one.PixelData = one.PixelData * 3
    refused(tmp_path, slices, "no grey image")


def test_orientation_missing(tmp_path):
    slices = scanner.ct_slices()
    del slices[0].ImageOrientationPatient
    refused(tmp_path, slices, "CT000.dcm", "ImageOrientationPatient")


def test_localizers_are_left_out(tmp_path):
    slices = scanner.ct_slices()
    scout = scanner.ct_slices(orientation=(0, 1, 0, 0, 0, -1), shape=(1, 30, 20))[0]
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    case = read(tmp_path, [scout, *slices])
    assert_patient(case)
    assert any("1 localizer" in note for note in case.assumed)


def test_pictures_that_say_ct_are_no_series(tmp_path):
    picture = scanner.ct_slices(series=generate_uid(), description="Patient Protocol")[0]
    picture.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    del picture.ImagePositionPatient, picture.ImageOrientationPatient
    files = scanner.save_all([*scanner.ct_slices(), picture], tmp_path / "case")
    assert_patient(read_case(tmp_path / "case"))
    with pytest.raises(BrachyError, match=r"CT006\.dcm is a localizer or a picture"):
        read_case(files[6])


def test_small_jitter_of_positions_is_no_fault(tmp_path):
    slices = scanner.ct_slices()
    rng = np.random.default_rng(3)
    for k in range(len(slices)):
        at(slices, k, np.array((-20, 30, -50 + 2.5 * k)) + rng.uniform(-0.004, 0.004, 3))
    assert_patient(read(tmp_path, slices), tolerance=1)


def test_series_without_uids_is_read_and_told(tmp_path):
    slices = scanner.ct_slices(series="")
    for one in slices:
        one.StudyInstanceUID = ""
    case = read(tmp_path, slices)
    assert_patient(case)
    assert not case.identity.is_dicom
    assert case.identity.slices == ()
    assert any("no UIDs" in note for note in case.assumed)


def test_two_acquisitions_in_one_folder_are_two_series(tmp_path):
    scanner.save_all(scanner.ct_slices(description="native"), tmp_path / "case" / "a")
    scanner.save_all(scanner.ct_slices(series=generate_uid(), description="venous"), tmp_path / "case" / "b")
    with pytest.raises(BrachyError) as caught:
        read_case(tmp_path / "case")
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert "'native' (6 images, series " + scanner.SERIES in message
    assert "'venous' (6 images" in message
    assert "give one .dcm file" in message
    assert_patient(read_case(tmp_path / "case" / "a" / "CT000.dcm"))


@pytest.mark.parametrize(("folder", "shape", "low"), [("ct_jpeg2000", (20, 512, 512), -1024)])
def test_jpeg2000_of_a_clinic(shared, folder, shape, low):
    """The stored values as SimpleITK (GDCM's own reader) gives them."""
    import SimpleITK

    case = read_case(shared / "data" / folder)
    assert case.ct_hu.shape == shape
    assert case.ct_hu.min() == low
    files = sorted((shared / "data" / folder / "CT").iterdir())
    for file in files[:: len(files) // 3]:
        image = SimpleITK.ReadImage(str(file))
        k = round(float((np.array(image.GetOrigin()) - case.grid.origin_mm)[2] / case.grid.spacing_mm[2]))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image)[0], case.ct_hu[k])


def test_fractional_slope_of_a_clinic(shared):
    case = read_case(shared / "data" / "liver_ct_only" / "CT" / "ct_slice_1.dcm")
    assert case.ct_hu.shape == (168, 217, 217)
    data = dcmread(shared / "data" / "liver_ct_only" / "CT" / "ct_slice_1.dcm")
    stored = np.frombuffer(data.PixelData, "<u2").reshape(217, 217)
    np.testing.assert_allclose(case.ct_hu[0], stored * 0.04441064140343 - 1024, atol=1e-3)
    np.testing.assert_allclose(case.grid.spacing_mm, (3, 3, 2.5))
    assert case.structures == ()
    assert any("no structure set" in note for note in case.assumed)
