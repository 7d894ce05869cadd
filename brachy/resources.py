"""Where the shipped data are: source files, protocols (plans/) and phantoms, in a wheel and in a checkout."""

from pathlib import Path

from brachy.errors import UsageError

_DATA = Path(__file__).parent / "data"
_CHECKOUT = Path(__file__).parent.parent


def folder(kind: str) -> Path:
    """Folder of the shipped `kind`: "sources", "plans" or "phantoms".

    A wheel carries plans and phantoms under brachy/data; a checkout has them at its top.

    Raises
    ------
    FileNotFoundError
        If the installation is incomplete.
    """
    for candidate in (_DATA / kind, _CHECKOUT / kind):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"the installation of brachy has no folder '{kind}': install it again")


def names(kind: str) -> list[str]:
    """Sorted names (file stems) of the shipped files of `kind`.

    Examples
    --------
    >>> "amersham_6711" in names("sources")
    True
    """
    return sorted(path.stem for path in folder(kind).glob("*.toml"))


_ONE = {"sources": "source", "plans": "protocol", "phantoms": "phantom"}


def find(kind: str, name: str) -> Path:
    """Path of a TOML file given as a shipped name or as a path.

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
        if path.is_file():
            return path
        raise UsageError(f"no file {name}: give an existing .toml or one of {', '.join(names(kind))}")
    shipped = folder(kind) / f"{name}.toml"
    if path.name == name and shipped.is_file():
        return shipped
    raise UsageError(
        f"unknown {_ONE[kind]} '{name}': choose from {', '.join(names(kind))}, or give a .toml file"
    )
