"""One neighbour at one address: its connections, collisions, timers and OPEN messages, without I/O (RFC 4271 6.8, 8).

Called by the core of the engine, which owns sockets and the clock: events and `now` (seconds) go in, effects come out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from routing.bgp.connection import Close, RefreshAsked, Transmit, Updates
from routing.bgp.notify import Notify
from routing.bgp.session import Established
from routing.bgp.values import Address, Family, Neighbor, Speaker
from routing.engines.engine import SessionState

if TYPE_CHECKING:
    from routing.bgp.update import Format

__all__ = ["Close", "Connect", "Down", "Effect", "Moved", "Peering", "RefreshAsked", "Transmit", "Up", "Updates"]


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect to the neighbour; an attempt that still waits is given up without a word."""


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
class Moved:
    """The foremost connection is in another state, or there is another reason why there is none."""

    state: SessionState
    detail: str


Effect = Connect | Transmit | Close | Up | Down | Updates | RefreshAsked | Moved


class Peering:
    """The neighbour's connections and what is agreed upon."""

    state: SessionState
    detail: str

    def __init__(
        self, address: Address, neighbor: Neighbor, speaker: Speaker, now: float, *, restarting: bool = False
    ) -> None:
        """Begin idle. `restarting`: our process was restarted, so the neighbour may hold routes of ours."""
        raise NotImplementedError

    def start(self, now: float) -> None:
        """Connect, or await the neighbour."""
        raise NotImplementedError

    def stop(self, subcode: int, text: str, now: float) -> None:
        """Cease, and idle until `start`."""
        raise NotImplementedError

    def connected(self, connection: int, local: Address, *, outgoing: bool, now: float) -> None:
        """TCP is up; numbers of connections are the caller's and never used twice."""
        raise NotImplementedError

    def connect_failed(self, now: float, detail: str = "") -> None:
        """The connection that `Connect` asked for is not to be had."""
        raise NotImplementedError

    def disconnected(self, connection: int, now: float, detail: str = "") -> None:
        """TCP is gone."""
        raise NotImplementedError

    def receive(self, connection: int, data: bytes, now: float) -> None:
        """Take octets."""
        raise NotImplementedError

    def written(self, connection: int, octets: int, now: float, *, waiting: bool) -> None:
        """The socket took so many octets; `waiting`: more are to be written than it takes (RFC 9687)."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Do what is due."""
        raise NotImplementedError

    def deadline(self) -> float | None:
        """Return when `tick` is to be called."""
        raise NotImplementedError

    def fail(self, connection: int, notify: Notify, now: float) -> None:
        """The caller found an UPDATE that must reset the session, or more prefixes than it takes (Cease)."""
        raise NotImplementedError

    def refresh(self, family: Family) -> None:
        """Ask for the routes of a family again, if the neighbour can be asked."""
        raise NotImplementedError

    def reconfigure(self, neighbor: Neighbor, speaker: Speaker, now: float) -> None:
        """Take another configuration; the session is reset only if our OPEN would say something else."""
        raise NotImplementedError

    def take(self) -> list[Effect]:
        """Return what is to be done, in order, since the last call."""
        raise NotImplementedError
