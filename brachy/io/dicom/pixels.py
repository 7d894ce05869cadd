"""Decodes pixel values of CT and dose in all usual transfer syntaxes; sizes are checked before memory is allocated."""

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid as syntaxes
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder

from brachy.errors import BrachyError
from brachy.io.dicom.files import integer, shown, text

MAX_VOXELS = 400_000_000
MAX_SIDE = 8192
"""Limits of a volume and of a slice's side (engineering choices; 1500 slices of 512 x 512 are 393 million voxels)."""

SECONDS_A_FRAME = 30.0
"""Time after which the decoding process is killed (engineering choice; a slice takes some hundredths of a second)."""

_PLAIN = {
    syntaxes.ImplicitVRLittleEndian,
    syntaxes.ExplicitVRLittleEndian,
    syntaxes.ExplicitVRBigEndian,
    syntaxes.DeflatedExplicitVRLittleEndian,
}
# Each compressed syntax has one decoder, which is a dependency of the package, so that an image is decoded in the same
# way whatever else is installed.
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


def check_size(dataset: Dataset, frames: int, name: str) -> None:
    """Refuse an image whose declared size is implausible or differs from that of its pixel data.

    Raises
    ------
    BrachyError
        With the declared and the found size.
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


class Decoder:
    """Decodes frames; a context manager, because compressed frames are decoded in a separate process.

    A damaged JPEG-LS image can end the process that decodes it (an exception in the C++ code of GDCM 3), so it must not
    be the user's process. It is started at the first compressed frame and ended with the context.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def decode(self, dataset: Dataset, index: int, name: str) -> NDArray[Any]:
        """Stored values (rows, columns) of one frame, signed or unsigned as in the file.

        Raises
        ------
        BrachyError
            If the transfer syntax is not supported, or the frame is damaged or has another size than declared.
        """
        syntax = _syntax(dataset)
        if syntax in _PLAIN or _PLUGINS.get(syntax) == "pydicom":
            array, _ = get_decoder(syntax).as_array(dataset, index=index, raw=True)
        elif syntax in _PLUGINS:
            array = self._decompressed(dataset, index, name, syntax)
        else:
            raise BrachyError(
                f"{shown(name)} is compressed as {_title(syntax)}, which is not read: decompress it first"
            )
        shape = (integer(dataset, "Rows"), integer(dataset, "Columns"))
        if array.shape != shape:
            raise BrachyError(
                f"{shown(name)} decodes to {array.shape} pixels where it declares {shape}: export it again"
            )
        return array

    def _decompressed(self, dataset: Dataset, index: int, name: str, syntax: syntaxes.UID) -> NDArray[Any]:
        frames = integer(dataset, "NumberOfFrames") or 1
        frame = get_frame(dataset.PixelData, index, number_of_frames=frames)
        rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
        # the compressed stream has a size of its own, for which a decoder would allocate memory
        size = codestream_size(frame)
        if size != (rows, columns):
            held = "no image" if size is None else f"an image of {size[0]} x {size[1]} pixels"
            raise BrachyError(
                f"{shown(name)} holds {held} where it declares {rows} x {columns} pixels: export it again"
            )
        request = {
            "syntax": str(syntax),
            "plugin": _PLUGINS[syntax],
            "length": len(frame),
            "image": {
                "number_of_frames": 1,
                "samples_per_pixel": 1,
                "pixel_keyword": "PixelData",
                "rows": rows,
                "columns": columns,
                "bits_allocated": integer(dataset, "BitsAllocated"),
                "bits_stored": integer(dataset, "BitsStored"),
                "pixel_representation": integer(dataset, "PixelRepresentation") or 0,
                "photometric_interpretation": text(dataset, "PhotometricInterpretation") or "MONOCHROME2",
            },
        }
        reply, content = self._ask(request, frame)
        if "error" in reply:
            raise BrachyError(f"{shown(name)} cannot be decompressed, it is damaged: copy or export it again")
        return np.frombuffer(content, dtype=np.dtype(reply["dtype"])).reshape(reply["shape"])

    # request and reply are JSON between two processes
    def _ask(self, request: dict[str, Any], frame: bytes) -> tuple[dict[str, Any], bytes]:
        """Reply of the decoding process; if that has died or took too long, a reply with an error."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(SECONDS_A_FRAME, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n" + frame)
            process.stdin.flush()
            # JSON of the other process, checked where it is used
            reply: dict[str, Any] = json.loads(process.stdout.readline())
            return reply, process.stdout.read(reply.get("length", 0))
        except (OSError, ValueError):
            self._end()
            return {"error": "no reply"}, b""
        except BaseException:  # interrupted: the reply to this request must not be read as that to the next
            self._end()
            raise
        finally:
            timer.cancel()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            # -P: no module in the current folder can be imported in place of a library
            script = Path(__file__).with_name("decompress.py")
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()


def _syntax(dataset: Dataset) -> syntaxes.UID:
    """Transfer syntax of the file, or the encoding that pydicom found if there is no meta information."""
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


def codestream_size(stream: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 stream declares, None for any other stream.

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
