"""Many cases: plan, verify or robust over a list on Dask, and what came of the patients."""

from brachy.cohort.outcomes import Cut, outcomes_of, response_rates
from brachy.cohort.running import run_cohort

__all__ = ["Cut", "outcomes_of", "response_rates", "run_cohort"]
