"""Finds and reads the shipped data (source files, protocols, phantoms), in an installed wheel and in a checkout."""

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from brachy.errors import UsageError

_DATA = Path(__file__).parent / "data"
_CHECKOUT = Path(__file__).parent.parent
Tables = dict[str, Any]  # what a person wrote: of any type until a record has checked it
"""Tables of a file in the TOML layout, before a record checks them."""

MAX_TEXT_BYTES = 20_000_000
"""Largest protocol, phantom or source file that is read; real ones have some kilobytes (engineering choice)."""


def folder(kind: str) -> Path:
    """Folder of the shipped `kind`: "sources", "plans" or "phantoms".

    A wheel has plans and phantoms under brachy/data; a checkout has them at its top.

    Raises
    ------
    FileNotFoundError
        If the installation is incomplete.
    """
    for candidate in (_DATA / kind, _CHECKOUT / kind):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"the installation of brachy has no folder '{kind}': install it again")


def data_file(name: str) -> Path:
    """Path of a shipped data file directly under brachy/data.

    Examples
    --------
    >>> data_file("uncertainty.toml").is_file()
    True
    """
    return _DATA / name


def names(kind: str) -> list[str]:
    """Sorted names (file stems) of the shipped files of `kind`.

    Examples
    --------
    >>> "amersham_6711" in names("sources")
    True
    """
    return sorted(path.stem for path in folder(kind).glob("*.toml"))


_SINGULAR = {"sources": "source", "plans": "protocol", "phantoms": "phantom"}


def find(kind: str, name: str) -> Path:
    """Path of a TOML file that is given as the name of a shipped file or as a path.

    Raises
    ------
    UsageError
        If it is neither; the message lists the shipped names.

    Examples
    --------
    >>> find("sources", "amersham_6711").name
    'amersham_6711.toml'
    """
    path = Path(name)
    if path.suffix == ".toml":
        if is_file(path):
            return path
        raise UsageError(f"no file {name}: give an existing .toml or one of {', '.join(names(kind))}")
    shipped = folder(kind) / f"{name}.toml"
    if path.name == name and is_file(shipped):
        return shipped
    known = names(kind)
    like = [each for each in known if name and name.casefold() in each] or get_close_matches(name, known, 1)
    meant = f" (did you mean {like[0]}?)" if len(like) == 1 else ""
    raise UsageError(
        f"unknown {_SINGULAR[kind]} '{name}'{meant}: choose from {', '.join(known)}, or give a .toml file"
    )


def is_file(path: Path) -> bool:
    """Whether a path given by a user is a file; False for a name that the system does not allow.

    Examples
    --------
    >>> is_file(Path("x" * 5000))
    False
    """
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_bounded(path: Path, what: str) -> bytes:
    """Bytes of a small file given by a user; `what` names the file in error messages.

    Raises
    ------
    UsageError
        If it cannot be read or has more than `MAX_TEXT_BYTES`.

    Examples
    --------
    >>> len(read_bounded(find("sources", "amersham_6711"), "the source file")) > 1000
    True
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_TEXT_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{what} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_TEXT_BYTES:
        raise UsageError(f"{what} has more than {MAX_TEXT_BYTES // 1_000_000} MB: this is no such file")
    return content


def toml_of(content: bytes, what: str) -> Tables:
    """Tables of a TOML file from its bytes; `what` names the file in error messages.

    Raises
    ------
    UsageError
        If it is not valid TOML in UTF-8, or nested too deeply to be parsed.

    Examples
    --------
    >>> toml_of(b"a = 1", "protocol my.toml")
    {'a': 1}
    """
    try:
        return tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # a number with too many digits raises a plain ValueError
        raise UsageError(f"{what} is not valid TOML: {error}") from None
