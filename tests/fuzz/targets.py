"""A target for each reader: small files to start from, how they are mutated, and what reads them.

Input `i` of a target depends on nothing but the two, so that a find is kept as its number.
"""

import contextlib
import copy
import io
import json
import tomllib
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from brachy.errors import BrachyError
from tests import scanner
from tests.fuzz import mutate

ROOT = Path(__file__).resolve().parents[2]
LONGEST_LINE = 1000


@dataclass(frozen=True)
class Target:
    """`make(folder)` prepares what lies beside the input; `mutant(rng)` is its content; `read(path)` reads it."""

    name: str
    file: str
    mutant: Callable[[np.random.Generator], bytes]
    read: Callable[[Path], object]
    prepare: Callable[[Path], object] = lambda folder: None
    also: tuple[str, ...] = ()
    """Other names under which the same content is tried, by turns."""
    originals: Callable[[], list[tuple[str, bytes]]] = list
    """Names and contents that the mutants are made from, each of which is read."""


def outcome(target, number, folder):
    """ "result" or "refused" of an input; raises for everything that a reader may not do."""
    rng = np.random.default_rng([zlib.crc32(target.name.encode()), number])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom's writer, which is not under test
        content = target.mutant(rng)
    path = Path(folder) / mutate.pick(rng, (target.file, *target.also))
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            target.read(path)
    except BrachyError as error:
        message = str(error)
        if "\n" in message or len(message) > LONGEST_LINE or not message.isprintable():
            raise AssertionError(f"no line to show: {message[:200]!r} ({len(message)} characters)") from None
        return "refused"
    finally:
        path.unlink(missing_ok=True)
    return "result"


# ---- DICOM -----------------------------------------------------------------------------------------------------

SYNTAXES = (
    ExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian,  # noqa: E501
)  # fmt: skip


def _written(dataset, syntax):
    data = dataset
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = "1.2.3"
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.4"
    buffer = io.BytesIO()
    dcmwrite(
        buffer, data, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
    )  # fmt: skip
    return buffer.getvalue()


def _dicom(make):
    """Mutants of the data sets of `make()`: elements of two in three, bytes of the others."""
    known = cache(make)

    def mutant(rng):
        originals = known()
        original = mutate.pick(rng, originals)
        if isinstance(original, bytes):  # a compressed file: the stream and its headers
            return mutate.changed_bytes(original, rng, 132)
        syntax = mutate.pick(rng, SYNTAXES)
        if rng.random() < 0.65:
            for _ in range(20):
                try:
                    return _written(mutate.changed_dataset(original, rng), syntax)
                except (
                    ValueError,
                    TypeError,
                    AttributeError,
                    OverflowError,
                    KeyError,
                    UnicodeError,
                    NotImplementedError,
                    OSError,
                ):
                    continue  # pydicom does not write that
        return mutate.changed_bytes(_written(original, ExplicitVRLittleEndian), rng, 132)

    return mutant


@cache
def _first_slices():
    return scanner.ct_slices(shape=(4, 32, 40))


def _slices():
    """The same slices every time: the structure set beside a mutant refers to them."""
    return copy.deepcopy(_first_slices())


def _ct_files():
    from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

    from tests.io.dicom.test_read_ct import compress

    slices = _slices()
    found = [slices[1], slices[1], slices[1]]
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1):
            path = scanner.save(_slices()[1], Path(folder) / "one.dcm")
            try:
                compress(path, syntax)
            except (RuntimeError, NotImplementedError, ValueError):
                continue
            found.append(path.read_bytes())
    return found


def _beside(folder):
    """The other slices of the case and its structure set."""
    slices = _slices()
    for k, data in enumerate(slices):
        if k != 1:
            scanner.save(data, folder / f"CT{k:03d}.dcm")
    contours = {"GTV": [scanner.square(-47.5), scanner.square(-45.0)]}
    scanner.save(scanner.structure_set(contours, slices), folder / "RS.dcm")


def _read_case(path):
    from brachy.io.load import load_case

    return load_case(path.parent / "RS.dcm")


def _structure_sets():
    keyhole = np.array(
        [[-15, 32, -45], [-8, 32, -45], [-8, 38, -45], [-15, 38, -45], [-15, 32, -45], [-12, 34, -45.0]]
    )
    rois = {
        "GTV": [scanner.square(z) for z in (-47.5, -45.0, -42.5)],
        "Bone": [scanner.square(-45.0), ("POINT", np.array([[0.0, 0.0, -45.0]]))],
        "Skin": [("OPEN_PLANAR", scanner.square(-45.0)), keyhole],
    }
    return [scanner.structure_set(rois, _slices())]


