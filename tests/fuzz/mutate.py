"""Mutations that know the structure of what they change: DICOM elements, JSON and TOML trees, CSV cells, bytes."""

import copy
import csv
import io
import json
import math

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

LONG = 10_000_000
NUMBERS = (
    math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, -0.0, 0, -1, 1, 1.5, 10**30, -(10**30), 2**31, 2**63, 65535,
)  # fmt: skip
TEXTS = (
    "", " ", "nan", "-inf", "1e999", "0x10", "1,5", "\\", "\\\\\\", "^^^", "<script>alert(1)</script>", "=cmd|' /C calc'!A0",  # noqa: E501
    "+1", "@SUM(A1)", "../../../etc/passwd", "..\\..\\x", "a/b", "\x00", "\x1b$B", "\u202e\ufeff", "\ud7ff\U0001f9e0",
    "x" * 70, "x" * 5000, "1" * 400, "\n\r\n", '"', "'", "{{ 7*7 }}", "%s%n", "9999-99-99", "00000000", "I-125",
)  # fmt: skip
VRS = [
    "AE",
    "AS",
    "CS",
    "DA",
    "DS",
    "DT",
    "FD",
    "FL",
    "IS",
    "LO",
    "LT",
    "OB",
    "OW",
    "PN",
    "SH",
    "SL",
    "SS",
    "ST",
    "TM",
    "UC",
    "UI",
    "UL",
    "UN",
    "US",
    "UT",
    "SQ",
    "AT",
]  # of PS3.5 table 6.2-1


def pick(rng, values):
    return values[int(rng.integers(len(values)))]


def odd(rng):
    """A number or a text that a reader should not trust."""
    if rng.random() < 0.002:
        return "x" * LONG
    return pick(rng, NUMBERS if rng.random() < 0.5 else TEXTS)


# ---- bytes -----------------------------------------------------------------------------------------------------

_PIECES = (
    b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"nan ", b"-1e9", b"\\\\\\\\", b"SQ\0\0", b"\xfe\xff\x0d\xe0",  # noqa: E501
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
)  # fmt: skip


def changed_bytes(content, rng, start=0):
    """Bytes flipped, replaced, cut, doubled or broken off, one to three times."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        if len(data) <= start + 4:
            break
        at, kind = int(rng.integers(start, len(data))), int(rng.integers(5))
        length = int(rng.integers(1, 40))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            piece = pick(rng, _PIECES)
            data[at : at + len(piece)] = piece
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        else:
            del data[at:]
    return bytes(data)


# ---- DICOM -----------------------------------------------------------------------------------------------------


def _places(dataset, depth=0):
    """Every (data set, tag) of a file, sequences entered."""
    for element in dataset:
        yield dataset, element.tag
        if element.VR == "SQ" and depth < 8:
            for item in element.value or ():
                yield from _places(item, depth + 1)


def changed_dataset(dataset, rng):
    """A copy with one to three elements given odd values or VRs, removed, doubled, emptied or nested."""
    data = copy.deepcopy(dataset)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(data))
        if not places:
            break
        where, tag = pick(rng, places)
        element = where[tag]
        kind = int(rng.integers(6))
        if kind == 0:
            del where[tag]
        elif kind == 1:
            where[tag] = DataElement(tag, element.VR, None, already_converted=True)
        elif kind == 2 and element.VR == "SQ":
            items = list(element.value or ())
            where[tag].value = Sequence(_shuffled(items, rng))
        elif kind == 3:
            other_place, other_tag = pick(rng, places)
            _put(where, tag, element.VR, _plain(other_place[other_tag].value))
        elif kind == 4:
            _put(where, tag, pick(rng, VRS), odd(rng))
        else:
            _put(where, tag, element.VR, _resembling(element, rng))
    return data


def _plain(value):
    return None if isinstance(value, (Sequence, Dataset)) else value


def _shuffled(items, rng):
    kind = int(rng.integers(4))
    if kind == 0 or not items:
        return []
    if kind == 1:
        return [*items, *copy.deepcopy(items)]
    if kind == 2:
        return items[::-1]
    inner = Dataset()
    inner.StructureSetROISequence = copy.deepcopy(items)
    return [inner, *items]


def _resembling(element, rng):
    """Something odd of the element's own multiplicity, or with one value more or less."""
    value = element.value
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        values = list(value)
        kind = int(rng.integers(4))
        if kind == 0 and values:
            values[int(rng.integers(len(values)))] = odd(rng)
        elif kind == 1:
            values = values[:-1]
        elif kind == 2:
            values = [*values, odd(rng)]
        else:
            values = [odd(rng)] * len(values)
        return values
    if isinstance(value, (bytes, bytearray)):
        return changed_bytes(value, rng) if len(value) > 8 else b"\xff" * 9
    return odd(rng)


