"""Faults found with mutated inputs and corrected, each with the file that caused it, now refused or read."""

import json
import zipfile
import zlib

import pytest

from brachy.dosimetry.source import load_source
from brachy.errors import BrachyError, UsageError
from brachy.io.dicom.files import _check_inflated_size, printable
from brachy.io.load import load_case
from brachy.io.phantom.file import load_phantom
from brachy.postimplant.registration import by_file
from brachy.postimplant.seed_files import read_seeds
from tests.fuzz.targets import ROOT, SOURCE

TFM = """#Insight Transform File V1.0
#Transform 0
Transform: Euler3DTransform_double_3_3
Parameters: {} 0 0.1 5 -2 0.5
FixedParameters: 0 0 0 0
"""


@pytest.mark.parametrize("word", ["$0", "(0", "rameters:", "1e999999", "-", "", "0 0 0 0 0 0 0"])
def test_transform_with_words_that_are_no_numbers(word, tmp_path):
    """ITK ends the process at such a word."""
    file = tmp_path / "t.tfm"
    file.write_text(TFM.format(word))
    with pytest.raises(UsageError, match=r"t\.tfm is n"):
        by_file(file)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 8, b"no HDF"])
def test_transform_of_hdf5_that_is_none(content, tmp_path):
    file = tmp_path / "t.h5"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="is no transform"):
        by_file(file)


def test_transform_of_hdf5_is_read_in_a_process_of_its_own(tmp_path):
    import SimpleITK as sitk

    given = sitk.Euler3DTransform((0, 0, 0), 0.0, 0.0, 0.25, (1.0, 2.0, 3.0))
    sitk.WriteTransform(given, str(tmp_path / "t.h5"))
    sitk.WriteTransform(given, str(tmp_path / "t.tfm"))
    matrix = by_file(tmp_path / "t.h5").transform
    assert matrix[:3, 3].tolist() == pytest.approx([1.0, 2.0, 3.0])
    assert matrix == pytest.approx(by_file(tmp_path / "t.tfm").transform, abs=1e-9)


@pytest.mark.parametrize("dimensions", ["-1e9", "-1", "0", "5", "99999999999", "x"])
def test_meta_image_of_no_dimension(dimensions, tmp_path):
    """The library ends the process at a negative number."""
    file = tmp_path / "ct.mha"
    head = f"ObjectType = Image\nNDims = {dimensions}\nDimSize = 2 2 2\nElementType = MET_SHORT\n"
    head += "ElementDataFile = LOCAL\n"
    file.write_bytes(head.encode() + bytes(16))
    with pytest.raises(BrachyError, match="NDims"):
        load_case(file)


def test_zip_with_a_member_without_name(tmp_path):
    file = tmp_path / "case.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("ab", b"x")
    file.write_bytes(file.read_bytes().replace(b"ab", b"\x00b"))
    with pytest.raises(BrachyError):
        load_case(file)


def test_source_with_a_value_where_a_table_follows(tmp_path):
    file = tmp_path / "s.csv"
    file.write_text("radial_dose_function,3\n" + SOURCE.replace("radial_dose_function.source,t\r\n", ""))
    with pytest.raises(UsageError, match=r"row .*'radial_dose_function' is a table"):
        load_source(str(file))


def test_seeds_whose_header_is_ten_megabytes(tmp_path):
    file = tmp_path / "seeds.csv"
    file.write_text("x" * 10_000_000 + ",y_mm,z_mm\n1,2,3\n")
    with pytest.raises(UsageError, match=r"seeds\.csv"):
        read_seeds(file)


@pytest.mark.parametrize("behind", [b"x", b"x" * 100_000])
@pytest.mark.parametrize("size", [5, 1 << 20, (3 << 20) + 7])
def test_deflated_file_with_bytes_behind_its_end(size, behind):
    """Its size was counted for ever."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(b"a" * size) + deflate.flush()
    head = bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + bytes(4)
    _check_inflated_size(head + body + behind, "deflated.dcm")


def test_ten_megabytes_of_text_are_cut_to_what_a_case_needs():
    assert len(printable("x" * 10_000_000)) == 10_240


PHANTOM = (ROOT / "tests/fuzz/phantom.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("semi_axes_mm = [4.0, 4.0, 4.0]", "semi_axes_mm = [1e308, 4.0, 4.0]"),
        ("semi_axes_mm = [4.0, 4.0, 4.0]", "semi_axes_mm = [5e-324, 4.0, 4.0]"),
        ("spacing_mm = [2.0, 2.0, 2.0]", "spacing_mm = [2.0, 5e-324, 2.0]"),
        ("spacing_mm = [2.0, 2.0, 2.0]", "spacing_mm = [1e308, 2.0, 2.0]"),
        ("voxels = [11, 11, 7]", "voxels = [1, 11, 7]"),
        ("voxels = [11, 11, 7]", "voxels = [2000, 2000, 2000]"),
        ("first_voxel_mm = [-10.0, -10.0, -6.0]", "first_voxel_mm = [1e30, -10.0, -6.0]"),
        ("blur_in_plane_mm = 0.4", "blur_in_plane_mm = 1e9"),
        ("blur_in_plane_mm = 0.4", "blur_in_plane_mm = 5e-324"),
        ("seed_hu_mm3 = 34000.0", "seed_hu_mm3 = 1e308"),
        ("hardening_per_mm = 0.03", "hardening_per_mm = 1e300"),
        ("steps = [0, 1]", "steps = [0, 1000000000000000000000000000000]"),
        ('source = "amersham_6711"', f'source = "{"x" * 5000}"'),
    ],
)
def test_phantom_with_numbers_that_nothing_real_has(old, new, tmp_path):
    assert old in PHANTOM
    file = tmp_path / "f.toml"
    file.write_text(PHANTOM.replace(old, new, 1))
    with pytest.raises(UsageError, match=r"f\.toml|unknown source"):
        load_phantom(file)


def test_phantom_with_seeds_beside_the_scan_is_read(tmp_path):
    file = tmp_path / "f.toml"
    file.write_text(PHANTOM.replace("first_mm = [0.0, 2.0, 0.0]", "first_mm = [300.0, -900.0, 0.0]"))
    assert load_phantom(file).ct_hu.max() < 200


def test_json_of_a_hundred_thousand_brackets(tmp_path):
    for content in ("[" * 100_000, json.dumps({"transform": None})):
        file = tmp_path / "t.json"
        file.write_text(content)
        with pytest.raises(UsageError, match="is no transform"):
            by_file(file)
