from __future__ import annotations

from routing.interop.cases import world
from routing.interop.dialects.openbgpd import DIALECT

WORLD = world()
WRITTEN = DIALECT.write(WORLD, "/run/here")
TEXT = WRITTEN.files[WRITTEN.config]


def test_everybody_is_a_neighbour() -> None:
    """Once, with an address and an AS number."""
    assert all(f"{member.address}" in TEXT and f"{member.asn}" in TEXT for member in WORLD.members)


def test_what_is_special_is_written_for_those_who_need_it() -> None:
    """And for nobody else."""
    for words, times in [("neighbor 192.0.2.10 {", 1), ("announce policy rs", 5), ("peer-as", 1)]:
        assert TEXT.count(words) == times, words


def test_the_router_is_who_it_should_be() -> None:
    """Its AS and its identifier; the command names the file."""
    assert "64500" in TEXT
    assert "192.0.2.1" in TEXT
    assert "{run}" in DIALECT.command or "{config}" in DIALECT.command
