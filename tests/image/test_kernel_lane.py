"""The tests of the kernel's ports, and those that only the image's kernel can pass, inside a machine that boots it.

Without EDGEWAY_IMAGE=all each port by a part of its tests, and of the walks through its states each so-many-th. Every test
inside is a subtest here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.lane import EVERYTHING, Report, Suite, pack, run

pytestmark = [pytest.mark.image, pytest.mark.timeout(7200)]

#: Of an emulated machine among others that are busy: it says what it told before.
PATIENCE = 5000.0
#: A file for each way of speaking to the kernel, without those that take minutes there.
PORTS = (
    "compose",
    "conntrack",
    "kernel",
    "libbpf",
    "links",
    "namespaces",
    "nexthops",
    "route_lookup",
    "sysctls",
    "wires",
)
FILES = ["tests/kernel_lane", *(f"tests/contract/test_{port}.py" for port in PORTS), "--lane-each=40"]
#: And a VPC's edge among guests, with real packets.
PACKETS = [f"tests/packet/test_{name}.py" for name in ("failover", "shared_rules", "steering")]
EVERY_FILE = ["tests/kernel_lane", "tests/contract", *PACKETS, "--lane-each=3"]
#: What there is to run is counted here: an empty machine passes nothing.
FLOOR = 500 if EVERYTHING else 100


@dataclass(frozen=True)
class Lane:
    """What was carried in and what came out."""

    suite: Suite
    report: Report


@pytest.fixture(scope="module")
def lane(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Lane:
    """Run all of it in one machine."""
    suite = pack(tmp_path_factory.mktemp("lane"), EVERY_FILE if EVERYTHING else FILES)
    return Lane(suite, run(image, suite, within=PATIENCE))


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
