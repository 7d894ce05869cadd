"""Stored pixel values of CT and dose, of any usual transfer syntax; sizes are checked before memory is taken."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid as syntaxes
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder

from brachy.dicom.files import integer, shown, text
from brachy.errors import BrachyError

MAX_VOXELS = 400_000_000
MAX_SIDE = 8192
"""Bounds of a volume and of a slice (engineering choices; 1500 slices of 512 x 512 have 393 million voxels)."""

# Each compressed syntax has one decoder that is a dependency of the product, so that an image reads the same
# whatever else is installed.
_PLUGINS = {
    syntaxes.RLELossless: "pydicom",
    syntaxes.JPEGBaseline8Bit: "gdcm",
    syntaxes.JPEGLossless: "gdcm",
    syntaxes.JPEGLosslessSV1: "gdcm",
    syntaxes.JPEGLSLossless: "gdcm",
    syntaxes.JPEGLSNearLossless: "gdcm",
    syntaxes.JPEG2000Lossless: "gdcm",
    syntaxes.JPEG2000: "gdcm",
}
_PLAIN = {
    syntaxes.ImplicitVRLittleEndian,
    syntaxes.ExplicitVRLittleEndian,
    syntaxes.ExplicitVRBigEndian,
    syntaxes.DeflatedExplicitVRLittleEndian,
}


def check_size(dataset: Dataset, frames: int, name: str) -> None:
    """Refuse an image whose declared size is absurd or not that of its pixel data.

    Raises
    ------
    BrachyError
        With the numbers.
    """
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    bits = integer(dataset, "BitsAllocated") or 0
    if not (1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE and frames >= 1):
        raise BrachyError(f"{shown(name)} declares {frames} x {rows} x {columns} pixels: export it again")
    if rows * columns * frames > MAX_VOXELS:
        raise BrachyError(
            f"{shown(name)} declares {frames} x {rows} x {columns} pixels, more than {MAX_VOXELS // 10**6} million"
        )
    if bits not in (8, 16, 32) or (integer(dataset, "SamplesPerPixel") or 1) != 1:
        raise BrachyError(f"{shown(name)} is no grey image of 8, 16 or 32 bits: export the original images")
    data = dataset.get("PixelData")
    if data is None:
        raise BrachyError(f"{shown(name)} has no pixel data: export it again")
    expected = rows * columns * frames * bits // 8
    if _syntax(dataset) in _PLAIN and len(data) < expected:
        raise BrachyError(
            f"{shown(name)} is cut short: {len(data)} bytes of pixel data for {frames} x {rows} x {columns} pixels "
            f"({expected} bytes); copy it again"
        )


def decode(dataset: Dataset, index: int, name: str) -> NDArray[Any]:
    """Stored values (rows, columns) of one frame, signed or unsigned as the file says.

    Raises
    ------
    BrachyError
        If the transfer syntax is not supported, or the image inside is of another size than the file says.
    """
    syntax = _syntax(dataset)
    if syntax in _PLAIN:
        options: dict[str, Any] = {}
    elif syntax in _PLUGINS:
        _check_codestream(dataset, index, name)
        options = {"decoding_plugin": _PLUGINS[syntax]}
        _silence_gdcm()
    else:
        raise BrachyError(
            f"{shown(name)} is compressed as {_title(syntax)}, which is not read: decompress it first"
        )
    decoder = get_decoder(syntax)
    array, _ = decoder.as_array(dataset, index=index, raw=True, **options)
    shape = (integer(dataset, "Rows"), integer(dataset, "Columns"))
    if array.shape != shape:
        raise BrachyError(
            f"{shown(name)} decodes to {array.shape} pixels where it declares {shape}: export it again"
        )
    return array


def decode_all(dataset: Dataset, frames: int, name: str) -> NDArray[Any]:
    """Stored values (frames, rows, columns) of a multi-frame image."""
    return np.stack([decode(dataset, index, name) for index in range(frames)])


def _syntax(dataset: Dataset) -> syntaxes.UID:
    """Transfer syntax; a file without meta information is what pydicom found it to be."""
    meta = getattr(dataset, "file_meta", None)
    named = text(meta, "TransferSyntaxUID") if meta is not None else ""
    if named:
        return syntaxes.UID(named)
    implicit, little = dataset.original_encoding
    if implicit or little is None:
        return syntaxes.ImplicitVRLittleEndian
    return syntaxes.ExplicitVRLittleEndian if little else syntaxes.ExplicitVRBigEndian


def _title(syntax: syntaxes.UID) -> str:
    return shown(syntax.name if syntax.is_transfer_syntax else str(syntax))


def _silence_gdcm() -> None:
    """GDCM writes its complaints to the terminal; the readers say in their own words what is wrong."""
    import gdcm

    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    gdcm.Trace.DebugOff()


def _check_codestream(dataset: Dataset, index: int, name: str) -> None:
    """A compressed frame names its own size; a decoder would take memory for that, so it must be the file's."""
    frames = integer(dataset, "NumberOfFrames") or 1
    stream = get_frame(dataset.PixelData, index, number_of_frames=frames)
    size = codestream_size(stream)
    declared = (integer(dataset, "Rows"), integer(dataset, "Columns"))
    if size is not None and size != declared:
        raise BrachyError(
            f"{shown(name)} holds a compressed image of {size[0]} x {size[1]} pixels where it declares "
            f"{declared[0]} x {declared[1]}: export it again"
        )


def codestream_size(stream: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 stream declares, None for any other.

    References
    ----------
    ISO/IEC 10918-1 B.2.2 (frame header), 14495-1 C.2.2 (SOF55), 15444-1 A.5.1 (SIZ).
    """
    siz = stream.find(b"\xff\x4f\xff\x51", 0, 4096)
    if siz >= 0:
        x1, y1, x0, y0 = (int.from_bytes(stream[siz + at : siz + at + 4], "big") for at in (8, 12, 16, 20))
        return y1 - y0, x1 - x0
    if stream[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return int.from_bytes(stream[at + 5 : at + 7], "big"), int.from_bytes(
                stream[at + 7 : at + 9], "big"
            )
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None
