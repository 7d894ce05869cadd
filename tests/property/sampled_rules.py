"""The rules of a plan recomputed from its positions by dense sampling: nothing of the package measures here.

What is in the patient lies where it lies: placed seeds, and needles that hold one or were measured, are judged no more.
"""

import numpy as np

CAPSULE_MM = 4.5
"""Of the 6711 (AAPM TG-43U1)."""

ALONG_MM = 0.5
"""Distance of the samples of a needle."""


def inside(points, ring):
    """Whether points (n, 2) lie in a polygon (m, 2): crossings of a ray are counted."""
    x, y = points[:, :1], points[:, 1:]
    (x1, y1), (x2, y2) = ring.T, np.roll(ring, -1, axis=0).T
    with np.errstate(divide="ignore", invalid="ignore"):
        crossed = ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return crossed.sum(axis=1) % 2 == 1


def distance_to_slabs(points, structure):
    """Distance (n,) to a stack of slabs whose outlines are sampled; 0 inside."""
    half = 0.5 * structure.slice_spacing_mm
    found = np.full(len(points), np.inf)
    for ring in map(np.asarray, structure.contours_mm):
        up = np.maximum(np.abs(points[:, 2] - ring[0, 2]) - half, 0.0)
        near = up < found
        if not near.any():
            continue
        step = np.roll(ring, -1, axis=0) - ring
        dense = np.concatenate([ring + step * part for part in np.linspace(0, 1, 8, endpoint=False)])
        flat = np.linalg.norm(points[near, None, :2] - dense[None, :, :2], axis=2).min(axis=1)
        flat[inside(points[near, :2], ring[:, :2])] = 0.0
        found[near] = np.minimum(found[near], np.hypot(flat, up[near]))
    return found


def in_slabs(points, structure):
    """Which points (n,) lie in a stack of slabs; in one alone, as nothing drawn here has holes or overlaps."""
    half = 0.5 * structure.slice_spacing_mm
    found = np.zeros(len(points), dtype=bool)
    for ring in map(np.asarray, structure.contours_mm):
        level = np.abs(points[:, 2] - ring[0, 2]) <= half
        if level.any():
            found[level] |= inside(points[level, :2], ring[:, :2])
    return found


def begun(needle):
    """Whether a needle is, or was, in the patient."""
    return needle.in_place or any(seed.placed for seed in needle.seeds)


class Needle:
    """A needle's axis sampled from the hole to the tip, and its seeds."""

    def __init__(self, needle):
        self.needle = needle
        self.name = needle.hole
        self.hole, self.tip = np.array(needle.hole_mm), np.array(needle.tip_mm)
        self.length = float(np.linalg.norm(self.tip - self.hole))
        self.direction = (self.tip - self.hole) / self.length
        depths = np.append(np.arange(0.0, self.length, ALONG_MM), self.length)
        self.path = self.hole + depths[:, None] * self.direction
        self.to_come = np.array([s.position_mm for s in needle.seeds if not s.placed]).reshape(-1, 3)
        self.along = np.sort((self.to_come - self.hole) @ self.direction)


def broken_rules(found, target, obstacles, external):
    """A sentence for each rule that a plan breaks."""
    protocol = found.protocol
    needles = [Needle(each) for each in found.needles]
    broken = []
    for each in needles:
        if not begun(each.needle):
            broken += _of_path(each, obstacles, protocol)
        if len(each.along):
            broken += _of_seeds(each, target, external, protocol)
    for i, one in enumerate(needles):
        for other in needles[:i]:
            if begun(one.needle) and begun(other.needle):
                continue
            gap = np.linalg.norm(one.path[:, None] - other.path[None], axis=2).min()
            gap -= 2 * protocol.needle.radius_mm
            if gap < protocol.needle.min_needle_spacing_mm - 0.15:
                broken.append(f"needles {other.name} and {one.name}: {gap:.2f} mm")
    return broken + _spacing(found)


def _of_path(each, obstacles, protocol):
    rule, broken = protocol.needle, []
    if each.length > rule.max_needle_mm + 0.01:
        broken.append(f"{each.name}: {each.length:.2f} mm long")
    tip_to_seed = each.length - each.along[-1] - CAPSULE_MM / 2
    if abs(tip_to_seed - rule.tip_to_seed_mm) > 0.01:
        broken.append(f"{each.name}: {tip_to_seed:.2f} mm from tip to seed")
    least = rule.radius_mm + protocol.obstacles.clearance_mm
    for obstacle in obstacles:
        gap = distance_to_slabs(each.path, obstacle).min()
        if gap < least - 0.05:
            broken.append(f"{each.name}: {gap:.2f} mm to {obstacle.name}")
    if protocol.seeds.supply == "strand":
        off = np.abs(np.diff(each.along) - protocol.seeds.strand_pitch_mm).max(initial=0.0)
        if off > 0.01:
            broken.append(f"{each.name}: strand off its pitch by {off:.2f} mm")
    if len({seed.source for seed in each.needle.seeds}) > 1:
        broken.append(f"{each.name}: two strengths")
    return broken


def _of_seeds(each, target, external, protocol):
    rule, broken = protocol.seeds, []
    spacer = rule.smallest_spacer_mm if rule.supply == "loose" else 0.0
    gap = np.diff(each.along).min(initial=np.inf)
    if gap < max(CAPSULE_MM + spacer, rule.min_spacing_mm) - 0.01:
        broken.append(f"{each.name}: seeds {gap:.2f} mm apart")
    # where the axis enters and leaves the target, to the sampling of 0.2 mm
    depths = np.arange(0.0, each.length + 80.0, 0.2)
    within = depths[in_slabs(each.hole + depths[:, None] * each.direction, target)]
    if not len(within):
        return [*broken, f"{each.name} misses the target"]
    if each.along[-1] > within.max() + 0.25 - rule.distal_margin_mm:
        broken.append(f"{each.name}: {within.max() - each.along[-1]:.2f} mm to the distal edge")
    if each.along[0] < within.min() - 0.25:
        broken.append(f"{each.name}: a seed {within.min() - each.along[0]:.2f} mm before the target")
    if not in_slabs(each.to_come, external).all():
        broken.append(f"{each.name}: a seed outside the patient")
    return broken


def _spacing(found):
    seeds = [seed for needle in found.needles for seed in needle.seeds]
    places, placed = np.array([s.position_mm for s in seeds]), np.array([s.placed for s in seeds])
    gaps = np.linalg.norm(places[:, None] - places[None], axis=2)
    gaps[placed[:, None] & placed] = np.inf
    least = gaps[np.triu_indices(len(seeds), 1)].min(initial=np.inf)
    return [] if least >= found.protocol.seeds.min_spacing_mm - 0.01 else [f"seeds {least:.2f} mm apart"]
