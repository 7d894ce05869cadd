"""What a structure is for: target, external, bone, vessel ... from its DICOM type and its name.

The order of precedence is the protocol's own table (`[roles]`), the RT ROI Interpreted Type where it is specific
(PTV, GTV, CTV, EXTERNAL), then the words of the name. Whatever is inferred from a name is listed as assumed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from brachy.errors import UsageError

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
    "organ",
    "ignore",
)
"""Every role. `organ` is evaluated but is no obstacle; `ignore` is neither."""

_TARGET_TYPES = {"PTV", "CTV", "GTV"}
_IGNORED_TYPES = {"SUPPORT", "FIXATION", "MARKER", "REGISTRATION", "ISOCENTER", "CONTRAST_AGENT", "BOLUS"}

# Words are matched whole, after the name is lowered and split at spaces, underscores, digits and capitals.
_WORDS: tuple[tuple[str, str], ...] = (
    ("target", r"gtv|ctv|ptv|tumou?rs?|target|metastas[ie]s|lesions?"),
    ("external", r"body|external|skin|outline|patient"),
    ("bone", r"ribs?|bones?|vertebrae?|costal|cartilages?|sternum|spine|scapulae?|pelvis|sacrum|femurs?|femoral"),
    ("vessel", r"aorta|ivc|svc|veins?|venous|vena|arter(?:y|ies)|arterial|vessels?|portal|cava|hepatic"),
    ("lung", r"lungs?|pleura"),
    ("bile_duct", r"bile|biliary|ducts?|cbd"),
    ("gallbladder", r"gall ?bladder"),
    ("bowel", r"bowel|colon|duodenum|intestines?|jejunum|ileum|stomach|o?esophagus|rectum|sigmoid|caecum|cecum"),
    ("liver", r"liver|hepar"),
)


@dataclass(frozen=True)
class RoleGuess:
    """A role and where it came from: "protocol", "type" (RT ROI Interpreted Type), "name" or "default"."""

    role: str
    source: str


def guess_role(name: str, interpreted_type: str = "", overrides: Mapping[str, str] | None = None) -> RoleGuess:
    """Role of one structure.

    Parameters
    ----------
    name : str
        ROI name.
    interpreted_type : str
        RT ROI Interpreted Type (3006,00A4), or "".
    overrides : mapping, optional
        ROI name (case-insensitive) to role, from the protocol.

    Raises
    ------
    UsageError
        If an override names an unknown role.

    Examples
    --------
    >>> guess_role("CostalCartilages").role, guess_role("Tumour 1", "GTV").source
    ('bone', 'type')
    """
    for key, role in (overrides or {}).items():
        if key.casefold() == name.casefold():
            if role not in ROLES:
                raise UsageError(f"unknown role '{role}' for ROI '{name}': choose from {', '.join(ROLES)}")
            return RoleGuess(role, "protocol")
    kind = interpreted_type.strip().upper()
    if kind in _TARGET_TYPES:
        return RoleGuess("target", "type")
    if kind == "EXTERNAL":
        return RoleGuess("external", "type")
    if kind in _IGNORED_TYPES:
        return RoleGuess("ignore", "type")
    words = " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+", name)).lower()
    for role, pattern in _WORDS:
        if re.search(rf"\b(?:{pattern})\b", words):
            # an ORGAN drawn as such is never the target or the outline, whatever it is called
            if kind in {"ORGAN", "AVOIDANCE", "OAR"} and role in {"target", "external"}:
                continue
            return RoleGuess(role, "name")
    return RoleGuess("organ", "default")


def check_overrides(overrides: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """Override keys that match no structure of the case (to be warned of)."""
    known = {name.casefold() for name in names}
    return [key for key in overrides if key.casefold() not in known]
