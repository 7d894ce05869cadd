"""Write files completely or not at all, and JSON as reproducible text (6 significant digits, fixed order of keys)."""

import json
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brachy.errors import BrachyError


def rounded(value: Any, digits: int = 6) -> Any:
    """Copy of JSON data with every float rounded to `digits` significant digits.

    Raises
    ------
    ValueError
        If a float is not finite, so that none is ever written.
    TypeError
        If a value has no form in JSON.
    """
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError("a number of the plan is not finite")
        short = float(f"{number:.{digits}g}")
        return 0.0 if short == 0 else short
    if isinstance(value, dict):
        return {str(key): rounded(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [rounded(item, digits) for item in value]
    if isinstance(value, np.integer):
        return int(value)
    raise TypeError(f"{type(value).__name__} cannot be written to JSON")


def canonical(data: Mapping[str, object]) -> str:
    """JSON text: indented by two spaces, order of keys kept, not escaped to ASCII, with a final newline."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_text_whole(path: Path, text: str) -> None:
    """Write a text file (UTF-8) completely or not at all, as `write_bytes_whole`."""
    write_bytes_whole(path, text.encode("utf-8"))


def write_bytes_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all: under a temporary name in the same folder, fsync, then rename.

    Raises
    ------
    BrachyError
        If the folder does not exist or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        # "x" never follows a link or replaces a file of another process; permissions are those of the umask
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BrachyError(f"cannot write {path}: {error.strerror}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
