"""What a peering wants done or known, in order: the output of `routing.bgp.peering`, the input of the engine's core."""

from __future__ import annotations

from dataclasses import dataclass

from routing.bgp.scan import Message
from routing.bgp.session import Established
from routing.bgp.update import Format
from routing.bgp.values import Family
from routing.engines.engine import SessionState


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect to the neighbour; an attempt that still waits is given up without a word."""


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
class Up:
    """A session is established; `routing.bgp.update` reads and writes its UPDATE messages by `format`."""

    connection: int
    established: Established
    format: Format


@dataclass(frozen=True, slots=True)
class Down:
    """The session is over; `graceful`: its routes may be kept for a while (RFC 4724 4.2, RFC 8538 4)."""

    graceful: bool
    detail: str


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


@dataclass(frozen=True, slots=True)
class Moved:
    """The foremost connection is in another state, or there is another reason why there is none."""

    state: SessionState
    detail: str


Effect = Connect | Transmit | Close | Up | Down | Updates | RefreshAsked | Moved
