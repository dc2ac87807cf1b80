"""Namespaces as facts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from appliance.model.facts import Namespace, Netns
from appliance.state.diff import Change, Plan, diff
from tests.contract.boxes import reach, watching

if TYPE_CHECKING:
    from tests.contract.boxes import Box

RED, BLUE, GREEN = (Netns(Namespace(name)) for name in ("red", "blue", "green"))


def test_the_kernel_holds_the_namespaces_that_are_desired(box: Box) -> None:
    """Whatever was there before; once more is nothing."""
    port = box.port("namespaces")
    for desired in ({RED, BLUE}, {BLUE, GREEN}, {RED}, set(), {GREEN}):
        assert reach(port, desired) == ()
        assert port.read() == desired
        assert box.port("namespaces").read() == desired
        assert not diff(port.read(), desired)


def test_deleting_what_is_absent_succeeds(box: Box) -> None:
    """It is as it should be."""
    assert box.port("namespaces").apply(Plan((Change("delete", RED, None),))) == ()


async def test_a_change_by_another_is_told(box: Box) -> None:
    """A second daemon deletes a namespace of ours."""
    reach(box.port("namespaces"), {RED})
    async with asyncio.timeout(5), watching(box.port("namespaces")) as reasons:
        reach(box.port("namespaces"), set())
        assert await anext(reasons) == "namespaces"