def _read_structures(path):
    from brachy.io.dicom.read import read_structures

    for structure in read_structures(path):
        if not structure.is_empty:
            _ = structure.volume_cc, structure.bounds_mm


def _plans():
    from tests.io.dicom.test_read_plan import A, B, plan_set, seed

    return [plan_set([[seed(A), seed(B, 2, axis=(0, 0, 1))]])]


def _read_plan(path):
    from brachy.io.dicom.read import read_plan

    return read_plan(path)


def _doses():
    from tests.io.dicom.test_read_dose import dose_set

    return [dose_set(), dose_set(bits=16, scaling=1e-2), dose_set(order="descending", offsets="absolute")]


def _read_dose(path):
    from brachy.io.dicom.read import read_dose

    return read_dose(path)


@cache
def _zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        slices = _slices()
        for k, data in enumerate(slices):
            archive.writestr(f"case/CT{k:03d}.dcm", _written(data, ExplicitVRLittleEndian))
        data = scanner.structure_set({"GTV": [scanner.square(-47.5), scanner.square(-45.0)]}, slices)
        archive.writestr("case/../../RS.dcm", _written(data, ExplicitVRLittleEndian))
    return buffer.getvalue()


def _load_case(path):
    from brachy.io.load import load_case

    return load_case(path)


# ---- plan.json, TOML, CSV, transforms --------------------------------------------------------------------------


@cache
def _plan_tree():
    from tests.small_plan import small_plan

    return json.loads(small_plan().to_json())


def _plan_json(rng):
    from brachy.patient.plan import checksum_of

    tree = _plan_tree()
    if rng.random() < 0.25:
        return mutate.changed_bytes(json.dumps(tree, indent=2).encode(), rng)
    # the search among all places would find the long tables of the sources only: half the time they are left out
    changed = dict(tree)
    if rng.random() < 0.7:
        kept = {key: changed.pop(key) for key in ("sources", "protocol")}
        changed = {**mutate.changed_tree(changed, rng), **kept}
    else:
        changed = mutate.changed_tree(changed, rng)
    if rng.random() < 0.9:
        # a checksum that fits lets the change pass to what reads the fields
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            changed["checksum"] = checksum_of(changed)
    return mutate.json_text(changed).encode("utf-8", "surrogatepass")


def _read_plan_json(path):
    from brachy.output.csv_tables import needles_csv, placed_csv
    from brachy.patient.plan import Plan

    plan = Plan.load(path)
    plan.implants()
    needles_csv(plan)
    placed_csv(plan)


def _toml(*files):
    def mutant(rng):
        text = (ROOT / mutate.pick(rng, files)).read_text("utf-8")
        kind = rng.random()
        if kind < 0.25:
            return mutate.changed_bytes(text.encode(), rng)
        if kind < 0.28:
            return b"a = " + b"[" * int(rng.integers(10, 100_000))
        return mutate.toml_text(mutate.changed_tree(tomllib.loads(text), rng)).encode(
            "utf-8", "surrogatepass"
        )

    return mutant


def _read_protocol(path):
    from brachy.patient.protocol import load_protocol

    return load_protocol(path)


def _read_source(path):
    from brachy.dosimetry.source import load_source, source_warnings

    source = load_source(path, accept_unverified=True)
    source_warnings(source)
    source.to_dict()


_SMALL_PHANTOM = "tests/fuzz/phantom.toml"


def _read_phantom(path):
    from brachy.io.phantom.file import load_phantom, phantom_seeds

    load_phantom(path)
    phantom_seeds(path)


def _read_uncertainties(path):
    from brachy.evaluation.scenarios import load_uncertainties

    return load_uncertainties(path)


