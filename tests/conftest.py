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
    "end_to_end/test_phantom_plans",
    "project/test_docs",
    "postimplant/test_verify",
    "cli/test_killed",
    "core/test_warm",
    "cohort/test_cluster",
    "output/report/test_setup_sheet",
    "project/test_examples",
    "optimise/replanning/test_replan",
    "property/test_every_plan_keeps_every_rule",
    "end_to_end/test_real_ct",
    "postimplant/seed_finder/test_finder_synthetic",
    "check/test_check",
    "end_to_end/test_access",
    "end_to_end/test_names_of_clinics",
    "project/test_docstrings",
    "patient/test_privacy",
    "core/test_kernel_cache",
    "evaluation/test_rules",
    "property/test_every_replan_keeps_what_is_placed",
    "output/test_template_face",
    "output/report/test_report_in_browser",
    "patient/test_anatomy",
    "cli/test_cli",
    "optimise/test_alternatives",
    "output/test_view_plan",
    "optimise/test_stock",
    "end_to_end/test_directions_and_targets",
    "independent/test_dose_fast_kernels",
    "optimise/replanning/test_edits",
    "independent/test_dvh_analytic",
    "postimplant/test_by_seeds",
    "property/test_template_offers",
    "core/test_kernels_from_numba",
    "io/dicom/test_read_case",
    "postimplant/test_by_organ",
    "end_to_end/test_not_checked",
    "output/test_output",
    "io/phantom/test_phantom",
    "dosimetry/test_dose_volume",
    "output/report/test_report",
    "check/test_written_access",
    "project/test_wheel",
    "patient/test_access",
    "evaluation/test_robust",
    "io/dicom/test_read_ct",
    "check/test_implant_day",
    "postimplant/seed_finder/test_finder_clinical",
    "optimise/test_robust_planning",
    "postimplant/test_registration",
    "evaluation/test_access_rules",
    "optimise/replanning/test_access_later",
    "io/dicom/test_write_and_read",
    "fuzz/test_fuzz",
    "postimplant/test_coverage",
    "postimplant/test_choice",
    "independent/test_dvh_clinical",
    "independent/test_certificate",
    "io/dicom/test_read_hostile",
    "end_to_end/test_added_metric",
    "patient/test_roi_names",
    "optimise/test_angled_candidates",
    "fuzz/test_found",
    "optimise/test_control",
    "independent/test_structures_real_contours",
    "odd_inputs/test_odd_inputs",
    "io/test_volumes",
    "independent/test_dose_memory",
    "optimise/test_goal_terms",
    "independent/test_search_kernels",
    "independent/test_capsule_kernels",
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
