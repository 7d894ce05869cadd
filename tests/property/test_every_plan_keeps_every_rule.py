"""Random targets, obstacles and protocols: every plan keeps every rule, recomputed here by dense sampling."""

import numpy as np
import pytest

from brachy.optimise import plan
from tests.property.counted import Counted, examples, numbers
from tests.property.sampled_rules import broken_rules
from tests.property.small_cases import body, protocol, small_case


def within(number, limits):
    """Whether a number keeps a protocol's count: exact, at most, a range or None."""
    least, most = limits if isinstance(limits, tuple) else (0, number if limits is None else limits)
    return least <= number <= most


def keeps_its_word(found):
    """The plan's own account of itself agrees: no rule broken, counts kept, and too little dose is never silent."""
    assert [(r.rule, r.worst, r.where) for r in found.rules if r.broken] == []
    assert found.needles
    assert within(len(found.needles), found.protocol.needle.count)
    assert within(found.seed_count, found.protocol.seeds.count)
    short = found.evaluation.structures["GTV"]["V100_pct"] < 95
    assert short == any(g.metric == "V100_pct" and g.required and not g.met for g in found.evaluation.goals)


@pytest.mark.slow
def test_every_rule_holds_in_every_plan():
    counted = Counted()

    @examples(25)
    @numbers
    def every_rule_holds(number):
        rng = np.random.default_rng(number)
        case, gtv, around = small_case(rng)
        found = counted(plan, case, protocol(rng), threads=1)
        if found is not None:
            assert broken_rules(found, gtv, around, body()) == []
            keeps_its_word(found)

    every_rule_holds()
    counted.check()
