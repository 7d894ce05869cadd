"""Access to the files of a case in a folder, a zip or beside a single file, and safe reading of DICOM values.

Nothing is unpacked to disk, and sizes are limited before memory is allocated. Warnings of pydicom are suppressed and
its many exceptions become one-line errors. Values are read from the raw bytes, so that a file with invalid UIDs,
numbers or character sets is read as it is.
"""

import hashlib
import io
import math
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydicom import dcmread
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from brachy.errors import BrachyError, UsageError

# Limits before memory is allocated (engineering choices; a CT of 1500 slices has well under half of each).
MAX_FILES = 20_000
MAX_FILE_BYTES = 1_000_000_000
MAX_ZIP_BYTES = 8_000_000_000
MAX_INFLATED_BYTES = 1_000_000_000
LONGEST_TEXT = 10_240  # of LT, the longest text that a case needs (PS3.5 table 6.2-1); longer text is cut

_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_DEFLATED = b"1.2.840.10008.1.2.1.99"
# first elements of a data set written without preamble: group 0002 or 0008, little endian
_BARE_STARTS = tuple(
    bytes((group, 0, element, 0))
    for group in (2, 8)
    for element in (0x00, 0x01, 0x05, 0x08, 0x10, 0x12, 0x16)
)


@dataclass(frozen=True, eq=False)
class StoredFile:
    """A file on disk or a member of a zip.

    Parameters
    ----------
    name : str
        Name without folders.
    place : str
        Path relative to the folder where the search began; used in messages and for sorting.
    path : Path
        The file, or the zip that contains it.
    archive : ZipFile, optional
        The open zip.
    member : str
        Name inside the zip.
    """

    name: str
    place: str
    path: Path
    archive: zipfile.ZipFile | None = None
    member: str = ""

    def read(self, limit: int = MAX_FILE_BYTES, whole: bool = True) -> bytes:
        """Bytes of the file, at most `limit`; with `whole` a longer file raises an error."""
        try:
            if self.archive is None:
                with self.path.open("rb") as stream:
                    content = stream.read(min(limit, os.fstat(stream.fileno()).st_size) + 1)
            else:
                with self.archive.open(self.member) as member:
                    content = member.read(min(limit, self.archive.getinfo(self.member).file_size) + 1)
        except OSError as error:
            raise BrachyError(f"cannot read {shown(self.place)}: {error.strerror or error}") from None
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            RuntimeError,
            NotImplementedError,
            ValueError,
        ) as error:
            raise BrachyError(
                f"cannot read {shown(self.place)} in {shown(self.path.name)} ({first_line(error)}): pack it again "
                "without a password"
            ) from None
        if whole and len(content) > limit:
            raise BrachyError(
                f"{shown(self.place)} has more than {limit // 1_000_000} MB: this is no file of a case"
            )
        return content[:limit]

    def looks_like_dicom(self) -> bool:
        """Whether the first bytes are those of a DICOM file; False if the file cannot be read."""
        try:
            return looks_like_dicom(self.read(132, whole=False))
        except BrachyError:
            return False


def looks_like_dicom(start: bytes) -> bool:
    """Whether a file with these first 132 bytes is DICOM, with or without preamble."""
    return start[128:132] == b"DICM" or start[:4] in _BARE_STARTS


def is_zip(path: Path) -> bool:
    """Whether a file is a zip, by its first bytes or its name."""
    return (
        path.suffix.lower() == ".zip"
        or StoredFile(path.name, path.name, path).read(4, whole=False) in _ZIP_STARTS
    )