SEEDS = (
    "seed,action,x_mm,y_mm,z_mm,axis_x,axis_y,axis_z,confidence,mass,sd_x_mm,sd_y_mm,sd_z_mm\r\n"
    "1,keep,1.5,2,3,0,0,1,0.9,1,0.1,0.1,0.2\r\n2,remove,4,5,6,,,,,,,,\r\n3,keep,-7,8.25,9,,,,1,,,,\r\n"
)
SOURCE = (
    "model,My seed\r\nmanufacturer,Someone\r\nreference,A paper\r\naliases,One\r\nactive_length.mm,3.0\r\n"
    "active_length.source,t\r\ndose_rate_constant.cGy_per_h_U,0.965\r\ndose_rate_constant.source,t\r\n"
    "capsule.length_mm,4.5\r\ncapsule.diameter_mm,0.8\r\ncapsule.source,t\r\nradial_dose_function.source,t\r\n"
    "anisotropy_function.source,t\r\nanisotropy_1d.origin,published\r\nanisotropy_1d.source,t\r\n"
    "table,radial_dose_function\r\nr_cm,g\r\n0.5,1.08\r\n1,1.0\r\n2,0.81\r\n5,0.3\r\n"
    "table,anisotropy_1d\r\nr_cm,phi\r\n0.5,0.97\r\n1,0.94\r\n5,0.93\r\n"
    "table,anisotropy_function\r\ntheta_deg,0.5,1,5\r\n0,0.33,0.37,0.44\r\n45,0.9,0.9,0.9\r\n90,1,1,1\r\n"
)


def _csv(text):
    def mutant(rng):
        if rng.random() < 0.3:
            return mutate.changed_bytes(text.encode(), rng)
        return mutate.changed_csv(text, rng).encode("utf-8", "surrogatepass")

    return mutant


def _read_seeds(path):
    from brachy.postimplant.seed_files import read_seeds

    return read_seeds(path)


@cache
def _small_plan():
    from tests.small_plan import small_plan

    return small_plan()


def _placed_rows():
    needle = _small_plan().needles[0]
    x, y, z = _small_plan().needles[1].tip_mm
    other = _small_plan().needles[1]
    return (
        "template,hole,seed,state,x_mm,y_mm,z_mm\r\n"
        f"{needle.template + 1},{needle.hole},,,,,\r\n{needle.template + 1},{needle.hole},1,planned,,,\r\n"
        f"{needle.template + 1},{needle.hole},2,lost,,,\r\n"
        f"{other.template + 1},{other.hole},,line,{x},{y},{z}\r\n"
        f"{other.template + 1},{other.hole},,line,{x + 60},{y},{z}\r\n"
    )


def _placed(rng):
    text = _placed_rows()
    if rng.random() < 0.3:
        import csv

        rows = list(csv.DictReader(io.StringIO(text)))
        return mutate.json_text(mutate.changed_tree(rows, rng)).encode("utf-8", "surrogatepass")
    return _csv(text)(rng)


def _placed_files():
    import csv

    text = _placed_rows()
    rows = list(csv.DictReader(io.StringIO(text)))
    return [("placed.csv", text.encode()), ("placed.json", json.dumps(rows).encode())]


def _read_placed(path):
    from brachy.optimise.replanning.implanted_so_far import read_placed

    return read_placed(path, _small_plan())


def _edit_rows():
    needle = _small_plan().needles[0]
    where = f"{needle.template + 1},{needle.hole}"
    return f"action,template,hole,seed,depth_mm\r\nremove,{where},1,\r\nmove,{where},2,60.5\r\nadd,{where},,41\r\n"


def _edits(rng):
    return _csv(_edit_rows())(rng)


def _read_edits(path):
    from brachy.optimise.replanning.edits import edited_needles, read_edits

    return edited_needles(read_edits(path, _small_plan()), _small_plan())


IDENTITY = [[1.0, 0, 0, 5], [0, 1.0, 0, -2], [0, 0, 1.0, 0.5], [0, 0, 0, 1]]
TFM = (
    "#Insight Transform File V1.0\n#Transform 0\nTransform: Euler3DTransform_double_3_3\n"
    "Parameters: 0 0 0.1 5 -2 0.5\nFixedParameters: 0 0 0 0\n"
)


def _transform(rng):
    kind = rng.random()
    if kind < 0.4:
        tree = mutate.pick(rng, ({"transform": IDENTITY}, {"registration": {"transform": IDENTITY}}))
        return mutate.json_text(mutate.changed_tree(tree, rng)).encode("utf-8", "surrogatepass")
    if kind < 0.42:
        return b"[" * int(rng.integers(10, 100_000))
    text = " ".join(str(v) for row in IDENTITY for v in row)
    if kind < 0.6:
        words = text.split()
        words[int(rng.integers(16))] = str(mutate.odd(rng))
        return " ".join(words).encode("utf-8", "surrogatepass")
    return mutate.changed_bytes((TFM if kind < 0.8 else text).encode(), rng)


