"""A needle that is in the patient on a measured line: its channel, and where seeds may still be loaded along it."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from brachy.geometry.structures import Structure
from brachy.needles.channel import Channel, Needle
from brachy.needles.needle_path import target_span
from brachy.patient.protocol import Protocol

Float = NDArray[np.float64]


def measured_channel(planned: Channel, tip_mm: Float, entry_mm: Float) -> Channel:
    """Channel of a needle along a measured line.

    Parameters
    ----------
    planned : Channel
        The needle as planned.
    tip_mm, entry_mm : (3,) arrays
        Measured tip, and entry into the skin.

    Returns
    -------
    Channel
        From a point as far before the skin as the planned hole to the measured tip; its label is the planned one.

    Examples
    --------
    >>> planned = Channel("B2", np.zeros(3), np.array([0.0, 1.0, 0.0]), 20.0, 100.0)
    >>> found = measured_channel(planned, np.array([60.0, 100.0, 0.0]), np.array([0.0, 20.0, 0.0]))
    >>> found.hole_mm.tolist(), found.direction.tolist(), found.tip_depth_mm
    ([-12.0, 4.0, 0.0], [0.6, 0.8, 0.0], 120.0)
    """
    way = tip_mm - entry_mm
    length = float(np.linalg.norm(way))
    direction = way / length
    before = planned.entry_depth_mm
    return replace(
        planned,
        hole_mm=entry_mm - before * direction,
        direction=direction,
        tip_depth_mm=length + before,
    )


def measured_needle(
    channel: Channel, target: Structure, external: Structure, tip_offset_mm: float, protocol: Protocol
) -> Needle:
    """Candidate seeds along a needle that is in the patient.

    They lie from the tip, or the distal margin, back to where the needle enters the target, a step apart. The needle is
    inserted, so obstacle clearance is not checked again; distal and skin margin are kept.

    Parameters
    ----------
    channel : Channel
        Where the needle lies.
    target, external : Structure
        The planned target, and the outline of the patient.
    tip_offset_mm : float
        Centre of the most distal seed to the tip.
    protocol : Protocol
        Margins; step of the strand, or of `[replan]`.
    """
    span = target_span(target, channel.hole_mm, channel.direction, protocol.template.lateral_overshoot_mm)
    depths = np.zeros(0)
    if span is not None:
        deepest = min(channel.tip_depth_mm - tip_offset_mm, span[1] - protocol.seeds.distal_margin_mm)
        step = protocol.seeds.step_mm if protocol.seeds.supply == "strand" else protocol.replan.step_mm
        depths = np.arange(deepest, span[0] - 1e-9, -step)
        inside = -external.signed_distance_mm(channel.at(depths)) if len(depths) else depths
        depths = depths[inside > protocol.seeds.skin_margin_mm]
    return Needle(
        *channel.axis,
        entry_depth_mm=channel.entry_depth_mm,
        tip_depth_mm=channel.tip_depth_mm,
        depths_mm=depths,
        target_mm=span or (0.0, 0.0),
        measured=True,
    )