def sha256(content: bytes) -> str:
    """SHA-256 of the bytes, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def stages(path: Path) -> Iterator[Iterator[list[StoredFile]]]:
    """Batches of files in which a case is searched, nearest first, each file once.

    For a zip these are its members; for a folder all files below it, then the files of the folder above; for a file the
    same, starting from its folder. Links to folders are not followed.

    Raises
    ------
    UsageError
        If there is no such file, or more than `MAX_FILES` files below the folder.
    """
    if path.is_dir():
        yield _around(path)
    elif not path.is_file():
        raise UsageError(f"no file or folder {path}: give a .dcm file, a folder or a zip")
    elif is_zip(path):
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise BrachyError(
                f"{path.name} is no readable zip ({first_line(error)}): pack it again"
            ) from None
        with archive:
            yield iter([_members(path, archive)])
    else:
        yield _around(path.parent)


def _around(folder: Path) -> Iterator[list[StoredFile]]:
    base = folder.resolve()
    below = [_stored(file, base) for file in _walk(base)]
    yield below
    above = base.parent
    if above == base:
        return
    yield [_stored(file, above) for file in _files_in(above)]


def _stored(file: Path, base: Path) -> StoredFile:
    return StoredFile(file.name, file.relative_to(base).as_posix(), file)


def _walk(base: Path) -> Iterator[Path]:
    count = 0
    for folder, folders, names in os.walk(base):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > MAX_FILES:
                raise UsageError(
                    f"more than {MAX_FILES} files below {base.name}: put the case in its own folder"
                )
            file = Path(folder, name)
            if file.is_file():
                yield file


def _files_in(folder: Path) -> list[Path]:
    """Files directly in a folder; none if the folder may not be listed."""
    try:
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in found if entry.is_file())
    except OSError:
        return []
    return [folder / name for name in names[:MAX_FILES]]


def _members(path: Path, archive: zipfile.ZipFile) -> list[StoredFile]:
    infos = [info for info in archive.infolist() if info.filename and not info.is_dir()]
    if len(infos) > MAX_FILES:
        raise UsageError(f"{path.name} holds more than {MAX_FILES} files: pack the case alone")
    if sum(info.file_size for info in infos) > MAX_ZIP_BYTES:
        raise BrachyError(
            f"{path.name} unpacks to more than {MAX_ZIP_BYTES // 10**9} GB: pack the case alone"
        )
    files = [StoredFile(PurePosixPath(i.filename).name, i.filename, path, archive, i.filename) for i in infos]
    return sorted(files, key=lambda file: file.place)


# ---- into pydicom ----------------------------------------------------------------------------------------------


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn exceptions of pydicom and numpy in the block into a one-line BrachyError that names the file.

    Warnings are suppressed: the readers check themselves what matters and report it as an assumption.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except BrachyError:
            raise
        except RecursionError:
            raise BrachyError(
                f"{shown(name)} nests sequences too deeply to be a real file: export it again"
            ) from None
        except MemoryError:
            raise BrachyError(
                f"{shown(name)} declares more data than fits in memory: export it again"
            ) from None
        except Exception as error:
            raise BrachyError(
                f"{shown(name)} is not readable as DICOM ({first_line(error)}): export it again"
            ) from error


def parse(content: bytes, name: str, tags: Sequence[str] | None = None, pixels: bool = False) -> Dataset:
    """Data set from the bytes of a DICOM file; to be called inside `reading`.

    Parameters
    ----------
    content : bytes
        The whole file.
    name : str
        Name of the file, for messages.
    tags : sequence of str, optional
        Keywords to keep; all by default.
    pixels : bool
        Whether to keep the pixel data.
    """
    if _DEFLATED in content[:1024]:
        _check_inflated_size(content, name)
    keep = None if tags is None else list(tags)
    return dcmread(io.BytesIO(content), stop_before_pixels=not pixels, specific_tags=keep, force=True)


def _check_inflated_size(content: bytes, name: str) -> None:
    """Refuse a deflated file that inflates to too much: it is inflated in pieces, before pydicom allocates memory."""
    start = (
        144 + int.from_bytes(content[140:144], "little")
        if content[132:136] == b"\x02\x00\x00\x00"
        else len(content)
    )
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    total, rest = 0, content[start:]
    while rest and not inflate.eof:
        total += len(inflate.decompress(rest, 1 << 20))
        if total > MAX_INFLATED_BYTES:
            raise BrachyError(
                f"{shown(name)} inflates to more than {MAX_INFLATED_BYTES // 10**6} MB: this is no file of a case"
            )
        rest = inflate.unconsumed_tail


def _raw(dataset: Dataset, keyword: str) -> bytes | None:
    """Raw bytes of an element, or None if it is absent or pydicom has converted it already."""
    element: object = dataset.get_item(keyword)
    return element.value or b"" if isinstance(element, RawDataElement) else None


def text(dataset: Dataset, keyword: str, charset: Sequence[str] | None = None) -> str:
    """Text of an element, "" if absent: printable, without padding; several values are joined by backslashes.

    `charset` is the one that the file declares (`declared_charset`). Text that is not valid in it, or in a file that
    declares none, is read as UTF-8 if it is valid UTF-8, else as Latin-1.
    """
    raw = _raw(dataset, keyword)
    if raw is None:
        value = dataset.get(keyword)
        if value is None:
            return ""
        several = not isinstance(value, (str, bytes)) and isinstance(value, Sequence)
        return printable("\\".join(str(part) for part in value) if several else str(value))
    return printable(_decoded(raw[:LONGEST_TEXT], charset)[0])


def guessed(dataset: Dataset, keyword: str, charset: Sequence[str] | None = None) -> bool:
    """Whether `text` guesses the character set of an element."""
    raw = _raw(dataset, keyword)
    return raw is not None and not _decoded(raw[:LONGEST_TEXT], charset)[1]


def _decoded(raw: bytes, charset: Sequence[str] | None) -> tuple[str, bool]:
    """Text from bytes, and whether it is in the character set that the file declares."""
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii"), True
    if charset:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                return decode_bytes(raw, list(charset), set(b"\\^=")), True
            except (UserWarning, UnicodeError, LookupError, ValueError):
                pass
    try:
        return raw.decode("utf-8"), False
    except UnicodeDecodeError:
        return raw.decode("iso8859-1"), False


def declared_charset(dataset: Dataset) -> list[str] | None:
    """Python names of the Specific Character Set of a file; None if it declares none, or an unknown one."""
    declared = [part.strip() for part in text(dataset, "SpecificCharacterSet").split("\\")]
    if not any(declared):
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names = convert_encodings(declared)
    return None if any("default encoding" in str(warning.message) for warning in caught) else names


def printable(value: str) -> str:
    """Text in one line: control characters become blanks, runs of blanks become one, padding is removed."""
    value = value[:LONGEST_TEXT]
    if not value.isprintable():
        value = "".join(c if c.isprintable() else " " for c in value)
    return re.sub(r"\s+", " ", value).strip()


def shown(name: str) -> str:
    """Return a file's name for a message: one line, at most 120 characters."""
    clean = printable(name)
    return clean if len(clean) <= 120 else f"{clean[:117]}..."


