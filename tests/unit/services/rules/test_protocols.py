from __future__ import annotations

from pathlib import Path

from services.rules.protocols import PROTOCOLS


def test_names_are_those_of_the_machine_that_nft_asks() -> None:
    """A protocol that two names have is listed by the first; numbers that have no name here have none there."""
    names: dict[int, str] = {}
    for line in Path("/etc/protocols").read_text().splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1 and int(words[1]) < 256:
            names.setdefault(int(words[1]), words[0])
    assert names == PROTOCOLS
