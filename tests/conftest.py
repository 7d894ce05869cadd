"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real data and source tables beside the checkout; skips where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no folder ../shared with the real data beside this checkout")
    return SHARED


SLOW = (
    "cli/test_killed",
    "postimplant/seed_finder/test_finder_synthetic",
    "project/test_docs",
    "cohort/test_cluster",
    "project/test_wheel",
    "patient/test_privacy",
    "property/test_every_plan_keeps_every_rule",
    "end_to_end/test_phantom_plans",
    "end_to_end/test_real_ct",
    "end_to_end/test_names_of_clinics",
    "output/test_view_plan",
    "project/test_docstrings",
    "property/test_every_replan_keeps_what_is_placed",
    "postimplant/test_verify",
    "optimise/test_stock",
    "project/test_examples",
    "core/test_kernel_cache",
    "property/test_template_offers",
    "optimise/replanning/test_replan",
    "evaluation/test_robust",
    "output/report/test_report_in_browser",
    "end_to_end/test_directions_and_targets",
    "postimplant/test_coverage",
    "postimplant/test_by_seeds",
    "end_to_end/test_not_checked",
    "cli/test_cli",
    "independent/test_search_kernels",
    "check/test_check",
    "output/test_output",
    "optimise/test_alternatives",
    "output/report/test_report",
    "patient/test_anatomy",
    "postimplant/test_registration",
    "end_to_end/test_added_metric",
    "core/test_kernels_from_numba",
    "evaluation/test_rules",
    "postimplant/seed_finder/test_finder_clinical",
    "optimise/test_robust_planning",
    "optimise/replanning/test_edits",
    "postimplant/test_by_organ",
    "postimplant/test_choice",
    "io/phantom/test_phantom",
    "io/dicom/test_read_case",
    "io/dicom/test_write_and_read",
    "independent/test_dose_memory",
    "independent/test_capsule_kernels",
    "independent/test_structures_real_contours",
    "independent/test_dvh_clinical",
    "optimise/test_goal_terms",
    "optimise/test_angled_candidates",
    "fuzz/test_fuzz",
    "fuzz/test_found",
)
"""Files of tests that take over five seconds in all, the longest first: they are marked slow, which `make test-fast`
leaves out, and run first, so that no worker is left alone with one at the end."""


def _rank(item) -> int:
    """Place of a test's file among the slow ones, or after all of them."""
    name = item.path.relative_to(Path(__file__).parent).with_suffix("").as_posix()
    return SLOW.index(name) if name in SLOW else len(SLOW)


def pytest_collection_modifyitems(items):
    """Slow files first, the longest of them first, and marked; all else as it was."""
    for item in items:
        if _rank(item) < len(SLOW):
            item.add_marker("slow")
    items.sort(key=_rank)


collect_ignore = ["peers"]
"""Scripts for environments of their own."""
