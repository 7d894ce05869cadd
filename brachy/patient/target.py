"""A target with its prescription, as drawn and as expanded by its margin: the one record that planning, evaluation,
post-implant dosimetry and output share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from brachy.geometry.structures import Structure
from brachy.patient.case import Case
from brachy.patient.protocol import Protocol


@dataclass(frozen=True, eq=False)
class Target:
    """A target and the dose prescribed to it.

    Parameters
    ----------
    drawn : Structure
        As contoured (patient frame, LPS, mm).
    prescription_gy : float
        Gy to complete decay.
    margin_mm : float
        3D expansion, mm; 0 for none.
    expanded : Structure, optional
        `drawn` with the margin, from `expanded`; None without a margin.
    nested_in : str
        Name of the target (as planned) that holds this one, a boost for example; "" if none does.

    Examples
    --------
    >>> square = [[0.0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0]]
    >>> target = Target(Structure("GTV", [square], slice_spacing_mm=5.0), 120.0)
    >>> target.name, target.structure is target.drawn
    ('GTV', True)
    """

    drawn: Structure
    prescription_gy: float
    margin_mm: float = 0.0
    expanded: Structure | None = None
    nested_in: str = ""

    @property
    def structure(self) -> Structure:
        """What is planned and evaluated: the target with its margin, without a margin as drawn."""
        return self.drawn if self.expanded is None else self.expanded

    @property
    def name(self) -> str:
        """Name of `structure`."""
        return self.structure.name


def planned_name(roi: str, margin_mm: float) -> str:
    """Name of a target with its margin, as it stands in RTSTRUCT.dcm; without a margin the drawn one's.

    Examples
    --------
    >>> planned_name("GTV", 0.0), planned_name("GTV", 2.5)
    ('GTV', 'GTV + 2.5 mm')
    """
    return roi if margin_mm == 0 else f"{roi} + {margin_mm:g} mm"


def target_of(
    case: Case,
    protocol: Protocol,
    drawn: Structure,
    prescription_gy: float,
    margin_mm: float | None = None,
    *,
    clip_where_present: bool = False,
) -> Target:
    """A drawn structure as a target: expanded, and clipped to the external and to the protocol's `target.clip_to`.

    Parameters
    ----------
    case : Case
        With roles, see `brachy.patient.anatomy.prepare`.
    protocol : Protocol
        Its margin, and the organs that the margin must not leave.
    drawn : Structure
        The target's contours.
    prescription_gy : float
        Gy to complete decay.
    margin_mm : float, optional
        In place of the protocol's.
    clip_where_present : bool
        Clip to those organs of `target.clip_to` that the case has; by default a missing one is an error. A CT after
        the implant need not show every organ that was contoured for planning.

    Raises
    ------
    UsageError
        If an organ to clip to is not in the case.
    """
    margin = protocol.target.margin_mm if margin_mm is None else margin_mm
    if margin == 0:
        return Target(drawn, prescription_gy)
    names = protocol.target.clip_to
    if clip_where_present:
        present = {structure.name.casefold() for structure in case.structures}
        names = tuple(name for name in names if name.casefold() in present)
    limits = [*case.with_role("external"), *(case.structure(name) for name in names)]
    return Target(drawn, prescription_gy, margin, _expanded(drawn, margin, limits))


def _expanded(drawn: Structure, margin_mm: float, limits: Sequence[Structure]) -> Structure:
    """`drawn` grown by the margin in 3D within every one of the limits, under the name and type of a PTV."""
    wider = drawn.expanded(margin_mm, [other for other in limits if other is not drawn])
    return replace(wider, name=planned_name(drawn.name, margin_mm), interpreted_type="PTV", number=None)
