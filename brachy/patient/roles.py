"""Infers the role of a structure (target, external, vessel ...) from the protocol, its DICOM type, its codes, its name.

The order of precedence is the protocol's table `[roles]`, written by a person for such a case; the RT ROI Interpreted
Type if it is specific (PTV, EXTERNAL, MARKER ...); the RT ROI Identification codes; the words of the name, by
`brachy.patient.roi_names`. A structure of which nothing is known is an organ, so that it stops a needle.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from brachy.errors import UsageError
from brachy.geometry.structures import RoiCode, RoleBasis
from brachy.patient import roi_names

ROLES = (
    "target",
    "external",
    "liver",
    "bone",
    "vessel",
    "lung",
    "bile_duct",
    "gallbladder",
    "bowel",
    "heart",
    "spinal_cord",
    "nerve",
    "kidney",
    "spleen",
    "pancreas",
    "organ",
    "other_target",
    "skin",
    "fat",
    "muscle",
    "device",
    "region",
    "ignore",
)
"""All roles. `organ` is any other organ, and a structure that is not understood; `other_target` is a target that the
plan does not treat; `device` is not part of the patient (couch, mask, applicator); `region` is a volume drawn for its
dose; `ignore` is neither evaluated nor drawn. Which of them stop a needle: `brachy.patient.obstacles`."""

UNDOSED = ("ignore", "device")
"""Roles whose dose is not evaluated."""

OBSTACLES = ("bone", "vessel", "lung", "bile_duct", "gallbladder", "bowel")
"""Roles that a protocol names as obstacles by default (`[obstacles] roles`): also where they hold the target."""

SOFT_OBSTACLES = (
    *(role for role in OBSTACLES if role != "bone"),
    *("heart", "spinal_cord", "nerve", "kidney", "spleen", "pancreas"),
)
"""Roles in which no seed should lie: a seed found in one is reported, and none is suggested there."""

TARGET_TYPES = frozenset({"PTV", "CTV", "GTV"})
_ORGAN_TYPES = frozenset({"ORGAN", "AVOIDANCE", "OAR", "CAVITY", "CONTRAST_AGENT"})
_REGION_TYPES = frozenset({"CONTROL", "TREATED_VOLUME", "IRRAD_VOLUME", "DOSE_REGION"})
_MARK_TYPES = frozenset({"MARKER", "REGISTRATION", "ISOCENTER"})
_DEVICE_TYPES = frozenset(
    {
        *("SUPPORT", "FIXATION", "BOLUS", "DEVICE", "DOSE_MEASUREMENT"),
        *("BRACHY_CHANNEL", "BRACHY_ACCESSORY", "BRACHY_SRC_APP", "BRACHY_CHNL_SHLD"),
    }
)


@dataclass(frozen=True)
class RoleGuess:
    """A role and where it came from.

    `source` is "protocol", "type" (RT ROI Interpreted Type), "code", "name" or "default" (nothing known); `why` says
    the same in words. `understood` is False where nothing is known of it, or where its name says another thing than
    its type or code.
    """

    role: str
    source: str
    why: str = ""
    understood: bool = True

    @property
    def basis(self) -> RoleBasis:
        """The same without the role."""
        return RoleBasis(self.source, self.why, self.understood)


def guess_role(
    name: str,
    interpreted_type: str = "",
    overrides: Mapping[str, str] | None = None,
    codes: Sequence[RoiCode] = (),
) -> RoleGuess:
    """Role of one structure.

    Parameters
    ----------
    name : str
        ROI name.
    interpreted_type : str
        RT ROI Interpreted Type (3006,00A4), or "".
    overrides : mapping, optional
        ROI name (case-insensitive) to role, from the protocol.
    codes : sequence of RoiCode, optional
        Of the RT ROI Identification Code Sequence (3006,0086) and the like.

    Raises
    ------
    UsageError
        If an override names an unknown role.

    Examples
    --------
    >>> guess_role("CostalCartilages").role, guess_role("Tumour 1", "GTV").source
    ('bone', 'type')
    >>> guess_role("门静脉", "ORGAN").role, guess_role("门静脉", "ORGAN").why
    ('vessel', "its name: '门静脉' (zh)")
    """
    for key, role in (overrides or {}).items():
        if key.casefold() == name.casefold():
            if role not in ROLES:
                raise UsageError(f"unknown role '{role}' for ROI '{name}': choose from {', '.join(ROLES)}")
            return RoleGuess(role, "protocol", "the protocol's [roles]")
    kind = interpreted_type.strip().upper()
    # an ORGAN drawn as such is never the target or the outline, whatever it is called
    organ = kind in _ORGAN_TYPES
    by_name = roi_names.read(name, organ=organ or bool(_role_of_type(kind)))
    by_type = _role_of_type(kind)
    if by_type:
        return _unless_named(by_type, "type", f"its type {kind}", by_name)
    by_code = _by_code(codes, organ)
    if by_code is not None:
        return _unless_named(by_code.role, "code", by_code.why, by_name)
    if by_name.role:
        return RoleGuess(by_name.role, "name", f"its name: {by_name.why}")
    return RoleGuess("organ", "default", by_name.why, understood=False)


def _role_of_type(kind: str) -> str:
    """Role that a type says by itself; "" where name and codes are asked."""
    if kind in TARGET_TYPES:
        return "target"
    if kind == "EXTERNAL":
        return "external"
    if kind in _REGION_TYPES:
        return "region"
    if kind in _MARK_TYPES:
        return "ignore"
    return "device" if kind in _DEVICE_TYPES else ""


def _by_code(codes: Sequence[RoiCode], organ: bool) -> roi_names.Reading | None:
    """Role of the first code that is known, or whose meaning is understood."""
    known = roi_names.table().codes
    for code in codes:
        role, thing = known.get((code.scheme, code.value), ("", ""))
        shown = f"its code {code.scheme} {code.value}"
        if not role:
            meant = roi_names.read(code.meaning, organ=organ)
            role, thing = meant.role, code.meaning
        if role and not (organ and role in ("target", "external")):
            return roi_names.Reading(role, f"{shown} ({thing})")
    return None


def _unless_named(role: str, source: str, why: str, by_name: roi_names.Reading) -> RoleGuess:
    """A role by type or code; in doubt where the name says another, and an organ where only a code calls it soft."""
    if not by_name.role or by_name.role == role or role in ("target", "external"):
        return RoleGuess(role, source, why)
    why = f"{why}; its name says {by_name.role.replace('_', ' ')}: {by_name.why}"
    if source == "code" and role in roi_names.SOFT:
        return RoleGuess("organ", "default", why, understood=False)
    return RoleGuess(role, source, why, understood=False)


def check_overrides(overrides: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """Override keys that match no structure of the case (to be warned of)."""
    known = {name.casefold() for name in names}
    return [key for key in overrides if key.casefold() not in known]
