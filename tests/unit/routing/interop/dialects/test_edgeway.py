from __future__ import annotations

from routing.bgp.values import Mode
from routing.engines.speaker_text import Draft
from routing.interop.cases import world
from routing.interop.dialects.edgeway import DIALECT, speaker

WORLD = world()


def test_the_engine_reads_what_is_written() -> None:
    """The file is the desired state of its process."""
    text = DIALECT.write(WORLD, "/run").files["speaker.json"]
    assert Draft().read(text.encode().splitlines()) == speaker(WORLD)


def test_everybody_is_a_neighbour_with_everything_in_and_out_or_without_policy() -> None:
    """Transparent."""
    made = speaker(WORLD)
    assert made.mode is Mode.TRANSPARENT
    assert [neighbor.address for neighbor in made.neighbors] == [member.address for member in WORLD.members]
    assert {bool(neighbor.imports.accept) for neighbor in made.neighbors} == {True, False}
