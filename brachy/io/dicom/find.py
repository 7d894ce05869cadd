"""Finds the CT series and the structure set of a case by their UIDs, starting from any of its files.

Names and folders of files are not used, except that nearer folders are searched first.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pydicom.dataset import Dataset

from brachy.errors import BrachyError, UsageError
from brachy.io.dicom.files import (
    StoredFile,
    declared_charset,
    is_zip,
    items,
    parse,
    reading,
    sha256,
    shown,
    text,
)

CT, STRUCTURES, PLAN, DOSE = "CT", "RTSTRUCT", "RTPLAN", "RTDOSE"

_T = TypeVar("_T")

# SOP classes of PS3.6 annex A, for files without Modality
_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": CT,
    "1.2.840.10008.5.1.4.1.1.2.1": CT,
    "1.2.840.10008.5.1.4.1.1.2.2": CT,
    "1.2.840.10008.5.1.4.1.1.481.3": STRUCTURES,
    "1.2.840.10008.5.1.4.1.1.481.5": PLAN,
    "1.2.840.10008.5.1.4.1.1.481.2": DOSE,
}
_DIRECTORY = "1.2.840.10008.1.3.10"

_TAGS = (
    "SpecificCharacterSet",
    "ImageType",
    "ImagePositionPatient",
    "PerFrameFunctionalGroupsSequence",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "SeriesDescription",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "StructureSetLabel",
    "StructureSetDate",
    "ReferencedFrameOfReferenceSequence",
    "ReferencedStructureSetSequence",
    "ReferencedRTPlanSequence",
)


@dataclass(frozen=True, eq=False)
class Header:
    """Kind, identifiers and references of one DICOM file; "" and empty sets where the file has none.

    `placed` is whether the image has a position in the patient. For a structure set, `series` are the images of each
    series that it names, `images` all images that it names, `frames` its frames of reference.
    """

    file: StoredFile
    modality: str
    sop_uid: str
    series_uid: str
    study_uid: str
    frame_uid: str
    description: str
    localizer: bool = False
    placed: bool = True
    series: Mapping[str, frozenset[str]] = field(default_factory=dict)
    images: frozenset[str] = frozenset()
    frames: frozenset[str] = frozenset()
    structure_set_uid: str = ""
    plan_uid: str = ""


@dataclass(frozen=True, eq=False)
class Series:
    """Images and localizers of one CT series."""

    images: tuple[Header, ...]
    localizers: tuple[Header, ...] = ()

    @property
    def uid(self) -> str:
        """Series Instance UID."""
        return self.images[0].series_uid

    @property
    def frame_uid(self) -> str:
        """Frame of Reference UID of the first image."""
        return self.images[0].frame_uid

    def __str__(self) -> str:
        name = shown(self.images[0].description) or "no description"
        return f"'{name}' ({len(self.images)} images, series {self.uid or 'without UID'})"


@dataclass(frozen=True, eq=False)
class Found:
    """CT series and structure set of a case, and notes on how they were found."""

    series: Series
    structure_set: Header | None
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class _Pool:
    """Headers read so far, and the names of files that could not be read."""

    headers: list[Header] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def of(self, modality: str) -> list[Header]:
        """Headers of one modality."""
        return [header for header in self.headers if header.modality == modality]

    def series(self) -> list[Series]:
        """CT series among the headers."""
        grouped: dict[str, list[Header]] = {}
        for header in self.of(CT):
            folder = PurePosixPath(header.file.place).parent
            key = header.series_uid or f"{header.study_uid}|{header.frame_uid}|{folder}"
            grouped.setdefault(key, []).append(header)
        found = []
        for headers in grouped.values():
            images = tuple(header for header in headers if not header.localizer)
            if images:
                found.append(Series(images, tuple(header for header in headers if header.localizer)))
        # pictures with modality CT (dose reports, screen shots) have no position in the patient
        return [series for series in found if any(image.placed for image in series.images)] or found

    def hint(self) -> str:
        """Addition to an error message if files were unreadable, else ""."""
        if not self.broken:
            return ""
        return f" ({len(self.broken)} files beside it could not be read, e.g. {shown(self.broken[0])})"


def header_of(file: StoredFile) -> Header | None:
    """Header of a DICOM file, None for a DICOMDIR.

    Raises
    ------
    BrachyError
        If it is not readable.
    """
    content = file.read()
    with reading(file.place):
        dataset = parse(content, file.place, tags=_TAGS)
        sop_class = text(dataset, "SOPClassUID")
        stored_class = (
            text(dataset.file_meta, "MediaStorageSOPClassUID") if hasattr(dataset, "file_meta") else ""
        )
        if _DIRECTORY in (sop_class, stored_class):
            return None
        modality = text(dataset, "Modality") or _CLASSES.get(sop_class or stored_class, "")
        charset = declared_charset(dataset)
        label = "StructureSetLabel" if modality == STRUCTURES else "SeriesDescription"
        series: dict[str, frozenset[str]] = {}
        images: set[str] = set()
        frames = {text(dataset, "FrameOfReferenceUID")}
        for frame in items(dataset, "ReferencedFrameOfReferenceSequence"):
            frames.add(text(frame, "FrameOfReferenceUID"))
            for study in items(frame, "RTReferencedStudySequence"):
                for one in items(study, "RTReferencedSeriesSequence"):
                    named = {text(i, "ReferencedSOPInstanceUID") for i in items(one, "ContourImageSequence")}
                    images |= named
                    if uid := text(one, "SeriesInstanceUID"):
                        series[uid] = series.get(uid, frozenset()) | (named - {""})
        if modality == STRUCTURES and not series:
            images |= _contour_images(content, file.place)
        return Header(
            file=file,
            modality=modality,
            sop_uid=text(dataset, "SOPInstanceUID"),
            series_uid=text(dataset, "SeriesInstanceUID"),
            study_uid=text(dataset, "StudyInstanceUID"),
            frame_uid=text(dataset, "FrameOfReferenceUID"),
            description=text(dataset, label, charset),
            placed="ImagePositionPatient" in dataset or "PerFrameFunctionalGroupsSequence" in dataset,
            localizer="LOCALIZER" in text(dataset, "ImageType").upper().split("\\"),
            series=series,
            images=frozenset(images - {""}),
            frames=frozenset(frames - {""}),
            structure_set_uid=_referenced(items(dataset, "ReferencedStructureSetSequence")),
            plan_uid=_referenced(items(dataset, "ReferencedRTPlanSequence")),
        )


def _referenced(sequence: Sequence[Dataset]) -> str:
    uids = [text(item, "ReferencedSOPInstanceUID") for item in sequence]
    return next((uid for uid in uids if uid), "")


def _contour_images(content: bytes, name: str) -> set[str]:
    """UIDs of the images that the contours name, for a structure set that names no series."""
    dataset = parse(content, name)
    return {
        text(image, "ReferencedSOPInstanceUID")
        for roi in items(dataset, "ROIContourSequence")
        for contour in items(roi, "ContourSequence")
        for image in items(contour, "ContourImageSequence")
    }


def find_case(given: Path, batches: Iterable[list[StoredFile]]) -> Found:
    """CT series and structure set of the case that a file, a folder or a zip belongs to.

    Parameters
    ----------
    given : Path
        The file, folder or zip given by the user.
    batches : iterable of lists of StoredFile
        Files to search, nearest first (`brachy.io.dicom.files.stages`); later batches are read only if needed.

    Raises
    ------
    UsageError
        If there are several candidates, or the file does not belong to a case.
    BrachyError
        If there is no CT, or only a CT with another frame of reference.
    """
    pool = _Pool()
    target = _place(given)
    start: Header | Series | None = None
    for number, batch in enumerate(batches):
        for file in batch:
            _add(pool, file, must=file.archive is None and file.path == target)
        if number == 0:
            start = _start(given, pool)
        found = _complete(start, pool, given)
        if found is not None:
            return found
    return _incomplete(start, pool, given)


def _place(given: Path) -> Path:
    """Path of a file as the search forms it: its folder with links resolved, and its own name."""
    return given.parent.resolve() / given.name


def _add(pool: _Pool, file: StoredFile, must: bool) -> None:
    """Add the header of a DICOM file; an unreadable file raises an error with `must`, else it is only noted."""
    if not file.looks_like_dicom():
        return
    try:
        header = header_of(file)
    except BrachyError:
        if must:
            raise
        pool.broken.append(file.place)
        return
    if header is not None:
        pool.headers.append(header)


def _start(given: Path, pool: _Pool) -> Header | Series:
    """The file or series from which the rest of the case is found."""
    if given.is_file() and not is_zip(given):
        target = _place(given)
        mine = [h for h in pool.headers if h.file.archive is None and h.file.path == target]
        if mine:
            header = mine[0]
            if header.modality == CT:
                for series in pool.series():
                    if header in series.images:
                        return series
                raise UsageError(
                    f"{shown(given.name)} is a localizer or a picture: give a slice of the CT series"
                )
            if header.modality in (STRUCTURES, PLAN, DOSE):
                return header
            raise UsageError(
                f"{shown(given.name)} is {header.modality or 'DICOM of no known kind'}: give a CT slice, "
                "an RTSTRUCT, RTPLAN or RTDOSE of the case"
            )
    return _start_of_folder(given, pool)


def _start_of_folder(given: Path, pool: _Pool) -> Header | Series:
    """The only structure set or CT series of a folder or zip, else an error that lists the candidates."""
    where = shown(given.name or str(given))
    sets, series = _distinct(pool.of(STRUCTURES)), pool.series()
    if not sets and not series:
        if pool.headers:
            kinds = ", ".join(sorted({header.modality or "unknown" for header in pool.headers}))
            raise BrachyError(f"no CT in {where}: it holds {kinds} alone; add the CT series{pool.hint()}")
        raise UsageError(f"no DICOM file in {where}: give the folder that holds the CT series{pool.hint()}")
    with_ct = [one for one in sets if _related_series(one, series)]
    if len(sets) == 1:
        return sets[0]
    if len(with_ct) == 1:
        return with_ct[0]
    if sets and (with_ct or not series):
        raise UsageError(
            f"several structure sets in {where}: {_listed(with_ct or sets)}; give the file of the one meant"
        )
    if len(series) == 1:
        return series[0]
    raise UsageError(
        f"{len(series)} CT series in {where}: {'; '.join(map(str, series))}; give one .dcm file of the one meant"
    )


def _complete(start: Header | Series | None, pool: _Pool, given: Path) -> Found | None:
    """The case if CT and structure set are both among the files read so far, else None."""
    if isinstance(start, Series):
        # the series found at first, from the nearer files: a copy elsewhere must not count as duplicate slices
        return _with_structures(start, pool, given)
    if start is None:
        return None
    if start.modality == STRUCTURES:
        return _with_ct(start, pool)
    structure_set = _structure_set_of(start, pool)
    return None if structure_set is None else _with_ct(structure_set, pool)


def _with_structures(series: Series, pool: _Pool, given: Path) -> Found | None:
    """A CT series with the structure set that refers to it, None if there is none yet."""
    related = _distinct(_related_sets(series, pool.of(STRUCTURES)))
    if not related:
        return None
    if len(related) > 1:
        raise UsageError(
            f"{len(related)} structure sets refer to the CT of {shown(given.name)}: {_listed(related)}; "
            "give the file of the one meant"
        )
    return Found(series, related[0], _checked(related[0], series))


def _with_ct(structure_set: Header, pool: _Pool) -> Found | None:
    """A structure set with the CT series that it refers to, None if there is none yet."""
    related = _related_series(structure_set, pool.series())
    if not related:
        return None
    if len(related) > 1:
        raise UsageError(
            f"{shown(structure_set.file.name)} refers to {len(related)} CT series: {'; '.join(map(str, related))}; "
            "keep one of them beside it"
        )
    return Found(related[0], structure_set, _checked(structure_set, related[0]))


def _structure_set_of(start: Header, pool: _Pool) -> Header | None:
    """Structure set of a plan or dose: the one it names, or its plan names, or the only one of its study."""
    sets = _distinct(pool.of(STRUCTURES))
    named = start.structure_set_uid
    if not named and start.plan_uid:
        plans = [plan for plan in pool.of(PLAN) if plan.sop_uid == start.plan_uid]
        named = plans[0].structure_set_uid if plans else ""
    if named:
        return next((one for one in sets if one.sop_uid == named), None)
    same_study = [one for one in sets if one.study_uid == start.study_uid]
    if len(same_study) > 1:
        raise UsageError(
            f"{shown(start.file.name)} names no structure set and its study has {len(same_study)}: "
            f"{_listed(same_study)}; give the file of the one meant"
        )
    return same_study[0] if same_study else None


def _incomplete(start: Header | Series | None, pool: _Pool, given: Path) -> Found:
    """A CT without structures where all files have been read, else an error that says what is missing."""
    if isinstance(start, Series):
        unrelated = [
            s for s in pool.of(STRUCTURES) if s.study_uid and s.study_uid == start.images[0].study_uid
        ]
        if unrelated:
            raise BrachyError(_other_frame_message(unrelated[0], start))
        return Found(start, None, ("no structure set was found that refers to this CT",))
    if start is None:
        raise UsageError(f"no DICOM file in {shown(given.name)}: give the folder that holds the CT series")
    structure_set: Header | None = start
    if start.modality != STRUCTURES:
        structure_set = _structure_set_of(start, pool)
        if structure_set is None:
            raise BrachyError(
                f"the structure set of {shown(start.file.name)}, UID {start.structure_set_uid or 'not named'}, "
                f"is neither in its folder nor in the one above: give a folder that holds both{pool.hint()}"
            )
    assert structure_set is not None
    near = [
        s
        for s in pool.series()
        if s.images[0].study_uid == structure_set.study_uid or len(pool.series()) == 1
    ]
    if near:
        raise BrachyError(_other_frame_message(structure_set, near[0]))
    named = next(iter(sorted(structure_set.series)), "not named")
    raise BrachyError(
        f"no CT for {shown(structure_set.file.name)}: its series, UID {shown(named)}, is neither in its folder nor "
        f"in the one above; give a folder that holds both{pool.hint()}"
    )


def _other_frame_message(structure_set: Header, series: Series) -> str:
    return (
        f"{shown(structure_set.file.name)} is drawn in another frame of reference and on another series than the CT "
        f"{series}: give the CT it was drawn on"
    )


# ---- who belongs to whom ---------------------------------------------------------------------------------------


def _related_series(structure_set: Header, series: Sequence[Series]) -> list[Series]:
    return _strongest([[one for one in series if test(structure_set, one)] for test in _TESTS])


def _related_sets(series: Series, sets: Sequence[Header]) -> list[Header]:
    return _strongest([[one for one in sets if test(one, series)] for test in _TESTS])


def _by_series(structure_set: Header, series: Series) -> bool:
    return bool(series.uid) and series.uid in structure_set.series


def _by_images(structure_set: Header, series: Series) -> bool:
    return any(image.sop_uid in structure_set.images for image in series.images)


def _by_frame(structure_set: Header, series: Series) -> bool:
    return series.frame_uid in structure_set.frames


def _without_uids(structure_set: Header, series: Series) -> bool:
    """Whether neither names anything by UID, as after an anonymisation that blanks UIDs: they may belong together."""
    named = structure_set.frames or structure_set.series or structure_set.images
    return not (named or series.uid or series.frame_uid)


_TESTS: tuple[Callable[[Header, Series], bool], ...] = (_by_series, _by_images, _by_frame, _without_uids)


def _strongest(groups: list[list[_T]]) -> list[_T]:
    return next((group for group in groups if group), [])


def _checked(structure_set: Header, series: Series) -> tuple[str, ...]:
    """Notes on what is assumed where structure set and CT do not fully name each other; refuses another frame."""
    name, notes = shown(structure_set.file.name), []
    if structure_set.frames and series.frame_uid and series.frame_uid not in structure_set.frames:
        raise BrachyError(
            f"CT {series} has another frame of reference than {name}, though they name each other: "
            "export both again from one study"
        )
    if _without_uids(structure_set, series):
        return (
            f"{name} and its CT name no UID at all: nothing proves that they belong together; taken as one frame of "
            "reference",
        )
    if not (structure_set.frames and series.frame_uid):
        notes.append(f"{name} and its CT are in one frame of reference (not both name it)")
    if not _by_series(structure_set, series) and not _by_images(structure_set, series):
        notes.append(
            f"{name} was drawn on another series of the same frame of reference than CT {series}: used as it is"
        )
    return tuple(notes)


def _distinct(sets: list[Header]) -> list[Header]:
    """Structure sets without duplicates: of files with the same bytes the first is kept."""
    if len(sets) < 2:
        return sets
    kept: dict[str, Header] = {}
    for one in sets:
        kept.setdefault(sha256(one.file.read()), one)
    return list(kept.values())


def _listed(sets: Sequence[Header]) -> str:
    return ", ".join(f"{shown(one.file.place)} ('{shown(one.description)}')" for one in sets)
