"""CT and masks from volume files: where each voxel is, whatever the axes; what is no CT or lies elsewhere is refused.

Files are written by SimpleITK from a CT number that is a function of the position (LPS), so that every voxel that
is read proves its own place; NIfTI is also written byte by byte from its own header definition (RAS).
"""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK

from brachy.errors import BrachyError, UsageError
from brachy.io.volumes import add_masks, read_volume
from tests.scanner import hu_at

SHAPE = (6, 10, 12)
SPACING = (1.5, 1.25, 2.5)
ORIGIN = (-20.0, 30.0, -50.0)
TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
DIRECTIONS = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1.0, 1.0]),
    "LAS": np.diag([1.0, -1.0, 1.0]),
    "LPI": np.diag([1.0, 1.0, -1.0]),
    "sagittal": np.eye(3)[:, [1, 2, 0]],
    "oblique": TURN,
}


def image(array, direction="LPS", origin=ORIGIN, spacing=SPACING):
    made = SimpleITK.GetImageFromArray(array)
    made.SetOrigin(origin)
    made.SetSpacing(spacing)
    made.SetDirection(DIRECTIONS[direction].ravel().tolist())
    return made


def points(direction="LPS", shape=SHAPE):
    k, j, i = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    index = np.stack([i, j, k], axis=-1) * np.array(SPACING)
    return index @ DIRECTIONS[direction].T + np.array(ORIGIN)


def write(path, array, **options):
    SimpleITK.WriteImage(image(array, **options), str(path), useCompression=True)
    return path


def ct(path, direction="LPS", dtype=np.int16):
    return write(path, hu_at(points(direction)).astype(dtype), direction=direction)


def refused(kind, call, *parts):
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_voxel_tells_where_it_is(direction, suffix, tmp_path):
    case = read_volume(ct(tmp_path / f"ct{suffix}", direction))
    # NIfTI keeps its geometry in 32 bits: half a HU may tip over
    found = np.abs(case.ct_hu.ravel() - hu_at(case.grid.centres_mm())).max()
    assert found <= (1 if direction == "oblique" or "nii" in suffix else 0)
    assert case.ct_hu.dtype == np.int16
    assert np.linalg.det(case.grid.direction) == pytest.approx(1)
    assert case.grid.size == np.prod(SHAPE)
    # reordered so that x, y, z run most nearly to the left, the back and the head
    assert (np.diag(case.grid.direction) > 0.7).all()