def _put(dataset, tag, vr, value):
    """An element as text of bytes where its type would refuse the value: files hold such things all the same."""
    if vr == "SQ":
        dataset[tag] = DataElement(tag, "SQ", Sequence([]))
        return
    several = value if isinstance(value, (list, tuple)) else [value]
    if vr in ("US", "UL", "SS", "SL", "FD", "FL", "AT", "OB", "OW", "UN"):
        raw = (
            value
            if isinstance(value, bytes)
            else "\\".join(map(str, several)).encode("utf-8", "replace")[:64]
        )
        dataset[tag] = DataElement(tag, "UN", raw, already_converted=True)
        return
    text = value.decode("latin-1") if isinstance(value, (bytes, bytearray)) else "\\".join(map(str, several))
    # written as long text, which pydicom does not check; the reader goes by the tag
    long = vr if len(text) < 60_000 and vr in ("LO", "SH", "ST", "LT") else "UT"
    dataset[tag] = DataElement(tag, long, text.replace("\0", " "), already_converted=True)


# ---- trees: JSON and TOML --------------------------------------------------------------------------------------


def _slots(tree):
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(pairs):
        yield tree, key
        yield from _slots(value)


def changed_tree(tree, rng, odd_value=odd):
    """A copy of a tree of dicts and lists with one to three places made odd."""
    data = copy.deepcopy(tree)
    for _ in range(int(rng.integers(1, 4))):
        slots = list(_slots(data))
        if not slots:
            break
        where, key = pick(rng, slots)
        kind = int(rng.integers(7))
        if kind == 0:
            del where[key]
        elif kind == 1:
            if isinstance(where, dict):
                where[str(pick(rng, TEXTS))] = where[key]
            else:
                where.append(copy.deepcopy(where[key]))
        elif kind == 2:
            other, other_key = pick(rng, slots)
            where[key] = copy.deepcopy(
                other.get(other_key) if isinstance(other, dict) else _at(other, other_key)
            )
        elif kind == 3:
            where[key] = pick(rng, ([], {}, [[]], [{}], True, False, [0] * 3, [1e308] * 3, {"a": {"b": []}}))
        elif kind == 4 and isinstance(where[key], (int, float)) and not isinstance(where[key], bool):
            where[key] = where[key] * float(pick(rng, (-1, 0, 1e-9, 1e3, 1e9, 1e300)))
        else:
            where[key] = odd_value(rng)
    return data


def _at(values, index):
    return values[index] if index < len(values) else None


def json_text(tree):
    return json.dumps(tree, ensure_ascii=True)


def toml_text(tree):
    """TOML of a tree: tables inline, so that every tree can be written; None becomes an empty text."""
    return "\n".join(f"{_toml_key(key)} = {_toml(value)}" for key, value in tree.items()) + "\n"


def _toml_key(key):
    return json.dumps(str(key)).replace("\x7f", "\\u007f")


def _toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(value) if math.isfinite(value) else {"inf": "inf", "-inf": "-inf"}.get(str(value), "nan")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if value is None:
        return '""'
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f") if str(value) else '""'


# ---- CSV -------------------------------------------------------------------------------------------------------


def changed_csv(text, rng):
    """Cells made odd, rows and columns removed, doubled or exchanged."""
    rows = [list(row) for row in csv.reader(io.StringIO(text, newline=""))]
    for _ in range(int(rng.integers(1, 4))):
        if not rows:
            break
        row, kind = pick(rng, rows), int(rng.integers(6))
        if kind == 0:
            rows.remove(row)
        elif kind == 1:
            rows.append(list(row))
        elif kind == 2 and row:
            del row[int(rng.integers(len(row)))]
        elif kind == 3:
            row.append(str(odd(rng)))
        elif row:
            row[int(rng.integers(len(row)))] = str(odd(rng))
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    return out.getvalue()
