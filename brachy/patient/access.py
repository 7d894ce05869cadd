"""From where needles can come: how the patient lies, couch and other things, the protocol's sector, the scan's borders.

All positions are mm in the patient frame (LPS). `down` is the unit vector of gravity in that frame, from
PatientPosition (0018,5100); heights are measured along it, so that a larger one is lower.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brachy.geometry.field_of_view import unseen
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.patient.access_record import AccessRecord, position_in_words
from brachy.patient.anatomy import MOST_AIR
from brachy.patient.case import Case
from brachy.patient.outside import OUTSIDE_NAME
from brachy.patient.protocol import Protocol
from brachy.patient.records import Vector, vector

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

COUCH, BELOW, SECTOR, SCAN = "couch", "from below", "beyond the sector", "beyond the scan"
"""Causes for which a needle is barred; a device that has a ROI is named instead of `COUCH`."""

DOWN: dict[str, Vector] = {"S": (0, 1, 0), "P": (0, -1, 0), "DR": (-1, 0, 0), "DL": (1, 0, 0)}
"""Down in LPS by the end of PatientPosition: supine on the back (+y), decubitus right on the right side (-x) (DICOM
PS3.3 C.7.3.1.1.2)."""

BORE: dict[str, Vector] = {
    **dict.fromkeys("HF", (0.0, 0.0, 1.0)),
    **dict.fromkeys("LR", (1.0, 0.0, 0.0)),
    **dict.fromkeys("AP", (0.0, 1.0, 0.0)),
}
"""Axis of the bore in LPS by the part of the patient that goes first (same place)."""

MATTRESS_MM = 10.0
"""A couch that is farther below the patient has a mattress on it that the CT does not show (engineering choice)."""

MIDDLE_MM = (-20.0, -10.0, 0.0, 10.0, 20.0)
"""Places to the sides of the patient's centre under which the couch's surface is looked for (engineering choice)."""

LEVELS = 15
"""Places along the patient of the same (engineering choice)."""

SUNK_MM = 5.0
"""A surface so far within the outline still counts as under it (engineering choice)."""

ANGLE_DEG = 1e-3
"""A direction is within a sector that it exceeds by no more: plan.json has 6 digits of it (engineering choice)."""


def down_of(position: str) -> Vector | None:
    """Unit vector straight down, LPS, of a DICOM patient position; None for others.

    Examples
    --------
    >>> [down_of(p) for p in ("HFS", "FFP", "HFDR", "LFS", "", "SITTING")]
    [(0, 1, 0), (0, -1, 0), (-1, 0, 0), (0, 1, 0), None, None]
    """
    return DOWN[position[2:]] if position_in_words(position) else None


@dataclass(frozen=True, eq=False)
class ScanBorder:
    """Where the image cuts the patient: an entry there is not on the patient's own skin."""

    grid: Grid
    ends: tuple[float, float]
    """Slice indices at or beyond which an entry is within a slice of where the external ends with the image."""
    outside: Bool | None
    """Pixels (rows, columns) within one of the outside of a circular field of view."""

    def cuts(self, points_mm: Float, slack: float = 0.0) -> Bool:
        """Which points (n, 3) on the skin lie on a cut, or within `slack` voxels of what counts as one."""
        index = np.round(self.grid.mm_to_index(points_mm), 6)
        columns, rows = self.grid.shape[2], self.grid.shape[1]
        cut: Bool = (index[:, 2] <= self.ends[0] + slack) | (index[:, 2] >= self.ends[1] - slack)
        last = np.array([columns, rows]) - 1
        cut |= ((index[:, :2] <= 0.5 + slack) | (index[:, :2] >= last - 0.5 - slack)).any(axis=1)
        if self.outside is not None:
            x, y = np.clip(np.rint(index[:, :2]), 0, last).astype(int).T
            cut |= self.outside[y, x]
        return cut


