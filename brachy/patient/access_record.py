"""What plan.json keeps of the access to the patient; plans made without it have no such record."""

from pydantic import Field

from brachy.patient.records import Number, Record, Vector


class AccessRecord(Record):
    """How the patient lies, what stands outside, and where scan and bore end."""

    patient_position: str = Field("", description="as the CT has it: HFS, FFP ...; empty: not known")
    down: Vector | None = Field(None, description="unit vector straight down; null: not known")
    couch_top_mm: Number = Field(
        None, description="nothing of a needle lies so far along `down` or farther; null: not known"
    )
    couch_top_from: str = Field("", description="what that level is taken from")
    things: tuple[str, ...] = Field((), description="ROIs of the role device that needles keep clear of")
    azimuth_deg: tuple[tuple[float, float], ...] = Field(
        (), description="sector of the azimuths; empty: none"
    )
    tilt_deg: tuple[float, float] = Field((-90.0, 90.0), description="least and largest tilt")
    bore_centre_mm: Vector = Field((0.0, 0.0, 0.0), description="a point on the axis of the bore")
    bore_axis: Vector = Field((0.0, 0.0, 1.0), description="unit vector along the bore")
    bore_assumed: bool = Field(True, description="whether the image's centre was taken for that of the bore")
    scan_low_mm: Vector | None = Field(
        None, description="lowest corner of the image, at voxel edges; null: its slices are not axial"
    )
    scan_high_mm: Vector | None = Field(None, description="highest corner of the image")
    scan_circle: bool = Field(False, description="whether the image ends at a circular field of view")
    scan_spacing_mm: Vector | None = Field(None, description="size of its voxels")

    @property
    def sentence(self) -> str:
        """How the patient lies, for a header.

        Examples
        --------
        >>> AccessRecord(patient_position="HFS", down=(0, 1, 0)).sentence
        'head first, supine (HFS)'
        >>> AccessRecord().sentence
        'not known: nothing is barred as from below'
        """
        words = position_in_words(self.patient_position)
        if self.down is None:
            given = (
                f"'{self.patient_position}', which is none of DICOM" if self.patient_position else "not known"
            )
            return f"{given}: nothing is barred as from below"
        return f"{words} ({self.patient_position})"


_FIRST = {"H": "head", "F": "feet", "L": "left", "R": "right", "A": "front", "P": "back"}
_LIES = {"S": "supine", "P": "prone", "DR": "on the right side", "DL": "on the left side"}


def position_in_words(position: str) -> str:
    """'head first, supine' for HFS; empty for what DICOM does not define.

    Examples
    --------
    >>> [position_in_words(p) for p in ("HFS", "FFDR", "AFDL", "HF")]
    ['head first, supine', 'feet first, on the right side', 'front first, on the left side', '']
    """
    first, lies = position[:1], position[2:]
    if position[1:2] != "F" or first not in _FIRST or lies not in _LIES:
        return ""
    if first not in "HF" and (first in "AP") != (lies in ("DR", "DL")):
        return ""  # who lies across the couch on the back has a side first, on a side the front or the back
    return f"{_FIRST[first]} first, {_LIES[lies]}"
