"""What our ExaBGP says, as values; `exabgp_codec` reads them from its lines.

A session is named by the number that it gets when it comes up (`exabgp_wrapper`), not by its address: a command meant for
a session that is over reaches nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from routing.bgp.values import Address, Attributes, Family
from routing.engines.engine import SessionState


@dataclass(frozen=True, slots=True)
class Numbered:
    """A session came up and has this number."""

    address: Address
    number: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The neighbour's OPEN message; `restart` maps the families of graceful restart to "forwarding was kept"."""

    address: Address
    router_id: IPv4Address
    families: frozenset[Family]
    extended_next_hop: bool
    restart_time: int | None
    restart: Mapping[Family, bool]


@dataclass(frozen=True, slots=True)
class State:
    """The session's automaton moved."""

    address: Address
    state: SessionState


@dataclass(frozen=True, slots=True)
class Up:
    """A session is established; `local` is our address."""

    address: Address
    local: Address


@dataclass(frozen=True, slots=True)
class Down:
    """A session, or an attempt at one, is over."""

    address: Address
    reason: str

    @property
    def graceful(self) -> bool:
        """Tell whether the neighbour may be restarting: nobody sent a NOTIFICATION (RFC 4724 4.2)."""
        return not self.reason.startswith("notification")


@dataclass(frozen=True, slots=True)
class Update:
    """An UPDATE message: packed prefixes by attribute set, withdrawn, and treated as withdrawn (RFC 7606)."""

    address: Address
    announced: tuple[tuple[Family, Attributes, bytes], ...] = ()
    withdrawn: tuple[tuple[Family, bytes], ...] = ()
    malformed: tuple[tuple[Family, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class EndOfTable:
    """End-of-RIB from a neighbour."""

    address: Address
    family: Family


@dataclass(frozen=True, slots=True)
class Refresh:
    """A neighbour asks for our table (RFC 2918)."""

    address: Address
    family: Family


@dataclass(frozen=True, slots=True)
class Answered:
    """One command was done, or refused."""

    done: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """Why the command answered next is refused."""

    command: str
    error: str


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The configuration was read again; `error` is empty if all is well."""

    error: str


Message = Numbered | Opened | State | Up | Down | Update | EndOfTable | Refresh | Answered | Refused | Reloaded
