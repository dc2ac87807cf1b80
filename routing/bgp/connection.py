"""One connection with a neighbour and its machine: the actions of `routing.bgp.fsm`, done."""

from __future__ import annotations

from dataclasses import dataclass

from routing.bgp.scan import Message
from routing.bgp.values import Family


@dataclass(frozen=True, slots=True)
class Transmit:
    """Write these octets."""

    connection: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection, after what was to be transmitted is written as far as it goes at once."""

    connection: int


@dataclass(frozen=True, slots=True)
class Updates:
    """UPDATE messages as `routing.bgp.hot.split` gave them, each of four parts."""

    connection: int
    messages: list[Message]


@dataclass(frozen=True, slots=True)
class RefreshAsked:
    """The neighbour wants its routes again."""

    family: Family
    subtype: int
