"""Every rule of the protocol, recomputed from a finished plan's geometry alone, with its worst case and place.

Nothing here looks at how the needles were chosen: paths are sampled, finer where they come near something, and seeds
and holes are measured as the plan has them. Each needle is judged along its own direction, from its hole to its tip.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brachy.core.threads import one_thread
from brachy.dosimetry.source import Source
from brachy.errors import UsageError
from brachy.evaluation.access_rules import access_rules
from brachy.evaluation.lateral_rule import (
    SAMPLE_MM,
    TOLERANCE_MM,
    LateralRule,
    UsedNeedle,
    distance_to_segment,
    nearest_on_path,
)
from brachy.evaluation.rule_results import (
    NO_PAIR,
    NOTHING,
    TOLERANCE_DEG,
    at_least,
    at_most,
    not_checked,
    rule_result,
)
from brachy.geometry.structures import Structure
from brachy.needles.channel import Channel
from brachy.needles.needle_path import AIR_GAP_MM, SLIVER_MM
from brachy.needles.template import TemplateLayout
from brachy.patient.access import Access
from brachy.patient.evaluation_record import RuleResult
from brachy.patient.obstacles import obstacles, rule_roles
from brachy.patient.plan import PlanNeedle, PlanTemplate
from brachy.patient.protocol import Protocol
from brachy.patient.target import Target

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Line:
    """A needle of the plan as arrays."""

    name: str
    needle: PlanNeedle
    channel: Channel
    seeds: Float
    """(k, 3)"""
    target: Structure
    span: tuple[float, float]
    """Depths from the hole at which the axis first enters and last leaves the target; NaN if it misses it."""

    @property
    def hole(self) -> Float:
        return self.channel.hole_mm

    @property
    def tip(self) -> Float:
        return np.array(self.needle.tip_mm)

    @property
    def length(self) -> float:
        return self.channel.tip_depth_mm

    @property
    def placed(self) -> NDArray[np.bool_]:
        """Which of its seeds are in the patient."""
        return np.array([seed.placed for seed in self.needle.seeds], dtype=bool)

    def to_come(self) -> "_Line | None":
        """The needle with the seeds that can still be changed; None where all of them are in the patient."""
        if not self.placed.any():
            return self
        kept = tuple(seed for seed in self.needle.seeds if not seed.placed)
        needle = self.needle.model_copy(update={"seeds": kept})
        return replace(self, needle=needle, seeds=self.seeds[~self.placed]) if kept else None

    @property
    def depths(self) -> Float:
        """Depth of each seed from the hole along the needle."""
        return self.channel.depth_of(self.seeds)


@one_thread()
def check_rules(
    needles: Sequence[PlanNeedle],
    templates: Sequence[PlanTemplate],
    targets: Sequence[Target],
    structures: Sequence[Structure],
    protocol: Protocol,
    source: Source,
    blocked: Collection[tuple[int, str]] = (),
    access: Access | None = None,
) -> tuple[RuleResult, ...]:
    """Check every rule of a protocol on a finished plan.

    Parameters
    ----------
    needles : sequence of PlanNeedle
        Loaded needles, patient frame (LPS), mm.
    templates : sequence of PlanTemplate
        Their templates; each one's `target` is the name of one of `targets`.
    targets : sequence of Target
        The plan's; rules look at each with its margin.
    structures : sequence of Structure
        With their roles: one "external", and among the others the obstacles.
    protocol : Protocol
        The rules.
    source : Source
        The seed, for the length of its capsule.
    blocked : collection of (template, hole)
        Holes that were found impossible during the implantation; they serve no edge point.
    access : Access, optional
        What bars needles from outside the patient; without it there are no rules on that.

    Returns
    -------
    tuple of RuleResult
        Every rule: its limit, the worst case, where that is, and its status (kept to `TOLERANCE_MM`).

    Raises
    ------
    UsageError
        If there is no external, or a template names a target that is not given.

    References
    ----------
    The rules and where their numbers come from: plans/liver-metastasis.toml.

    Examples
    --------
    >>> from brachy.patient.protocol import load_protocol
    >>> from brachy.dosimetry.source import load_source
    >>> square = [[-90, -90, 0], [90, -90, 0], [90, 90, 0], [-90, 90, 0]]
    >>> body = Structure("Body", [square], role="external")
    >>> liver, seed = load_protocol("liver-metastasis"), load_source("amersham_6711")
    >>> results = check_rules([], [], [], [body], liver, seed)  # a plan without needles
    >>> results[-1].rule, results[-1].limit, results[-1].status
    ('activity', '0.6-0.8 mCi', 'kept')
    >>> results[0].rule, results[0].status, results[0].where
    ('needle to bone', 'not checked', 'no such structure')
    """
    external = next((s for s in structures if s.role == "external" and not s.is_empty), None)
    if external is None:
        raise UsageError("no structure has the role 'external': give one in the protocol's [roles]")
    planned = {target.name: target.structure for target in targets}
    for template in templates:
        if template.target not in planned:
            raise UsageError(
                f"a template is for target '{template.target}', which is not among the plan's targets"
            )
    # of each template: what holds one target may bar the way to another
    stopping = [obstacles(structures, protocol, planned[t.target], set(planned)) for t in templates]
    overshoot = protocol.template.lateral_overshoot_mm
    # what is in the patient can no longer be moved: rules are for what can still be changed
    every = [_line(needle, templates, planned, overshoot) for needle in needles]
    lines = [line for line in every if not line.needle.begun]
    to_come = [part for line in every if (part := line.to_come()) is not None]
    found = [obstacle for each in stopping for obstacle in each]
    results = [
        result
        for role in rule_roles(found, protocol)
        for result in _clearance(lines, role, stopping, structures, protocol)
    ]
    results += [
        _seeds_to_skin(to_come, external, protocol),
        _distal_edge(to_come, protocol),
        _within_target(to_come),
        _needle_length(lines, protocol),
        _needle_spacing(every, protocol),
        _seed_spacing(every, protocol),
        _spacing_in_needle(to_come, protocol, source),
        *_supply(every, protocol),
    ]
    for index, template in enumerate(templates):
        lateral = LateralRule(stopping[index], external, protocol, source.capsule_length_mm, blocked)
        own = [UsedNeedle(line.channel, line.span) for line in every if line.needle.template == index]
        several = f", template {index + 1} ({template.target})" if len(templates) > 1 else ""
        results += lateral.check(own, TemplateLayout.of(template), planned[template.target], several, index)
    results += [
        _standoff(lines, external, protocol),
        _skin_entry(lines, external),
        _on_lattice(lines, templates),
        _first_seed(lines, protocol, source),
        _depths(lines),
    ]
    if access is not None:
        results += access_rules([(line.name, line.channel) for line in lines], access)
    low, high = protocol.prescription.allowed_gy
    doses = [target.prescription_gy for target in targets]
    gy = max(doses, key=lambda dose: max(low - dose, dose - high), default=None)
    weak, strong = protocol.source.allowed_mCi
    mci = max(protocol.source.stock_mCi, key=lambda given: max(weak - given, given - strong))
    prescribed = next((target.name for target in targets if target.prescription_gy == gy), "")
    results += [
        not_checked("prescription", f"{low:g}-{high:g} Gy", "no target", "Gy")
        if gy is None
        else rule_result("prescription", f"{low:g}-{high:g} Gy", gy, low <= gy <= high, prescribed, "Gy"),
        rule_result("activity", f"{weak:g}-{strong:g} mCi", mci, weak <= mci <= strong, source.name, "mCi"),
    ]
    return tuple(results)


def _line(
    needle: PlanNeedle, templates: Sequence[PlanTemplate], planned: dict[str, Structure], overshoot_mm: float
) -> _Line:
    channel = Channel.of(needle)
    target = planned[templates[needle.template].target]
    inside = target.line_intervals(channel.hole_mm, channel.direction)
    wide = np.diff(inside, axis=1)[:, 0] >= SLIVER_MM
    inside = inside[wide] if wide.any() else inside  # a sliver beyond is as little of the target as one alone
    span = (np.nan, np.nan)
    crossed = float(np.diff(inside, axis=1).max(initial=0.0))
    if len(inside) and (overshoot_mm == 0 or crossed > SLIVER_MM + TOLERANCE_MM):
        span = (float(inside[0, 0]), float(inside[-1, 1]))
    elif overshoot_mm > 0:  # an axis that only passes near counts where it is so near
        far = np.linalg.norm(target.centroid_mm - channel.hole_mm) + 300.0
        depths = np.arange(0.0, far, 0.005)
        near = depths[target.distance_mm(channel.at(depths), overshoot_mm + 1.0) <= overshoot_mm]
        span = (float(near[0]), float(near[-1])) if len(near) else span
    name = f"needle {needle.hole}" + (f" of template {needle.template + 1}" if len(templates) > 1 else "")
    seeds = np.array([seed.position_mm for seed in needle.seeds]).reshape(-1, 3)
    return _Line(name, needle, channel, seeds, target, span)


def _clearance(
    lines: Sequence[_Line],
    role: str,
    stopping: Sequence[Sequence[Structure]],
    structures: Sequence[Structure],
    protocol: Protocol,
) -> list[RuleResult]:
    """Distance of needles to the obstacles of a role; `stopping` has those of each template.

    What was freed has a result of its own beside that of the rest, and it is not checked.
    """
    found: list[tuple[float, str]] = []
    for obstacle in {id(s): s for each in stopping for s in each if s.role == role}.values():
        for line in (line for line in lines if obstacle in stopping[line.needle.template]):
            worst = min((gap for gap, _ in found), default=np.inf) + protocol.needle.radius_mm
            gap, depth = nearest_on_path(line.hole, line.tip, obstacle, worst)
            gap -= protocol.needle.radius_mm
            found.append((gap, f"{line.name}, {obstacle.name}, {depth:.0f} mm from the hole"))
    there = [s.name for s in structures if s.role == role and not s.is_empty]
    free = {name.casefold() for name in protocol.obstacles.free}
    freed = [name for name in there if name.casefold() in free]
    rule, limit = f"needle to {role.replace('_', ' ')}", protocol.obstacles.clearance_mm
    passed = f"freed: {', '.join(freed)}"
    if freed and len(freed) == len(there):
        return [not_checked(rule, f">= {limit:g} mm", passed)]
    result = at_least(rule, limit, found, nothing=NOTHING if there else "no such structure")
    return [result, *([not_checked(f"{rule}, freed", f">= {limit:g} mm", passed)] if freed else [])]


def _seeds_to_skin(lines: Sequence[_Line], external: Structure, protocol: Protocol) -> RuleResult:
    found = []
    for line in lines:
        gaps = -external.signed_distance_mm(line.seeds)
        found += [(float(gap), f"{line.name}, seed {k + 1}") for k, gap in enumerate(gaps)]
    return at_least("seed to skin", protocol.seeds.skin_margin_mm, found, ">")


def _distal_edge(lines: Sequence[_Line], protocol: Protocol) -> RuleResult:
    found = []
    for line in lines:
        if len(line.seeds):
            found.append(_or_missed(line, line.span[1] - float(line.depths.max())))
    return at_least("seed to distal edge", protocol.seeds.distal_margin_mm, found)


def _within_target(lines: Sequence[_Line]) -> RuleResult:
    found = []
    for line in lines:
        for k, depth in enumerate(line.depths.tolist()):
            gap, where = _or_missed(line, min(depth - line.span[0], line.span[1] - depth))
            found.append((gap, f"{where}, seed {k + 1}"))
    return at_least("seed between first entry and last exit", 0.0, found)


def _or_missed(line: _Line, gap: float) -> tuple[float, str]:
    """A gap to an end of the target, or minus the distance by which the needle misses the target."""
    if np.isfinite(gap):
        return gap, line.name
    return -nearest_on_path(line.hole, line.tip, line.target)[0], f"{line.name} misses {line.target.name}"


def _needle_length(lines: Sequence[_Line], protocol: Protocol) -> RuleResult:
    return at_most(
        "needle length", protocol.needle.max_needle_mm, [(line.length, line.name) for line in lines]
    )


def _needle_spacing(lines: Sequence[_Line], protocol: Protocol) -> RuleResult:
    found = []
    for k, one in enumerate(lines):
        for other in lines[:k]:
            if one.needle.begun and other.needle.begun:
                continue
            gap = _path_to_path(one, other) - 2 * protocol.needle.radius_mm
            found.append((gap, f"{other.name} and {one.name}"))
    return at_least("between needles", protocol.needle.min_needle_spacing_mm, found, nothing=NO_PAIR)


def _path_to_path(one: _Line, other: _Line) -> float:
    """Least distance of two needles' axes.

    Along one of them the distance from the other is convex, so the minimum lies beside the least sample.
    """
    low, high = 0.0, one.length
    for _ in range(4):
        depths = np.linspace(low, high, 101)
        gaps = distance_to_segment(one.channel.at(depths), other.hole, other.tip)
        k = int(gaps.argmin())
        low, high = depths[max(k - 1, 0)], depths[min(k + 1, 100)]
    return float(gaps.min())


def _seed_spacing(lines: Sequence[_Line], protocol: Protocol) -> RuleResult:
    names = [f"{line.name}, seed {k + 1}" for line in lines for k in range(len(line.seeds))]
    found = []
    if len(names) > 1:
        seeds = np.concatenate([line.seeds for line in lines])
        gaps = np.linalg.norm(seeds[:, None] - seeds[None], axis=2)
        gaps[np.tril_indices(len(seeds))] = np.inf
        placed = np.concatenate([line.placed for line in lines])
        gaps[placed[:, None] & placed] = np.inf
        i, j = np.unravel_index(int(gaps.argmin()), gaps.shape)
        found.append((float(gaps[i, j]), f"{names[i]} and {names[j]}"))
    return at_least("between seeds", protocol.seeds.min_spacing_mm, found, nothing=NO_PAIR)


def _spacing_in_needle(lines: Sequence[_Line], protocol: Protocol, source: Source) -> RuleResult:
    """Seeds of one needle are as far apart as a capsule, and a spacer between loose seeds, need."""
    found = []
    for line in lines:
        gaps = np.diff(np.sort(line.depths))
        if len(gaps):
            found.append((float(gaps.min()), line.name))
    limit = protocol.seeds.spacing_in_needle_mm(source.capsule_length_mm)
    return at_least("between seeds of a needle", limit, found, nothing=NO_PAIR)


def _supply(lines: Sequence[_Line], protocol: Protocol) -> list[RuleResult]:
    """Rules on the stock, where the protocol has any: strands, counts, one strength a needle."""
    results = []
    rule = protocol.seeds
    if rule.supply == "strand":
        found = []
        for line in (line for line in lines if not line.needle.begun):
            gaps = np.abs(np.diff(np.sort(line.depths)) - rule.strand_pitch_mm)
            found.append((float(gaps.max(initial=0.0)), line.name))
        results.append(at_most(f"pitch of a strand, off {rule.strand_pitch_mm:g} mm", 0.0, found))
    seeds = sum(len(line.seeds) for line in lines)
    for name, unit, count, number in (
        ("seeds in stock", "seeds", rule.count, seeds),
        ("needles", "needles", protocol.needle.count, len(lines)),
    ):
        if count is None:
            continue
        exact = isinstance(count, int) and unit == "seeds"
        low, high = count if isinstance(count, tuple) else (count if exact else 0, count)
        shown = f"{low}-{high}" if low != high else f"{low}"
        results.append(
            rule_result(name, shown if low else f"<= {high}", number, low <= number <= high, "", unit)
        )
    if len(protocol.source.activities_mCi) > 1:
        mixed = [line.name for line in lines if len({seed.source for seed in line.needle.seeds}) > 1]
        results.append(
            rule_result("strengths in a needle", "1", 2 if mixed else 1, not mixed, ", ".join(mixed[:3]), "")
        )
    return results


def _standoff(lines: Sequence[_Line], external: Structure, protocol: Protocol) -> RuleResult:
    found = []
    for line in lines:
        inside = external.line_intervals(line.hole, line.channel.direction)
        inside = inside[inside[:, 1] > 0.0]
        found.append((float(inside[0, 0]) if len(inside) else -np.inf, line.name))
    return at_least("template to skin, along a needle", protocol.template.standoff_mm, found)


def _skin_entry(lines: Sequence[_Line], external: Structure) -> RuleResult:
    """The recorded entry lies on the skin, and no part of the patient before it."""
    found = []
    for line in lines:
        skin = np.array(line.needle.skin_mm)
        depth = line.channel.entry_depth_mm
        before = np.arange(depth - 300.0, depth - AIR_GAP_MM, SAMPLE_MM)
        crossed = SAMPLE_MM * int(external.contains(line.channel.at(before)).sum())
        if crossed:
            found.append((crossed, f"{line.name} crosses the patient before its entry"))
        off = abs(float(external.signed_distance_mm(skin[None])[0]))
        found.append((off, line.name))
    return at_most("skin entry", 0.0, found)


def _on_lattice(lines: Sequence[_Line], templates: Sequence[PlanTemplate]) -> RuleResult:
    """Holes where their labels are on the plate, tips and seeds on the straight line from there.

    The line has the direction of the template's axis; where the template has a cone, the needle's own direction within
    that cone.
    """
    layouts = [TemplateLayout.of(template) for template in templates]
    found = []
    for line in lines:
        layout = layouts[line.needle.template]
        try:
            known = layout.has(line.needle.hole)
            hole = layout.at(line.needle.hole)
        except UsageError:
            known, hole = False, line.hole
        off = float(np.linalg.norm(line.hole - hole))
        direction = np.array(line.needle.direction) if layout.cone_deg else layout.direction
        planned = replace(line.channel, hole_mm=hole, direction=direction)
        off = max(off, float(planned.off_axis([line.tip, *line.seeds]).max()))
        tilt = np.degrees(np.arccos(min(1.0, float(line.channel.direction @ layout.direction))))
        if not known:
            found.append((np.inf, f"{line.name} is no hole of its template"))
        elif layout.cone_deg and tilt > layout.cone_deg + TOLERANCE_DEG:
            found.append((np.inf, f"{line.name} is {tilt:.1f} degrees off its template's axis"))
        else:
            found.append((off, line.name))
    return at_most("hole, tip and seeds on the template's lattice", 0.0, found)


def _first_seed(lines: Sequence[_Line], protocol: Protocol, source: Source) -> RuleResult:
    wanted = protocol.needle.tip_to_seed_mm + 0.5 * source.capsule_length_mm
    found = []
    for line in lines:
        if len(line.seeds):
            gap = float(np.linalg.norm(line.seeds - line.tip, axis=1).min())
            found.append((abs(gap - wanted), line.name))
    return at_most(f"tip to first seed centre, off {wanted:g} mm", 0.0, found)


def _depths(lines: Sequence[_Line]) -> RuleResult:
    """Recorded depths compared with the recorded places."""
    found = []
    for line in lines:
        from_skin = float(np.linalg.norm(line.tip - np.array(line.needle.skin_mm)))
        off = max(abs(line.needle.depth_mm - line.length), abs(line.needle.depth_from_skin_mm - from_skin))
        for seed, place in zip(line.needle.seeds, line.seeds, strict=True):
            off = max(off, abs(seed.depth_mm - float(np.linalg.norm(line.tip - place))))
        found.append((off, line.name))
    return at_most("recorded depths", 0.0, found)
