"""Several workers share the tests so that what needs one another, or one thing of the machine, stays together."""

from __future__ import annotations

import pytest

from tests.support.parallel import LANES, lane, unit

SCENARIOS = "tests/engines/scenarios/test_x.py"


@pytest.mark.parametrize(
    ("nodeid", "wanted"),
    [
        ("tests/unit/a/test_b.py::test_c", "tests/unit/a/test_b.py"),
        ("tests/unit/a/test_b.py::test_c[gobgp]", "tests/unit/a/test_b.py"),
        ("tests/unit/a/test_b.py::test_c[x@y]", "tests/unit/a/test_b.py"),
        ("tests/lab/test_az.py::test_c", "zone"),
        ("tests/lab/test_kills.py::test_c[h1]", "zone"),
        ("tests/lab/test_runner.py::test_c", "tests/lab/test_runner.py"),
        ("tests/image/test_boot.py::test_c", "image"),
        (f"{SCENARIOS}::test_c[gobgp-v4]", f"{SCENARIOS} gobgp"),
        (f"{SCENARIOS}::test_d[transparent-exabgp]", f"{SCENARIOS} exabgp"),
        (f"{SCENARIOS}::test_e", SCENARIOS),
        (f"{SCENARIOS}::test_about_gobgp[v4]", SCENARIOS),
    ],
)
def test_a_unit_is_a_file_or_what_shares_one_thing_or_an_engines_part_of_a_file(nodeid: str, wanted: str) -> None:
    """Fixtures of a module are made once in each unit."""
    assert unit(nodeid) == wanted


def test_the_image_and_the_zone_go_first_and_what_is_quick_goes_last() -> None:
    """A long unit that begins last would be waited for."""
    units = ["tests/unit/test_a.py", f"{SCENARIOS} gobgp", "elsewhere/test_b.py", "zone", "image"]
    wanted = ["image", "zone", f"{SCENARIOS} gobgp", "tests/unit/test_a.py", "elsewhere/test_b.py"]
    assert sorted(units, key=lane) == wanted
    assert [lane(start) for start in LANES] == list(range(len(LANES)))
