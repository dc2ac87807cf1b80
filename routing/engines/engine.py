"""What any BGP engine must do, and the events it gives back (design 0001).

An engine is a child process (gobgpd; exabgp with our RIB; our own) that lives on when the daemon dies: a new daemon adopts it.
It is told the whole `Speaker`, never verbs; it changes only what differs, and unrelated sessions stay up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from routing.bgp.values import Address, Attributes, Family, Network, Reason, Speaker


class SessionState(Enum):
    """The states of RFC 4271 8.2.2."""

    IDLE = "idle"
    CONNECT = "connect"
    ACTIVE = "active"
    OPENSENT = "opensent"
    OPENCONFIRM = "openconfirm"
    ESTABLISHED = "established"


@dataclass(frozen=True, slots=True)
class SessionView:
    """One session as the engine sees it; `uptime` in seconds since established; counts are routes of all families."""

    name: str
    address: Address
    asn: int
    state: SessionState
    families: tuple[Family, ...] = ()
    uptime: float | None = None
    received: int = 0
    accepted: int = 0
    advertised: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RouteView:
    """One path in an Adj-RIB-In (or originated here: `neighbor` "local"); `reason` says why it was refused.

    `best` marks the path that won; `why` tells in words why this path won or lost (the deciding step of RFC 4271 9.1).
    """

    prefix: Network
    neighbor: str
    address: Address | None
    attributes: Attributes
    best: bool = False
    reason: Reason | None = None
    stale: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Best:
    """The best path of `prefix` is now `attributes` (None: there is none); `neighbor` taught it ("local": we did)."""

    prefix: Network
    attributes: Attributes | None
    neighbor: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """A session changed its state."""

    name: str
    address: Address
    state: SessionState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Synced:
    """Every best path has been given since the last `Lost` (or the start): what was not named is gone."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The engine does not answer; it is being restarted. Keep forwarding on what is known until `Synced`."""

    detail: str = ""


Event = Best | Session | Synced | Lost


class Engine(Protocol):
    """One engine process behind one port; all calls may raise EngineError."""

    async def apply(self, speaker: Speaker) -> None:
        """Start or adopt the process and make it `speaker`; the second call with an equal value does nothing."""
        ...

    async def sessions(self) -> tuple[SessionView, ...]:
        """Return one view per configured neighbour and per dynamic session."""
        ...

    async def routes(self, prefix: Network | None = None, neighbor: str | None = None) -> tuple[RouteView, ...]:
        """Return paths received (refused ones too) and originated, of one prefix or of one neighbour, or all."""
        ...

    def watch(self, *, routes: bool = True) -> AsyncIterator[tuple[Event, ...]]:
        """Yield batches of events for ever.

        Starts with every current best path and `Synced`. When the process dies: `Lost`, restart, re-apply, again.
        Without `routes` no best path is told: who installs none need not pay for them.
        """
        ...

    async def close(self, *, stop: bool) -> None:
        """Let go of the engine; `stop` ends the process as well, otherwise it serves on until it is adopted."""
        ...
