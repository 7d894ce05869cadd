"""The one folder in which something is kept between runs: compiled kernels and Matplotlib's list of fonts."""

import os
import tempfile
from pathlib import Path


def folder(kind: str) -> Path:
    """Folder of "kernels" or "matplotlib": in XDG_CACHE_HOME, else in ~/.cache.

    Examples
    --------
    >>> folder("kernels").parts[-2:]
    ('brachy', 'kernels')
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "brachy" / kind


def writable(path: Path) -> bool:
    """Whether files can be written in a folder, which is created if it does not exist."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False


def keep_fonts() -> None:
    """Let Matplotlib keep its list of fonts there, unless MPLCONFIGDIR is set; a matplotlibrc at home is not read."""
    if "MPLCONFIGDIR" not in os.environ and writable(folder("matplotlib")):
        os.environ["MPLCONFIGDIR"] = str(folder("matplotlib"))
