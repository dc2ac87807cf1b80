"""The tests of the kernel's ports, and those that only the image's kernel can pass, inside a machine that boots it.

Without EDGEWAY_IMAGE=all each port by a part of its tests, and of the walks through its states each so-many-th. Every test
inside is a subtest here. EDGEWAY_IMAGE_DIR names another image than the one that `make image` makes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.support.lane import EVERYTHING, IMAGE, Report, Suite, pack, run

pytestmark = [
    pytest.mark.image,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not EVERYTHING and not (IMAGE / "root.squashfs").exists(), reason="no image: make image"),
]

#: Of an emulated machine among others that are busy: it says what it told before.
PATIENCE = 5000.0
EVERY_FILE = ["tests/kernel_lane", "tests/contract", "--lane-everything"]
#: One file for each port, and each that speaks to the kernel in a way of its own.
FILES = ["tests/kernel_lane"]
#: What there is to run is counted here: an empty machine passes nothing.
FLOOR = 1000 if EVERYTHING else 100


@dataclass(frozen=True)
class Lane:
    """What was carried in and what came out."""

    suite: Suite
    report: Report


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Lane:
    """Run all of it in one machine."""
    if EVERYTHING and "EDGEWAY_IMAGE_DIR" not in os.environ:
        subprocess.run(["make", "image"], cwd=IMAGE.parents[1], check=True)
    suite = pack(tmp_path_factory.mktemp("lane"), EVERY_FILE if EVERYTHING else FILES)
    return Lane(suite, run(IMAGE, suite, within=PATIENCE))


def test_everything_that_was_carried_in_ran_on_the_kernel_of_the_image(
    lane: Lane, record_property: Callable[[str, object], None]
) -> None:
    """And there was not too little of it."""
    report, ran = lane.report, {each.test for each in lane.report.outcomes}
    spent = f"{report.seconds:.0f} s, {report.cpu:.0f} s of CPU"
    record_property("measured", f"kernel lane: {len(ran)} tests on {report.kernel}, {spent}")
    assert report.exit is not None, report.console[-3000:]
    assert ran == set(lane.suite.tests)
    assert len(ran) >= FLOOR
    assert report.kernel.endswith("-cloud-amd64")


def test_what_is_promised_of_the_kernel_holds_inside(lane: Lane, subtests: pytest.Subtests) -> None:
    """Each test by its name, with what it said there."""
    for each in lane.report.outcomes:
        with subtests.test(each.test):
            if each.outcome == "skipped":
                pytest.skip(each.text)
            assert each.outcome == "passed", each.text
