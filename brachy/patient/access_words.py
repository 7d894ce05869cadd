"""The words of `--access`: from which sides of the patient needles may come."""

import re
from collections.abc import Sequence
from typing import Any

from brachy.errors import UsageError

Range = tuple[float, float]

SIDES: dict[str, Range] = {
    "front": (315.0, 405.0),
    "anterior": (315.0, 405.0),
    "left": (45.0, 135.0),
    "back": (135.0, 225.0),
    "posterior": (135.0, 225.0),
    "right": (225.0, 315.0),
}
"""Azimuths in degrees by the patient's side that a needle enters: 45 to either side (engineering choice). They are
the patient's own sides, however the patient lies."""

ENDS: dict[str, Range] = {"head": (-90.0, 0.0), "feet": (0.0, 90.0)}
"""Tilts in degrees: a needle that comes from the head's side goes toward the feet, with a tilt of 0 or less."""

_ANGLES = re.compile(r"(tilt\s*)?(-?\d+(?:\.\d+)?)\s*\.\.\s*(-?\d+(?:\.\d+)?)")


def access_fields(words: str) -> dict[str, Any]:  # a table of the protocol, of as many types
    """Fields of the protocol's table `[access]` that comma-separated words stand for.

    Sides and azimuths are united, head and feet too; both kinds hold together.

    Parameters
    ----------
    words : str
        Such as "front,right", "left,head", "225..405" (azimuths) or "right,tilt -20..20".

    Raises
    ------
    UsageError
        If a word is unknown; the message lists those that there are.

    Examples
    --------
    >>> access_fields("front, right")
    {'azimuth_deg': ((225.0, 405.0),)}
    >>> access_fields("left,right,head")
    {'azimuth_deg': ((45.0, 135.0), (225.0, 315.0)), 'tilt_deg': (-90.0, 0.0)}
    >>> access_fields("250..300,tilt -10..20")
    {'azimuth_deg': ((250.0, 300.0),), 'tilt_deg': (-10.0, 20.0)}
    """
    azimuths: list[Range] = []
    tilts: list[Range] = []
    for text in words.split(","):
        word = text.strip().lower()
        angles = _ANGLES.fullmatch(word)
        if word in SIDES:
            azimuths.append(SIDES[word])
        elif word in ENDS:
            tilts.append(ENDS[word])
        elif angles is not None:
            (tilts if angles[1] else azimuths).append((float(angles[2]), float(angles[3])))
        else:
            raise UsageError(
                f"--access {words}: '{text.strip()}' is no side: give {', '.join((*SIDES, *ENDS))}, azimuths as in "
                "225..405, or 'tilt -20..20'"
            )
    fields: dict[str, Any] = {}
    if azimuths:
        fields["azimuth_deg"] = united(azimuths)
    if tilts:
        fields["tilt_deg"] = (min(low for low, _ in tilts), max(high for _, high in tilts))
    return fields


def united(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """Ranges of azimuths with those joined that touch, also across 360 degrees.

    Examples
    --------
    >>> united([(315, 405), (45, 135), (135, 225), (225, 315)]), united([(0, 30), (350, 360)])
    (((0.0, 360.0),), ((350.0, 390.0),))
    """
    if any(high < low or high - low > 360 for low, high in ranges):
        return tuple(ranges)  # the protocol refuses it, and says why
    turned = sorted((low % 360.0, low % 360.0 + high - low) for low, high in ranges)
    joined: list[Range] = []
    for low, high in turned:
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    while len(joined) > 1 and joined[-1][1] >= joined[0][0] + 360.0:
        low, high = joined.pop()
        joined[0] = (low, max(high, joined[0][1] + 360.0))
        joined = sorted(joined)
    if joined[-1][1] - joined[-1][0] >= 360.0:
        return ((0.0, 360.0),)
    return tuple(joined)
