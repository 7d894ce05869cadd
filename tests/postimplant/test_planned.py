"""What was planned, as read for the comparison with an implant."""

import pytest

from brachy.errors import UsageError
from brachy.postimplant.planned import planned_from
from tests import scanner
from tests.io.dicom.test_read_plan import plan_set, seed, source


def test_an_unusual_strength_of_a_vendors_plan_is_taken_where_accepted(tmp_path):
    """18.09 MBq apparent are 0.621 U: as 18.09 U it is questioned, and kept if a person says so."""
    data = plan_set([[seed([0.0, 0.0, 0.0]), seed([0.0, 0.0, 10.0], 2)]], [source(strength=18.09)])
    file = scanner.save(data, tmp_path / "RP.dcm")
    with pytest.raises(UsageError, match=r"MBq.*--accept-strength"):
        planned_from(file)
    assert planned_from(file, accept_strength=True).implants[0].strength_U.tolist() == [18.09, 18.09]
