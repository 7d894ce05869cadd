"""Dose models as objects: what each states of itself, and that `brachy.dose` and `brachy.dvh` are the same dose."""

import numpy as np
import pytest

import brachy
from brachy.dosimetry.dvh import histogram_of
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.model import dose_model, dose_model_where_known
from brachy.dosimetry.source import load_source
from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure

SOURCE = load_source("amersham_6711")
SEEDS = Implant(SOURCE, [[0, 0, 0], [0, 8, 3]], axes=[[0, 0, 1], [0, 1, 1]], strength_U=[1.0, 0.7])
BARE = Implant(SOURCE, [[0, 0, 0]], strength_U=1.0)
POINTS = np.array([[10.0, 0, 0], [3.0, -6, 2], [0, 0, 25]])


@pytest.mark.parametrize("formalism", ["1D", "2D"])
def test_a_model_and_the_function_give_the_same_dose(formalism):
    model = dose_model(SEEDS, formalism)
    assert np.array_equal(model.at(POINTS), brachy.dose(POINTS, SEEDS, formalism=formalism))
    grid = Grid.around([-5, -5, -5], [5, 5, 5], 2.5)
    assert np.array_equal(model.on(grid).gy, brachy.dose(grid, SEEDS, formalism=formalism).gy)
    ring = 8 * np.array([[np.cos(a), np.sin(a), 0] for a in np.linspace(0, 6.2, 40)])
    disc = Structure("disc", [ring + [0, 0, z] for z in (-2, 0, 2)])
    assert histogram_of(model, disc).D(90) == brachy.dvh(SEEDS, disc, formalism=formalism).D(90)


def test_dose_to_a_day_is_the_share_that_has_decayed():
    """1 - 2^(-days / T1/2) of the dose to complete decay, for every point."""
    whole, part = dose_model(SEEDS, "2D"), dose_model(SEEDS, "2D", days=59.4)
    assert part.at(POINTS) / whole.at(POINTS) == pytest.approx(np.full(3, 0.5), rel=1e-12)
    assert np.isnan(histogram_of(part, Structure("none", [])).half_life_days)  # no BED of a part of the dose


def test_what_a_model_states_of_itself():
    point, line = dose_model(SEEDS), dose_model(SEEDS, "2D", days=30)
    assert (point.name, point.formalism, point.needs_axes) == ("TG-43 1D", "1D", False)
    assert (line.name, line.formalism, line.needs_axes) == ("TG-43 2D", "2D", True)
    assert point.comment == "TG-43 1D, water, to complete decay"
    assert line.comment == "TG-43 2D, water, to day 30"


def test_the_counterpart_is_the_other_formalism_for_the_same_seeds_and_days():
    other = dose_model(SEEDS, days=30).counterpart()
    assert (other.formalism, other.days, other.implants[0]) == ("2D", 30, SEEDS)
    assert other.counterpart().formalism == "1D"
    assert dose_model(BARE).counterpart() is None


def test_seeds_without_axes_have_no_2d():
    with pytest.raises(BrachyError, match="needs the axis of every seed"):
        dose_model([SEEDS, BARE], "2D")
    assert dose_model_where_known([SEEDS, BARE], "2D").formalism == "1D"
    assert dose_model_where_known(SEEDS, "2D").formalism == "2D"
    with pytest.raises(UsageError, match="choose 1D or 2D"):
        dose_model(SEEDS, "3D")
    with pytest.raises(UsageError, match="give 0 or more"):
        dose_model(SEEDS, days=-1)


def test_the_same_model_for_other_seeds():
    """Doses of two implants add up; from tables, within the 0.1 % that is promised."""
    model = dose_model(SEEDS, "2D")
    first, second = (
        model.of(Implant(SOURCE, SEEDS.positions_mm[k], axes=SEEDS.axes[k], strength_U=SEEDS.strength_U[k]))
        for k in range(2)
    )
    assert first.at(POINTS) + second.at(POINTS) == pytest.approx(model.at(POINTS), rel=1e-12)
    quick = model.of(SEEDS, exact_pairs=0)
    assert quick.at(POINTS) == pytest.approx(model.at(POINTS), rel=1e-3)
    assert not np.array_equal(quick.at(POINTS), model.at(POINTS))


def test_influence_has_a_row_for_each_seed():
    matrix = dose_model(SEEDS, "2D").influence(POINTS)
    assert matrix.shape == (2, 3)
    assert matrix.sum(axis=0) == pytest.approx(dose_model(SEEDS, "2D").at(POINTS), rel=1e-3)
