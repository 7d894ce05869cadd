"""Whole files and stable text: written completely or not at all, floats at 6 significant digits, keys in order."""

import json
import math
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from brachy.errors import BrachyError


def rounded(value: Any, digits: int = 6) -> Any:
    """Copy of JSON data with every float at `digits` significant digits.

    Raises
    ------
    ValueError
        If a float is not finite: such a number never reaches a file.
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


def canonical(data: dict[str, Any]) -> str:
    """Text form of JSON data: two spaces, key order kept, UTF-8, a final newline."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_text_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all: temporary name, fsync, rename."""
    write_bytes_whole(path, text.encode("utf-8"))


def write_bytes_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: temporary name in the same folder, fsync, rename.

    Raises
    ------
    BrachyError
        If the folder does not exist or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        # "x" never follows or replaces what another process put there, and leaves the permissions to the umask
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
