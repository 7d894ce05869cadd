"""Infers the role of a structure (target, external, bone, vessel, ...) from the protocol, its DICOM type and its name.

The order of precedence is the protocol's table `[roles]`, the RT ROI Interpreted Type if it is specific (PTV, GTV, CTV,
EXTERNAL), then the words of the name. Roles inferred from names are listed as assumed.
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
"""All roles. An `organ` is evaluated but is no obstacle; a structure to `ignore` is neither."""

OBSTACLES = ("bone", "vessel", "lung", "bile_duct", "gallbladder", "bowel")
"""Roles that block a needle, unless the protocol says otherwise (`[obstacles] roles`)."""

SOFT_OBSTACLES = tuple(role for role in OBSTACLES if role != "bone")
"""Roles in which no seed should lie: a seed found in one is reported, and none is suggested there."""

_TARGET_TYPES = {"PTV", "CTV", "GTV"}
_ORGAN_TYPES = {
    "ORGAN",
    "AVOIDANCE",
    "OAR",
    "CAVITY",
    "CONTROL",
    "TREATED_VOLUME",
    "IRRAD_VOLUME",
    "DOSE_REGION",
}
_IGNORED_TYPES = {
    *("SUPPORT", "FIXATION", "MARKER", "REGISTRATION", "ISOCENTER", "CONTRAST_AGENT", "BOLUS", "DEVICE"),
    *("BRACHY_CHANNEL", "BRACHY_ACCESSORY", "BRACHY_SRC_APP", "BRACHY_CHNL_SHLD", "DOSE_MEASUREMENT"),
}

# Whole words are matched, after the name has been split at spaces, underscores, digits and capitals. The first row that
# matches decides: the vertebral artery is a vessel, the hepatic flexure is bowel.
_WORDS: tuple[tuple[str, str], ...] = (
    ("target", r"i?gtv|ctv|ptv|itv|tumou?rs?|target|metastas[ie]s|mets?|lesions?|hcc|pvtt"),
    (
        "vessel",
        r"aorta|ivc|svc|sm[av]|veins?|venous|vena|arter(?:y|ies)|arterial|vessels?|great ves|vascular|portal?|cava|"
        r"(?:brachiocephalic|c(?:o)?eliac) trunk",
    ),
    (
        "bone",
        r"ribs?|ribcage|bones?|bony|vertebra[el]?|vbs?|costal|cartilages?|cartlg|sternum|manubrium|spine|spinous|"
        r"scapulae?|clavi(?:cle|cula)[se]?|hips?|(?<!renal )pelvis|sacrum|coccyx|femurs?|femoral|humer(?:us|i)|skull|"
        r"mandible|skeleton",
    ),
    ("bile_duct", r"bile|biliary|ducts?|choledoch(?:us|al)|cbd|chd"),
    ("gallbladder", r"gall ?bladder"),
    (
        "bowel",
        r"bowels?|colon|colic|flexure|duodenum|intestines?|jejunum|ileum|stomach|gastric|o?esophagus|rectum|sigmoid|"
        r"ca?ecum|appendix",
    ),
    ("lung", r"lungs?|pleurae?"),
    ("liver", r"liver|hepar|hepatic"),
)

# A structure is the external only if its name has no other words: "Body of pancreas" is not.
_OUTLINE = r"(?:(?:body|external|skin|outline|patient|contour|surface|outer|auto|ct|trun[ck])\b ?)+"
_OUTLINE_NEEDS = r"\b(?:body|external|skin|outline|patient)\b"

# "Liver-GTV" and "LungsMinusPTV" are organs without the target.
_LESS = r"(?<=\w)\s*-\s*(?:i?gtv|ctv|ptv|itv|tumou?r|target|lesion).*"
_LESS_WORDS = r" (?:minus|without|excl|excluding|sub|not|sans)\b.*"


@dataclass(frozen=True)
class RoleGuess:
    """A role and its origin: "protocol", "type" (RT ROI Interpreted Type), "name" or "default"."""

    role: str
    source: str


def guess_role(
    name: str, interpreted_type: str = "", overrides: Mapping[str, str] | None = None
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
    whole = _words(name)
    words = re.sub(_LESS_WORDS, "", _words(re.sub(_LESS, "", name, flags=re.IGNORECASE)))
    # a structure of type ORGAN is never the target or the external, whatever its name; nor is an organ without a target
    organ = kind in _ORGAN_TYPES
    if not organ and re.fullmatch(_OUTLINE, words) and re.search(_OUTLINE_NEEDS, words):
        return RoleGuess("organ", "default") if words != whole else RoleGuess("external", "name")
    if re.match(
        r"[AV]_[A-Z][a-z]", name
    ):  # A_Hepatic, V_Portal: arteries and veins as AAPM TG-263 writes them
        return RoleGuess("vessel", "name")
    for role, pattern in _WORDS:
        if re.search(rf"\b(?:{pattern})\b", words) and not (role == "target" and (organ or words != whole)):
            return RoleGuess(role, "name")
    return RoleGuess("organ", "default")


def _words(name: str) -> str:
    """A name as lower-case words: "PortalSplenicVein_2" is "portal splenic vein"."""
    # GTVp, GTVn, CTVnd: the letters after the type are a label and no word
    name = re.sub(r"((?:GTV|CTV|PTV|ITV))[a-z]{1,2}(?![a-z])", r"\1", name)
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+", name)).lower()


def check_overrides(overrides: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """Keys of `overrides` that match no structure name, for a warning."""
    known = {name.casefold() for name in names}
    return [key for key in overrides if key.casefold() not in known]
