"""The lower bound against brute force: every loading of small boards, counted out with plain numpy."""

import itertools

import numpy as np
import pytest

from brachy.optimise.certificate import lower_bound
from tests.boards import SIZE, board_and_terms, value


@pytest.mark.parametrize("lateral", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(8))
def test_never_above_the_best_loading_and_not_far_below(seed, lateral):
    board, terms = board_and_terms(seed, lateral)
    best = min(value(board, terms, np.array(x)) for x in itertools.product((0, 1), repeat=SIZE))
    bound = lower_bound(board, terms)
    assert bound <= best
    assert bound > 0


@pytest.mark.parametrize("iterations", [0, 1, 7])
def test_valid_however_soon_it_stops(iterations):
    board, terms = board_and_terms(3, 0.2)
    best = min(value(board, terms, np.array(x)) for x in itertools.product((0, 1), repeat=SIZE))
    assert lower_bound(board, terms, iterations) <= best


def test_more_steps_never_lower_the_bound():
    board, terms = board_and_terms(5, 0.2)
    assert lower_bound(board, terms, 0) <= lower_bound(board, terms, 50) <= lower_bound(board, terms, 100)


def test_a_board_with_a_fixed_seed_is_refused():
    board, terms = board_and_terms(0, 0.0)
    with pytest.raises(ValueError, match="nothing is fixed"):
        lower_bound(board._replace(base=np.ones(120)), terms)
