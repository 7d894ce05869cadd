"""Files that lie, break off or were made to harm: a result or one line, never a traceback, a warning or a flood."""

import struct
import zlib

import numpy as np
import pytest
from pydicom import dcmread

from brachy.errors import BrachyError
from brachy.io.dicom import files as room
from brachy.io.dicom.pixels import codestream_size
from brachy.io.dicom.read import read_case, read_dose, read_plan, read_structures
from tests import scanner
from tests.io.dicom.test_read_dose import dose_set
from tests.io.dicom.test_read_plan import A, B, plan_set, seed


def one_line(caught, *parts):
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    for part in parts:
        assert part in message, message


def nested(depth):
    """RTSTRUCT file whose ROI sequence holds itself, `depth` deep, unclosed."""
    head = scanner.common(scanner.STRUCTURE_CLASS, "RTSTRUCT")

    def element(group, number, vr, value):
        return struct.pack("<HH2sH", group, number, vr, len(value)) + value

    meta = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1\0")
    meta = element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta
    body = element(8, 0x16, b"UI", str(head.SOPClassUID).encode().ljust(30, b"\0"))
    body += element(8, 0x60, b"CS", b"RTSTRUCT")
    opening = struct.pack("<HH2sHI", 0x3006, 0x20, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    return bytes(128) + b"DICM" + meta + body + opening * depth


@pytest.mark.parametrize("depth", [3, 200, 5000])
def test_sequences_nested_deeply(depth, tmp_path):
    path = tmp_path / "RS.dcm"
    path.write_bytes(nested(depth))
    for reader in (read_structures, read_case):
        with pytest.raises(BrachyError) as caught:
            reader(path)
        one_line(caught, "RS.dcm")
    if depth == 5000:
        one_line(caught, "nests sequences too deeply")


def test_two_gigabytes_declared_in_a_small_file(tmp_path):
    slices = scanner.ct_slices()
    slices[0].Rows = slices[0].Columns = 32768
    files = scanner.save_all(slices, tmp_path / "case")
    with pytest.raises(BrachyError) as caught:
        read_case(files[0])
    one_line(caught, "CT000.dcm declares 1 x 32768 x 32768 pixels")
    slices[0].Rows = slices[0].Columns = 8000
    scanner.save_all(slices, tmp_path / "case")
    with pytest.raises(BrachyError) as caught:
        read_case(files[0])
    one_line(caught, "CT000.dcm is cut short")
    data = dose_set()
    data.NumberOfFrames = 2_000_000_000
    with pytest.raises(BrachyError) as caught:
        read_dose(scanner.save(data, tmp_path / "RD.dcm"))
    one_line(caught, "RD.dcm declares 2000000000 x 6 x 7 pixels")


def test_pixel_element_longer_than_the_file(tmp_path):
    files = scanner.save_all(scanner.ct_slices(), tmp_path / "case")
    content = files[2].read_bytes()
    at = content.index(struct.pack("<HH2s", 0x7FE0, 0x10, b"OW"))
    files[2].write_bytes(content[: at + 8] + struct.pack("<I", 0xFFFFFFF0) + content[at + 12 :])
    case = read_case(files[0])
    assert case.ct_hu.shape == scanner.SHAPE
    files[2].write_bytes(content[: at + 12 + 20])
    with pytest.raises(BrachyError) as caught:
        read_case(files[0])
    one_line(caught, "CT002.dcm")


def test_deflate_bomb(tmp_path, monkeypatch):
    (tmp_path / "case").mkdir()
    data = scanner.structure_set({"GTV": [scanner.square(-45.0)]}, scanner.ct_slices())
    path = scanner.save(data, tmp_path / "case" / "RS.dcm", "1.2.840.10008.1.2.1.99")
    assert [s.name for s in read_structures(path)] == ["GTV"]
    monkeypatch.setattr(room, "MAX_INFLATED_BYTES", 3_000_000)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    content = path.read_bytes()
    meta = 144 + int.from_bytes(content[140:144], "little")
    bomb = squeeze.compress(bytes(20_000_000)) + squeeze.flush()
    path.write_bytes(content[:meta] + bomb)
    with pytest.raises(BrachyError) as caught:
        read_structures(path)
    one_line(caught, "RS.dcm inflates to more than 3 MB")


def test_file_that_is_too_long(tmp_path, monkeypatch):
    files = scanner.save_all(scanner.ct_slices(), tmp_path / "case")
    monkeypatch.setattr(room, "MAX_FILE_BYTES", 100)
    monkeypatch.setattr(room.StoredFile.read, "__defaults__", (100, True))
    with pytest.raises(BrachyError) as caught:
        read_case(files[0])
    one_line(caught, "CT000.dcm has more than 0 MB")


def test_too_many_files(tmp_path, monkeypatch):
    scanner.save_all(scanner.ct_slices(), tmp_path / "case")
    monkeypatch.setattr(room, "MAX_FILES", 5)
    with pytest.raises(BrachyError) as caught:
        read_case(tmp_path / "case")
    one_line(caught, "more than 5 files below case")


def test_codestream_of_another_size(tmp_path):
    from pydicom.uid import JPEG2000Lossless

    from tests.io.dicom.test_read_ct import compress

    files = scanner.save_all(scanner.ct_slices(shape=(3, 32, 40)), tmp_path / "case")
    for file in files:
        compress(file, JPEG2000Lossless)
    data = dcmread(files[1])
    data.Rows = 48
    data.save_as(files[1])
    with pytest.raises(BrachyError) as caught:
        read_case(files[0])
    one_line(caught, "CT001.dcm holds an image of 32 x 40 pixels where it declares 48 x 40")
    # a stream that promises 60000 x 60000 pixels
    data.Rows = 32
    siz = data.PixelData.index(b"\xff\x4f\xff\x51")
    data.PixelData = (
        data.PixelData[: siz + 8] + struct.pack(">II", 60_000, 60_000) + data.PixelData[siz + 16 :]
    )
    data.save_as(files[1])
    with pytest.raises(BrachyError) as caught:
        read_case(files[0])
    one_line(caught, "60000 x 60000")


def test_a_stream_that_ends_its_decoder_ends_no_more(tmp_path):
    """Flipped bits of the precision make GDCM 3.0 terminate its process; the slices after it are decoded again."""
    from pydicom.encaps import encapsulate, get_frame
    from pydicom.uid import JPEGLSLossless

    from brachy.io.dicom.pixels import Decoder
    from tests.io.dicom.test_read_ct import compress

    files = scanner.save_all(scanner.ct_slices(shape=(3, 32, 40)), tmp_path / "case")
    for file in files:
        compress(file, JPEGLSLossless)
    good, bad = dcmread(files[0]), dcmread(files[1])
    stream = bytearray(get_frame(bad.PixelData, 0, number_of_frames=1))
    stream[6] ^= 0xFF
    bad.PixelData = encapsulate([bytes(stream)])
    with Decoder() as decoder:
        first = decoder.decode(good, 0, "good")
        with pytest.raises(BrachyError) as caught:
            decoder.decode(bad, 0, "bad")
        one_line(caught, "bad cannot be decompressed, it is damaged")
        np.testing.assert_array_equal(decoder.decode(good, 0, "good"), first)
    bad.save_as(files[1])
    with pytest.raises(BrachyError) as caught:
        read_case(files[0])
    one_line(caught, "CT001.dcm cannot be decompressed")


def test_codestream_sizes():
    """Headers typed from the standards' layouts."""
    j2k = b"\xff\x4f\xff\x51" + struct.pack(">HHIIII", 41, 0, 330, 220, 10, 20) + bytes(40)
    assert codestream_size(j2k) == (200, 320)
    jpeg = b"\xff\xd8\xff\xc4" + struct.pack(">H", 6) + bytes(4)
    assert codestream_size(jpeg + b"\xff\xc3" + struct.pack(">HBHH", 11, 16, 512, 256) + bytes(9)) == (
        512,
        256,
    )
    assert codestream_size(jpeg + b"\xff\xf7" + struct.pack(">HBHH", 11, 12, 30, 40) + bytes(9)) == (30, 40)
    assert codestream_size(b"\xff\xd8\xff\xc4" + bytes(20)) is None
    assert codestream_size(b"") is None
    assert codestream_size(bytes(64)) is None


def test_names_that_would_break_a_line(tmp_path):
    name = "GTV\n<b>=cmd|' /C calc'!A0\x07"
    data = scanner.structure_set({name: [scanner.square(-45.0)]})
    (found,) = read_structures(scanner.save(data, tmp_path / "RS.dcm"))
    assert found.name == "GTV <b>=cmd|' /C calc'!A0"


def test_a_name_of_megabytes(tmp_path):
    data = scanner.structure_set({"GTV": [scanner.square(-45.0)]})
    del data.StructureSetROISequence[0].ROIName
    data.StructureSetROISequence[0].add_new(0x30060026, "UT", "x" * 2_000_000)
    (found,) = read_structures(scanner.save(data, tmp_path / "RS.dcm"))
    assert found.name == "x" * 128


# ---- mutations -------------------------------------------------------------------------------------------------


def mutants(content, count, seed):
    """The file with bytes changed, cut, doubled, or lengths and numbers replaced by absurd ones."""
    rng = np.random.default_rng(seed)
    absurd = [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
        b"nan ",
        b"-1e9",
        b"\\\\\\\\",
        b"SQ\0\0",
        b"\xfe\xff\x0d\xe0",
    ]
    for _ in range(count):
        data = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(132, len(data)))
            kind = rng.integers(5)
            if kind == 0:
                data[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                piece = absurd[int(rng.integers(len(absurd)))]
                data[at : at + len(piece)] = piece
            elif kind == 2:
                del data[at : at + int(rng.integers(1, 40))]
            elif kind == 3:
                data[at:at] = data[at : at + int(rng.integers(1, 40))]
            else:
                del data[at:]
            if len(data) < 160:
                break
        yield bytes(data)


READERS = {
    "RTSTRUCT": (
        read_structures,
        lambda: scanner.structure_set({"GTV": [scanner.square(z) for z in (-45.0, -42.5)]}),
    ),
    "RTPLAN": (read_plan, lambda: plan_set([[seed(A), seed(B, 2, axis=(0, 0, 1))]])),
    "RTDOSE": (read_dose, dose_set),
}


@pytest.mark.parametrize("kind", READERS)
def test_mutants_end_in_a_result_or_one_line(kind, tmp_path, capfd):
    reader, make = READERS[kind]
    path = scanner.save(make(), tmp_path / "X.dcm")
    content = path.read_bytes()
    messages = []
    for mutant in mutants(content, 150, seed=len(kind)):
        path.write_bytes(mutant)
        try:
            reader(path)
        except BrachyError as error:
            messages.append(str(error))
    assert_quiet(messages, capfd)


def test_mutated_slices_end_in_a_case_or_one_line(tmp_path, capfd):
    files, structures, _ = scanner.box_case(tmp_path / "case")
    content = files[2].read_bytes()
    messages = []
    for mutant in mutants(content, 100, seed=5):
        files[2].write_bytes(mutant)
        try:
            read_case(structures)
        except BrachyError as error:
            messages.append(str(error))
    assert_quiet(messages, capfd)


def assert_quiet(messages, capfd):
    """Some mutants were refused, each in one line, and nothing else was said."""
    assert len(messages) > 10
    assert not [message for message in messages if "\n" in message or len(message) > 600]
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""
