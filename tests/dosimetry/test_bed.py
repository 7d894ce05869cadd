"""BED against the model's own definition by numerical integration, and what is known of its limits."""

import numpy as np
import pytest
from scipy.integrate import quad

from brachy.dosimetry.bed import TG_137, Radiobiology, bed, effective_days
from brachy.dosimetry.metrics import DVH, metric
from brachy.errors import UsageError


def integrated(dose, half_life, tissue, days):
    """D + (beta / alpha) 2 int rate(t) int rate(w) exp(-mu (t - w)) dw dt - ln 2 t / (alpha Tp), by quadrature.

    The inner integral ends some 60 repair half-lives back, where nothing is left.
    """
    decay = np.log(2) / half_life
    repair = 24 * np.log(2) / tissue.repair_half_life_hours

    def rate(t):
        return decay * dose * np.exp(-decay * t)

    def unrepaired(t):
        return quad(
            lambda back: rate(t - back) * np.exp(-repair * back), 0, min(t, 60 / repair), epsabs=1e-10
        )[0]

    delivered = quad(rate, 0, days)[0]
    early = quad(lambda t: rate(t) * unrepaired(t), 0, 2, epsabs=1e-9, limit=200)[0]
    late = quad(lambda t: rate(t) * unrepaired(t), 2, days, epsabs=1e-9, limit=200)[0]
    ratio = tissue.beta_per_gy2 / tissue.alpha_per_gy
    lost = np.log(2) * days / (tissue.alpha_per_gy * tissue.doubling_days)
    return delivered + 2 * ratio * (early + late) - lost


@pytest.mark.parametrize(("dose", "half_life"), [(145.0, 59.4), (110.0, 59.4), (125.0, 16.991)])
def test_closed_form_is_the_integral(dose, half_life):
    days = float(effective_days(dose, half_life))
    assert float(bed(dose, half_life)) == pytest.approx(integrated(dose, half_life, TG_137, days), rel=1e-6)


def test_effective_time_is_where_bed_is_largest():
    """Without the small quadratic part the gain rate alpha x dose rate equals the loss ln 2 / Tp there."""
    linear = Radiobiology(0.15, 1e-12, 0.27, 42.0, "no quadratic part")
    days = float(effective_days(145.0, tissue=linear))
    best = integrated(145.0, 59.4, linear, days)
    assert best > integrated(145.0, 59.4, linear, days - 5)
    assert best > integrated(145.0, 59.4, linear, days + 5)


def test_parameters_are_those_of_the_report():
    """AAPM TG-137: alpha 0.15 /Gy, beta 0.05 /Gy2 (alpha/beta 3 Gy), repair half-life 0.27 h, Tp 42 d."""
    assert (TG_137.alpha_per_gy, TG_137.beta_per_gy2) == (0.15, 0.05)
    assert (TG_137.repair_half_life_hours, TG_137.doubling_days) == (0.27, 42.0)
    assert "TG-137" in str(TG_137)


def test_it_rises_with_the_dose_and_is_never_negative():
    doses = np.linspace(0, 500, 501)
    found = bed(doses)
    assert found[0] == 0
    assert (np.diff(found) >= 0).all()


def test_a_metric_of_a_histogram():
    """The dose is what 90 % get at least, so is its BED: BED rises with dose."""
    doses = np.linspace(100.0, 200.0, 1001)
    flat = DVH("t", doses, np.full(1001, 0.01), 10.01)
    assert metric(flat, "BED90_gy") == pytest.approx(float(bed(flat.D(90))))
    assert metric(flat, "bed90") == metric(flat, "BED90_gy")


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(UsageError, match="more than 0"):
        Radiobiology(wrong, 0.05, 0.27, 42.0, "")
