"""The binding of libnftables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.libnftables import NftContext, NftError
from appliance.model.facts import Namespace

if TYPE_CHECKING:
    from tests.contract.worlds import World

RED = Namespace("red")


def _open_files() -> int:
    """Count the descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_context_stays_in_the_namespace_it_was_made_in(world: World) -> None:
    """Commands issued from outside land there; closing it frees its socket."""
    world.make(RED)
    world.namespaces.open_ns(RED)
    before = _open_files()
    with world.namespaces.in_namespace(RED):
        context = NftContext()
    context.run("add table inet t")
    assert context.run("list tables") == "table inet t\n"
    assert "inet t" in world.run(RED, "nft", "list", "tables")
    context.close()
    context.close()
    assert _open_files() == before


def test_an_error_says_in_which_line_of_the_script_it_is(world: World) -> None:
    """And nothing of the script was done."""
    world.make(RED)
    with world.namespaces.in_namespace(RED):
        context = NftContext()
    with pytest.raises(NftError, match=r"^line 2:16-16: Error: No such file or directory"):
        context.run("add table inet t\nadd chain inet u c\n")
    assert context.run("list tables") == ""
    context.close()