def test_nifti_typed_from_its_definition(tmp_path):
    """NIfTI-1 header by hand (nifti1.h): the affine is RAS, so x and y change their sign."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 4, 3, 2, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, 2, 2, 3, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<hh", header, 252, 0, 1)
    struct.pack_into("<12f", header, 280, 2, 0, 0, 10, 0, 2, 0, 20, 0, 0, 3, 30)
    header[344:348] = b"n+1\0"
    values = np.arange(24, dtype="<i2") * 100 - 1000
    path = tmp_path / "hand.nii"
    path.write_bytes(bytes(header) + values.tobytes())
    case = read_volume(path)
    by_place = {
        tuple(p): v
        for p, v in zip(case.grid.centres_mm().round(6).tolist(), case.ct_hu.ravel().tolist(), strict=True)
    }
    for index, value in enumerate(values.tolist()):
        i, j, k = index % 4, index // 4 % 3, index // 12
        assert by_place[-(10 + 2 * i), -(20 + 2 * j), 30 + 3 * k] == value


def test_liver_is_the_same_as_nifti_and_as_dicom(shared):
    from brachy.io.dicom.read import read_case

    folder = shared / "data" / "liver_abdomen"
    masks = {name: f"{folder / 'labels.nii.gz'}:{label}" for name, label in [("Liver", 2), ("Aorta", 12)]}
    volume = read_volume(folder / "ct.nii.gz", masks)
    dicom = read_case(folder)
    np.testing.assert_array_equal(volume.ct_hu, dicom.ct_hu)
    np.testing.assert_allclose(volume.grid.origin_mm, dicom.grid.origin_mm, atol=1e-3)
    for name in masks:
        # the contours of the RTSTRUCT were drawn on the same masks, before later organs overwrote some voxels
        ours, theirs = volume.structure(name), dicom.structure(name)
        assert ours.volume_cc == pytest.approx(theirs.volume_cc, rel=0.01)
        np.testing.assert_allclose(ours.centroid_mm, theirs.centroid_mm, atol=0.5)
    assert [entry.name for entry in volume.inputs] in (
        ["ct.nii.gz", "labels.nii.gz"],
        ["labels.nii.gz", "ct.nii.gz"],
    )
    assert not volume.identity.is_dicom


# ---- masks -----------------------------------------------------------------------------------------------------


def box_mask():
    """1 in a box of 4 x 5 x 3 voxels, 3 in two columns of voxels beside it."""
    array = np.zeros(SHAPE, np.uint8)
    array[1:4, 2:7, 2:6] = 1
    array[1:4, 2:7, 7:9] = 3
    return array


BOX_CENTRE = np.array(SPACING) * [3.5, 4.0, 2.0]
"""Of the voxels with 1, in mm along the axes from the first voxel."""


@pytest.mark.parametrize("direction", ["LPS", "LAS", "LPI"])
def test_a_mask_file_a_structure(direction, tmp_path):
    path = ct(tmp_path / "ct.nii.gz", direction)
    mask = write(tmp_path / "gtv.nii.gz", (box_mask() == 1).astype(np.uint8), direction=direction)
    case = read_volume(path, {"GTV": mask})
    (gtv,) = case.structures
    assert gtv.name == "GTV"
    # 4 x 5 x 3 voxels; contours midway between voxels cut the corners of each slice
    assert gtv.volume_cc == pytest.approx(60 * np.prod(SPACING) / 1000, rel=0.04)
    np.testing.assert_allclose(
        gtv.centroid_mm, np.array(ORIGIN) + DIRECTIONS[direction] @ BOX_CENTRE, atol=1e-3
    )
    assert len(case.inputs) == 2
    assert [entry.sha256 for entry in case.inputs] == sorted(entry.sha256 for entry in case.inputs)


def test_a_mask_may_lie_in_another_order_than_the_ct(tmp_path):
    """The same voxels, stored from head to feet and from back to front."""
    path = ct(tmp_path / "ct.nrrd")
    array = (box_mask() == 1).astype(np.uint8)
    turned = SimpleITK.Flip(image(array), (False, True, True), False)
    SimpleITK.WriteImage(turned, str(tmp_path / "gtv.nrrd"))
    plain = write(tmp_path / "plain.nrrd", array)
    case = read_volume(path, {"A": tmp_path / "gtv.nrrd", "B": plain})
    a, b = case.structures
    assert a.volume_cc == pytest.approx(b.volume_cc)
    np.testing.assert_allclose(a.centroid_mm, b.centroid_mm, atol=1e-6)


def test_labels_of_a_map(tmp_path):
    path, labels = ct(tmp_path / "ct.nrrd"), write(tmp_path / "labels.nrrd", box_mask())
    case = read_volume(path, {"GTV": f"{labels}:1", "Duct": f"{labels}:3"})
    assert [s.name for s in case.structures] == ["GTV", "Duct"]
    assert len(case.inputs) == 2
    refused(
        UsageError, lambda: read_volume(path, {"GTV": labels}), "labels 1, 3", "--mask GTV=labels.nrrd:LABEL"
    )
    refused(UsageError, lambda: read_volume(path, {"GTV": f"{labels}:2"}), "has no label 2")


def test_masks_elsewhere_are_refused(tmp_path):
    path, array = ct(tmp_path / "ct.nrrd"), (box_mask() == 1).astype(np.uint8)
    shifted = write(tmp_path / "shifted.nrrd", array, origin=(-20.0, 30.0, -49.0))
    refused(
        UsageError, lambda: read_volume(path, {"GTV": shifted}), "shifted.nrrd", "1.00 mm apart", "resample"
    )
    coarse = write(tmp_path / "coarse.nrrd", array, spacing=(1.5, 1.25, 2.6))
    refused(UsageError, lambda: read_volume(path, {"GTV": coarse}), "coarse.nrrd")
    thinner = write(
        tmp_path / "fine.nrrd",
        np.repeat(array, 2, axis=0),
        spacing=(1.5, 1.25, 1.25),
        origin=(-20.0, 30.0, -50.625),
    )
    refused(UsageError, lambda: read_volume(path, {"GTV": thinner}), "12 x 10 x 12 voxels for 12 x 10 x 6")


def test_masks_that_are_none(tmp_path):
    path = ct(tmp_path / "ct.nrrd")
    empty = write(tmp_path / "empty.nrrd", np.zeros(SHAPE, np.uint8))
    refused(UsageError, lambda: read_volume(path, {"GTV": empty}), "empty.nrrd of 'GTV' is empty")
    soft = write(tmp_path / "soft.nrrd", box_mask().astype(np.float32) * 0.4)
    refused(UsageError, lambda: read_volume(path, {"GTV": soft}), "fractions")
    bad = box_mask().astype(np.float32)
    bad[0, 0, 0] = np.nan
    nan = write(tmp_path / "nan.nrrd", bad)
    refused(BrachyError, lambda: read_volume(path, {"GTV": nan}), "nan.nrrd")
    refused(UsageError, lambda: read_volume(path, {"GTV": tmp_path / "none.nrrd"}), "no file")
    whole = write(tmp_path / "whole.nrrd", (box_mask() == 1).astype(np.float32))
    assert len(read_volume(path, {"GTV": whole}).structures) == 1


def test_masks_added_to_a_dicom_case(shared):
    from brachy.io.dicom.read import read_case

    folder = shared / "data" / "ct_jpeg2000"
    case = add_masks(read_case(folder), {"Label 1": f"{folder / 'labels_totalseg.nii.gz'}:1"})
    (one,) = case.structures
    twin = SimpleITK.ReadImage(str(folder / "labels_totalseg.nii.gz"))
    inside = np.argwhere(SimpleITK.GetArrayFromImage(twin) == 1)[:, ::-1]
    centre = np.mean(
        [twin.TransformContinuousIndexToPhysicalPoint(p.astype(float).tolist()) for p in inside], axis=0
    )
    assert one.volume_cc == pytest.approx(len(inside) * np.prod(twin.GetSpacing()) / 1000, rel=0.01)
    np.testing.assert_allclose(one.centroid_mm, centre, atol=0.2)


# ---- what is no CT ---------------------------------------------------------------------------------------------


def values(low, high, dtype):
    return np.linspace(low, high, int(np.prod(SHAPE))).reshape(SHAPE).astype(dtype)


@pytest.mark.parametrize(
    ("array", "part"),
    [
        (values(0, 1, np.float32), "scaled and not in HU"),
        (values(-3, 3, np.float32), "scaled and not in HU"),
        (values(0, 3000, np.int16), "subtract its offset"),
        (values(0, 255, np.uint8), "8-bit image"),
        (np.full(SHAPE, np.nan, np.float32), "no numbers"),
    ],
)
def test_values_that_are_not_hu(array, part, tmp_path):
    path = write(tmp_path / "ct.nrrd", array)
    refused(BrachyError, lambda: read_volume(path), "ct.nrrd", part)


def test_float_hu(tmp_path):
    whole = read_volume(ct(tmp_path / "whole.nrrd", dtype=np.float32))
    assert whole.ct_hu.dtype == np.int16
    path = write(tmp_path / "half.nrrd", hu_at(points()).astype(np.float64) + 0.5)
    half = read_volume(path)
    assert half.ct_hu.dtype == np.float32
    np.testing.assert_allclose(half.ct_hu, whole.ct_hu + 0.5)
    warm = read_volume(write(tmp_path / "warm.nrrd", values(-50, 80, np.int16)))
    assert any("no air" in note for note in warm.assumed)


# ---- files -----------------------------------------------------------------------------------------------------


def test_files_that_are_no_volume(tmp_path, capfd):
    (tmp_path / "text.nii.gz").write_text("hello")
    refused(BrachyError, lambda: read_volume(tmp_path / "text.nii.gz"), "text.nii.gz is not readable")
    (tmp_path / "text.nrrd").write_text("hello")
    refused(BrachyError, lambda: read_volume(tmp_path / "text.nrrd"), "text.nrrd")
    refused(UsageError, lambda: read_volume(tmp_path / "none.nii"), "no file")
    (tmp_path / "a.png").write_bytes(b"x")
    refused(UsageError, lambda: read_volume(tmp_path / "a.png"), "convert it to .nii, .nii.gz, .nrrd, .mha")
    path = ct(tmp_path / "ct.nrrd")
    path.write_bytes(path.read_bytes()[:-400])
    refused(BrachyError, lambda: read_volume(path), "ct.nrrd")
    assert capfd.readouterr().err == ""


def test_voxels_in_another_file(tmp_path):
    ct(tmp_path / "ct.mhd")
    refused(UsageError, lambda: read_volume(tmp_path / "ct.mhd"), "convert it")
    (tmp_path / "sly.mha").write_bytes((tmp_path / "ct.mhd").read_bytes())
    refused(UsageError, lambda: read_volume(tmp_path / "sly.mha"), "another file")
    (tmp_path / "sly.nrrd").write_text(
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\ndata file: /etc/passwd\n\n"
    )
    refused(UsageError, lambda: read_volume(tmp_path / "sly.nrrd"), "another file")


def test_sizes_before_memory(tmp_path):
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 2000, 2000, 2000, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<hh", header, 252, 0, 1)
    struct.pack_into("<12f", header, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    header[344:348] = b"n+1\0"
    (tmp_path / "huge.nii").write_bytes(header)
    refused(BrachyError, lambda: read_volume(tmp_path / "huge.nii"), "more than 400 million voxels")
    struct.pack_into("<8h", header, 40, 3, 500, 500, 500, 1, 1, 1, 1)
    (tmp_path / "short.nii").write_bytes(header)
    refused(BrachyError, lambda: read_volume(tmp_path / "short.nii"), "cut short")
    (tmp_path / "short.nii.gz").write_bytes(gzip.compress(bytes(header)))
    refused(BrachyError, lambda: read_volume(tmp_path / "short.nii.gz"), "cut short")
    # no affine: it could lie anyhow
    struct.pack_into("<8h", header, 40, 3, 4, 3, 2, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 252, 0, 0)
    (tmp_path / "lost.nii").write_bytes(bytes(header) + bytes(48))
    refused(BrachyError, lambda: read_volume(tmp_path / "lost.nii"), "does not say how it lies")


def test_four_dimensions_and_colours(tmp_path):
    series = SimpleITK.JoinSeries([image(hu_at(points()).astype(np.int16))] * 2)
    SimpleITK.WriteImage(series, str(tmp_path / "series.nii.gz"))
    refused(UsageError, lambda: read_volume(tmp_path / "series.nii.gz"), "12 x 10 x 6 x 2")
    one = SimpleITK.JoinSeries([image(hu_at(points()).astype(np.int16))])
    SimpleITK.WriteImage(one, str(tmp_path / "one.nrrd"))
    assert read_volume(tmp_path / "one.nrrd").ct_hu.shape == SHAPE
    colour = SimpleITK.Compose([image(values(0, 9, np.int16))] * 3)
    SimpleITK.WriteImage(colour, str(tmp_path / "colour.nrrd"))
    refused(UsageError, lambda: read_volume(tmp_path / "colour.nrrd"), "3 values a voxel")


def test_nrrd_without_a_space_is_told(tmp_path):
    head = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nspacings: 1 1 2\nendian: little\nencoding: raw\n\n"
    (tmp_path / "bare.nrrd").write_bytes(head + np.array([-1000, 40] * 4, "<i2").tobytes())
    case = read_volume(tmp_path / "bare.nrrd")
    assert any("names no space" in note for note in case.assumed)