def first_line(error: BaseException) -> str:
    """First line of an exception's message, or its type if it has none."""
    lines = str(error).splitlines()
    reason = printable(lines[0]) if lines else ""
    return shown(reason or type(error).__name__)


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """All values of a numeric element as floats, [] if it is absent or empty.

    Raises
    ------
    ValueError
        If one is not a finite number.
    """
    raw = _raw(dataset, keyword) if _is_decimal_text(dataset, keyword) else None
    if raw is not None:
        stripped = raw.strip(b" \x00")
        values = [float(part) for part in stripped.split(b"\\")] if stripped else []
    else:
        value = dataset.get(keyword)
        if value is None or value == "":
            return []
        several = not isinstance(value, (str, bytes)) and isinstance(value, Sequence)
        values = [float(part) for part in (value if several else [value])]
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{keyword} is not a finite number")
    return values


def _is_decimal_text(dataset: Dataset, keyword: str) -> bool:
    """Whether an element's value is text (DS, IS) and not a binary number, whose bytes could look like digits."""
    vr = getattr(dataset.get_item(keyword), "VR", None)
    return (dictionary_VR(keyword) if vr in (None, "UN") else vr) in ("DS", "IS")


def number(dataset: Dataset, keyword: str) -> float | None:
    """First value of a numeric element, None if it is absent or empty."""
    found = numbers(dataset, keyword)
    return found[0] if found else None


def integer(dataset: Dataset, keyword: str) -> int | None:
    """First value of a numeric element as an integer, None if it is absent, empty or not whole."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value == int(value) else None


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence element, [] if it is absent, empty or no sequence."""
    value = dataset.get(keyword)
    if value is None or isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        return []
    return [item for item in value if isinstance(item, Dataset)]