@dataclass(frozen=True, eq=False)
class Access:
    """What bars needles from outside the patient.

    Parameters
    ----------
    position : str
        DICOM patient position, "" if not known.
    down : (3,) array or None
        Unit vector straight down; None if not known.
    couch_top_mm : float or None
        Height along `down` of the couch's top; nothing of a needle may lie there or lower.
    couch_top_from : str
        What that height is taken from.
    devices : tuple of Structure
        Couch and other things that a needle must not meet, also behind the template.
    protocol : Protocol
        Its table `[access]`, radius and length of a needle, clearance.
    border : ScanBorder
        Where the image cuts the patient.
    bore_centre_mm, bore_axis : (3,) arrays
        Axis of the scanner's bore.
    bore_assumed : bool
        Whether the image's centre stands for that of the bore.
    """

    position: str
    down: Float | None
    couch_top_mm: float | None
    couch_top_from: str
    devices: tuple[Structure, ...]
    protocol: Protocol
    border: ScanBorder
    bore_centre_mm: Float
    bore_axis: Float
    bore_assumed: bool

    @property
    def behind_mm(self) -> float:
        """How far behind its hole a needle's line is followed, mm."""
        given = self.protocol.access.behind_mm
        return self.protocol.needle.max_needle_mm if given is None else given

    @property
    def hub_radius_mm(self) -> float:
        """Radius of what stands behind the hole, mm."""
        return max(0.5 * self.protocol.access.hub_diameter_mm, self.protocol.needle.radius_mm)

    def bars(self, direction: Float) -> tuple[str, str]:
        """Cause and reason for which no needle may have a direction (3,), from skin to tip; ("", "") if it may."""
        rule = self.protocol.access
        azimuth, tilt = angles_of(direction)
        if rule.azimuth_deg and beyond_ranges(azimuth, rule.azimuth_deg) > ANGLE_DEG:
            return SECTOR, f"azimuth {azimuth:.0f} is not within {ranges_in_words(rule.azimuth_deg)}"
        low, high = rule.tilt_deg
        if not low - ANGLE_DEG <= tilt <= high + ANGLE_DEG:
            return SECTOR, f"tilt {tilt:.0f} is not within {low:g} to {high:g}"
        if not rule.azimuth_deg and self.down is not None:
            angle = angle_deg(-direction, self.down)
            if angle < rule.from_below_deg - ANGLE_DEG:
                return BELOW, f"{angle:.0f} degrees off straight below, {rule.from_below_deg:g} are the least"
        return "", ""

    def under_couch_top(self, holes_mm: Float, directions: Float, tips_mm: Float) -> Float:
        """Height (n,) in mm that is left between needles and the couch's top, inf where it is not known.

        Parameters
        ----------
        holes_mm, directions : (n, 3) arrays
            The needles' holes and unit directions.
        tips_mm : (n, 3) array
            Their deepest tips.
        """
        if self.down is None or self.couch_top_mm is None:
            return np.full(len(holes_mm), np.inf)
        behind = holes_mm - self.behind_mm * directions
        lowest = np.maximum(holes_mm @ self.down, behind @ self.down) + self.hub_radius_mm
        lowest = np.maximum(lowest, tips_mm @ self.down + self.protocol.needle.radius_mm)
        return np.round(self.couch_top_mm - lowest, 6)

    def named(self, device: Structure) -> str:
        """Cause that a device is named by."""
        return COUCH if device.name == OUTSIDE_NAME else device.name

    def record(self) -> AccessRecord:
        """For plan.json."""
        rule, grid = self.protocol.access, self.border.grid
        axial = np.allclose(np.abs(grid.direction), np.eye(3), atol=1e-6)
        corners = grid.corners_mm()
        return AccessRecord(
            patient_position=self.position,
            down=None if self.down is None else vector(self.down),
            couch_top_mm=self.couch_top_mm,
            couch_top_from=self.couch_top_from,
            things=tuple(device.name for device in self.devices),
            azimuth_deg=rule.azimuth_deg,
            tilt_deg=rule.tilt_deg,
            bore_centre_mm=vector(self.bore_centre_mm),
            bore_axis=vector(self.bore_axis),
            bore_assumed=self.bore_assumed,
            scan_low_mm=vector(corners.min(axis=0)) if axial else None,
            scan_high_mm=vector(corners.max(axis=0)) if axial else None,
            scan_circle=self.border.outside is not None,
            scan_spacing_mm=vector(grid.spacing_mm) if axial else None,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was assumed."""
        found = []
        if self.down is None:
            given = (
                f"the CT's patient position '{self.position}' is none of DICOM"
                if self.position
                else ("the CT has no patient position")
            )
            found.append(
                f"{given}: nothing is barred as from below or under the couch's top; --access says from where needles"
            )
        elif self.couch_top_from.startswith("lowest"):
            found.append(f"the couch's top is taken at the {self.couch_top_from}")
        if self.bore_assumed:
            found.append(
                "the CT does not say where its bore is: its axis is taken through the image's centre"
            )
        return tuple(found)


def access_of(case: Case, protocol: Protocol) -> Access:
    """The access to a patient.

    Parameters
    ----------
    case : Case
        As `brachy.patient.anatomy.prepare` leaves it: roles, one external, things outside from the CT.
    protocol : Protocol
        Its table `[access]`; a device named by `obstacles.free` stops nothing.

    Examples
    --------
    >>> from brachy.io.phantom.file import load_phantom
    >>> from brachy.patient.anatomy import prepare
    >>> from brachy.patient.protocol import load_protocol
    >>> liver = load_protocol("liver-metastasis")
    >>> found = access_of(prepare(load_phantom("liver-metastasis"), liver), liver)
    >>> found.position, found.down.tolist(), round(found.couch_top_mm), found.bars(np.array([0.0, -1.0, 0.0]))[0]
    ('HFS', [0.0, 1.0, 0.0], 132, 'from below')
    """
    (external,) = case.with_role("external")
    free = {name.casefold() for name in protocol.obstacles.free}
    devices = tuple(s for s in case.with_role("device") if not s.is_empty and s.name.casefold() not in free)
    position = case.identity.patient_position.strip().upper()
    vertical = down_of(position)
    down = None if vertical is None else np.array(vertical, dtype=np.float64)
    top, top_from = (None, "") if down is None else couch_top(external, devices, down)
    centre = case.identity.bore_centre_mm
    middle = case.grid.index_to_mm((np.array(case.grid.shape[::-1]) - 1) / 2)
    axis = BORE[position[0]] if down is not None else BORE["H"]
    return Access(
        position=position,
        down=down,
        couch_top_mm=top,
        couch_top_from=top_from,
        devices=devices,
        protocol=protocol,
        border=scan_border(case, external),
        bore_centre_mm=middle if centre is None else np.array(centre),
        bore_axis=np.array(axis, dtype=np.float64),
        bore_assumed=centre is None,
    )


def couch_top(external: Structure, devices: Sequence[Structure], down: Float) -> tuple[float, str]:
    """Height in mm along `down` of the couch's top, and what it is taken from.

    It is the median surface of the devices under the middle of the patient. Where there is none, or one so far below
    the patient that something unseen must lie on it, the patient's own lowest point.
    """
    low, high = external.bounds_mm
    lowest = float(np.maximum(low * down, high * down).sum())
    surface = _surface_below(external, devices, down)
    if surface is None:
        return round(
            lowest, 6
        ), f"lowest point of '{external.name}': no couch under the patient's middle is seen"
    if surface > lowest + MATTRESS_MM:
        gap = surface - lowest
        return round(
            lowest, 6
        ), f"lowest point of '{external.name}': the couch that is seen is {gap:.0f} mm below"
    return round(surface, 6), "surface of the couch under the patient's middle"


def _surface_below(external: Structure, devices: Sequence[Structure], down: Float) -> float | None:
    """Median height of the first surface of a device under the middle of the patient; None where few lines meet one."""
    head = np.array([0.0, 0.0, 1.0])
    aside, centre = np.cross(head, down), external.centroid_mm
    low, high = external.bounds_mm[:, 2]
    along = low + (np.arange(LEVELS) + 0.5) * (high - low) / LEVELS - centre[2]
    points = np.array([centre + s * aside + z * head for s in MIDDLE_MM for z in along])
    body = external.intervals_on_lines(points, down)
    found = []
    for point, inside, *met in zip(
        points, body, *(d.intervals_on_lines(points, down) for d in devices), strict=True
    ):
        if len(inside):
            depths = [start for each in met for start, _ in each.tolist() if start > inside[-1, 1] - SUNK_MM]
            found.append(float(point @ down) + min(depths, default=np.inf))
    middle = float(np.median(found)) if found else np.inf
    return middle if np.isfinite(middle) else None


def scan_border(case: Case, external: Structure) -> ScanBorder:
    """Where the image cuts the patient."""
    grid = case.grid
    slices = grid.shape[0]
    heights = grid.mm_to_index(np.concatenate(external.contours_mm))[:, 2]
    first, last = float(np.round(heights.min(), 6)), float(np.round(heights.max(), 6))
    # the last contour's slab reaches half a slice beyond it; within one slice of there
    ends = (first + 0.5 if first <= 1.0 else -np.inf, last - 0.5 if last >= slices - 2.0 else np.inf)
    spacing = (float(grid.spacing_mm[1]), float(grid.spacing_mm[0]))
    circle = unseen(list(np.asarray(case.ct_hu)), spacing, MOST_AIR)
    outside = None if circle is None else ndimage.binary_dilation(circle.pixels, np.ones((3, 3), dtype=bool))
    return ScanBorder(grid, ends, outside)


def angles_of(direction: Float) -> tuple[float, float]:
    """Azimuth (0 to 360) and tilt in degrees of a needle's direction (3,).

    Examples
    --------
    >>> angles_of(np.array([0.0, 1.0, 0.0])), angles_of(np.array([0.5, 0.0, 0.5]))
    ((0.0, 0.0), (270.0, 45.0))
    """
    x, y, z = direction.tolist()
    azimuth = float(np.degrees(np.arctan2(-x, y))) % 360.0
    return azimuth, float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def angle_deg(one: Float, other: Float) -> float:
    """Angle between two unit vectors (3,) in degrees.

    Examples
    --------
    >>> angle_deg(np.array([1.0, 0, 0]), np.array([0, 1.0, 0]))
    90.0
    """
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other)))


def beyond_ranges(azimuth_deg: float, ranges: Sequence[tuple[float, float]]) -> float:
    """Degrees by which an azimuth lies outside the nearest of some ranges, 0 within one.

    Examples
    --------
    >>> beyond_ranges(10.0, [(315, 405)]), beyond_ranges(60.0, [(315, 405)]), beyond_ranges(300, [(-45, 45)])
    (0.0, 15.0, 15.0)
    """
    least = 360.0
    for low, high in ranges:
        past = (azimuth_deg - low) % 360.0
        if past <= high - low or 360.0 - past < 1e-9:
            return 0.0
        least = min(least, past - (high - low), 360.0 - past)
    return least


def ranges_in_words(ranges: Sequence[tuple[float, float]]) -> str:
    """'315-405', '45-135 or 225-315'."""
    return " or ".join(f"{low:g}-{high:g}" for low, high in ranges)