def _transforms():
    text = " ".join(str(v) for row in IDENTITY for v in row)
    files = [("t.txt", text), ("t.tfm", TFM), ("t.json", json.dumps({"transform": IDENTITY}))]
    return [(name, content.encode()) for name, content in files]


def _read_transform(path):
    from brachy.postimplant.registration import by_file

    return by_file(path)


@cache
def _volumes():
    import tempfile

    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.arange(-500, -500 + 5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7))
    image.SetSpacing((1.5, 1.25, 2.5))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".nii", ".nrrd", ".mha", ".nii.gz"):
            path = Path(folder) / f"ct{suffix}"
            sitk.WriteImage(image, str(path))
            found[suffix] = path.read_bytes()
    return found


def _volume(suffix):
    def mutant(rng):
        content = _volumes()[suffix]
        if rng.random() < 0.6:  # the header
            head = 352 if suffix == ".nii" else 400
            return mutate.changed_bytes(content[:head], rng) + content[head:]
        return mutate.changed_bytes(content, rng)

    return mutant


def _volume_target(name, suffix):
    file = f"ct{suffix}"
    return Target(name, file, _volume(suffix), _load_case, originals=lambda: [(file, _volumes()[suffix])])


def _files(name, *paths):
    return lambda: [(name, (ROOT / path).read_bytes()) for path in paths]


def _data_sets(name, make):
    def originals():
        found = []
        for data in make():
            content = data if isinstance(data, bytes) else _written(data, ExplicitVRLittleEndian)
            found.append((name, content))
        return found

    return originals


TARGETS = {
    target.name: target
    for target in (
        Target(
            "CT",
            "CT001.dcm",
            _dicom(_ct_files),
            _read_case,
            _beside,
            originals=_data_sets("CT001.dcm", _ct_files),
        ),
        Target(
            "RTSTRUCT",
            "RS.dcm",
            _dicom(_structure_sets),
            _read_structures,
            originals=_data_sets("RS.dcm", _structure_sets),
        ),
        Target("RTPLAN", "RP.dcm", _dicom(_plans), _read_plan, originals=_data_sets("RP.dcm", _plans)),
        Target("RTDOSE", "RD.dcm", _dicom(_doses), _read_dose, originals=_data_sets("RD.dcm", _doses)),
        Target(
            "zip of a case",
            "case.zip",
            lambda rng: mutate.changed_bytes(_zipped(), rng),
            _load_case,
            originals=lambda: [("case.zip", _zipped())],
        ),
        Target(
            "plan.json",
            "plan.json",
            _plan_json,
            _read_plan_json,
            originals=lambda: [("plan.json", _small_plan().to_json().encode())],
        ),
        Target(
            "protocol",
            "p.toml",
            _toml("plans/liver-metastasis.toml"),
            _read_protocol,
            originals=_files("p.toml", "plans/liver-metastasis.toml"),
        ),
        Target(
            "source TOML",
            "s.toml",
            _toml("brachy/data/sources/amersham_6711.toml"),
            _read_source,
            originals=_files("s.toml", "brachy/data/sources/amersham_6711.toml"),
        ),
        Target(
            "source CSV", "s.csv", _csv(SOURCE), _read_source, originals=lambda: [("s.csv", SOURCE.encode())]
        ),
        Target(
            "phantom",
            "f.toml",
            _toml(_SMALL_PHANTOM),
            _read_phantom,
            originals=_files("f.toml", _SMALL_PHANTOM),
        ),
        Target(
            "uncertainties",
            "u.toml",
            _toml("brachy/data/uncertainty.toml"),
            _read_uncertainties,
            originals=_files("u.toml", "brachy/data/uncertainty.toml"),
        ),
        Target(
            "seeds CSV",
            "seeds.csv",
            _csv(SEEDS),
            _read_seeds,
            originals=lambda: [("seeds.csv", SEEDS.encode())],
        ),
        Target("placed", "placed.csv", _placed, _read_placed, also=("placed.json",), originals=_placed_files),
        Target(
            "edits",
            "edits.csv",
            _edits,
            _read_edits,
            originals=lambda: [("edits.csv", _edit_rows().encode())],
        ),
        Target(
            "transform", "t.txt", _transform, _read_transform, also=("t.tfm", "t.json"), originals=_transforms
        ),
        _volume_target("NIfTI", ".nii"),
        _volume_target("NIfTI, gzip", ".nii.gz"),
        _volume_target("NRRD", ".nrrd"),
        _volume_target("MetaImage", ".mha"),
    )
}
