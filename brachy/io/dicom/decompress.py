"""Decoder of compressed frames that runs in a separate process: `python decompress.py`, requests in, images out.

The decoders are C++ libraries, and a damaged image can end the process in which they run; here that is this process and
not the user's. The script imports nothing from the package. A request is a line of JSON followed by the bytes of the
frame, a reply a line of JSON followed by the bytes of the pixels.
"""

import json
import sys
import warnings
from typing import Any, BinaryIO

import gdcm
import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID


# requests and replies are JSON between two processes
def decompressed(request: dict[str, Any], frame: bytes) -> np.ndarray[Any, np.dtype[Any]]:
    """Stored values (rows, columns) of one compressed frame."""
    array, _ = get_decoder(UID(request["syntax"])).as_array(
        encapsulate([frame]), raw=True, decoding_plugin=request["plugin"], **request["image"]
    )
    return array


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until the input ends."""
    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    warnings.simplefilter("ignore")
    while line := requests.readline():
        request = json.loads(line)
        frame = requests.read(request["length"])
        try:
            array = np.ascontiguousarray(decompressed(request, frame))
        except Exception:
            reply: dict[str, Any] = {"error": "damaged"}  # JSON for the other process
            content = b""
        else:
            content = array.tobytes()
            reply = {"dtype": array.dtype.str, "shape": array.shape, "length": len(content)}
        replies.write(json.dumps(reply).encode() + b"\n" + content)
        replies.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
