"""What is no longer true of the promises to flows after a change, each with a name that the operator reads and writes.

Pure. `appliance.control.reconciliation` compares what `services.flows.promises` says before and after a move of the
kernel; `services.flows.reconcile` finds the flows of each change and decides (design 0005).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address
from typing import ClassVar, Final

from appliance.model.errors import OperatorError
from appliance.model.facts import Address
from services.flows.promises import Backend, Mappings, Ports, Service


@dataclass(frozen=True, slots=True, order=True)
class _OfVpc:
    """What happened to something of a VPC; the first field after the VPC says to what."""

    kind: ClassVar[str]
    vpc: str

    def __str__(self) -> str:
        """Name it: kind, VPC and subject, the rest."""
        _, subject, *rest = (str(getattr(self, each.name)) for each in fields(self))
        return " ".join((self.kind, f"{self.vpc}/{subject}", *rest))


@dataclass(frozen=True, slots=True, order=True)
class VipGone(_OfVpc):
    """A VIP was removed or has another address, port or protocol."""

    kind: ClassVar[str] = "vip-gone"
    service: Service


@dataclass(frozen=True, slots=True, order=True)
class BackendGone(_OfVpc):
    """A backend of a VIP is down, removed, on another host, or listens on another port."""

    kind: ClassVar[str] = "backend-gone"
    service: Service
    backend: Backend


@dataclass(frozen=True, slots=True, order=True)
class FloatingMoved(_OfVpc):
    """A public address is no longer translated one to one to a private one."""

    kind: ClassVar[str] = "floating-moved"
    public: Address
    private: Address


@dataclass(frozen=True, slots=True, order=True)
class SnatMoved(_OfVpc):
    """Ports of a source NAT address are no longer this host's, or the VPC has another address."""

    kind: ClassVar[str] = "snat-moved"
    address: Address
    ports: Ports


@dataclass(frozen=True, slots=True, order=True)
class GuestGone(_OfVpc):
    """A guest, here or on another host, was removed, or has another address."""

    kind: ClassVar[str] = "guest-gone"
    guest: str
    address: Address


@dataclass(frozen=True, slots=True, order=True)
class GuestMoved(_OfVpc):
    """A guest that stood here stands on another host."""

    kind: ClassVar[str] = "guest-moved"
    guest: str
    address: Address


@dataclass(frozen=True, slots=True, order=True)
class VipServed(_OfVpc):
    """A VIP has its first backend here: flows that called it in vain would go on in vain."""

    kind: ClassVar[str] = "vip-served"
    service: Service


Change = VipGone | BackendGone | FloatingMoved | SnatMoved | GuestGone | GuestMoved | VipServed


def changes(old: Mappings, new: Mappings) -> tuple[Change, ...]:
    """Return what changed, the more exact reason first: a flow is handled by the first change that it is part of."""
    gone, left = old.guests.keys() - new.guests.keys(), old.here - new.here
    return (
        *sorted(VipGone(old.vpc, service) for service in old.vips.keys() - new.vips.keys()),
        *sorted(_backends(old, new)),
        *sorted(FloatingMoved(old.vpc, *pair) for pair in old.floating.items() - new.floating.items()),
        *_snat(old, new),
        *sorted(GuestGone(old.vpc, old.guests[a], a) for a in gone),
        *sorted(GuestMoved(old.vpc, old.guests[a], a) for a in left - gone),
        *sorted(VipServed(old.vpc, s) for s, backends in new.vips.items() if backends and not old.vips.get(s)),
    )


def _backends(old: Mappings, new: Mappings) -> Iterator[BackendGone]:
    for service in old.vips.keys() & new.vips.keys():
        yield from (BackendGone(old.vpc, service, gone) for gone in old.vips[service] - new.vips[service])


def _snat(old: Mappings, new: Mappings) -> Iterator[SnatMoved]:
    if old.snat is not None:
        kept = new.ports if new.snat == old.snat else ()
        yield from (SnatMoved(old.vpc, old.snat, part) for ports in old.ports for part in _without(ports, kept))


def _without(ports: Ports, kept: tuple[Ports, ...]) -> Iterator[Ports]:
    """Yield the parts of a range that no other covers: with another size of blocks some ports may stay ours."""
    low = ports.low
    for other in sorted(kept):
        if other.high < low or other.low > ports.high:
            continue
        if other.low > low:
            yield Ports(low, other.low - 1)
        low = other.high + 1
    if low <= ports.high:
        yield Ports(low, ports.high)


def parse_change(text: str, known: Mapping[str, Mappings] | None = None) -> Change:
    """Read the name of a change; a VIP may be written by its name if `known` holds its VPC."""
    try:
        kind, subject, *rest = text.split()
        vpc, _, what = subject.partition("/")
        names = known[vpc].names if known and vpc in known else {}
        return _PARSERS[kind](vpc, str(names.get(what, what)), *rest)
    except (ValueError, KeyError, TypeError) as error:
        kinds = ", ".join(_PARSERS)
        hint = f"as in `backend-gone red/203.0.113.80:80/tcp 172.16.1.11:8080`; kinds are {kinds}"
        raise OperatorError.of(f"{text!r} is not the name of a change", hint) from error


_PARSERS: Final[dict[str, Callable[..., Change]]] = {
    "vip-gone": lambda vpc, service: VipGone(vpc, Service.parse(service)),
    "backend-gone": lambda vpc, service, backend: BackendGone(vpc, Service.parse(service), Backend.parse(backend)),
    "floating-moved": lambda vpc, public, private: FloatingMoved(vpc, ip_address(public), ip_address(private)),
    "snat-moved": lambda vpc, address, ports: SnatMoved(vpc, ip_address(address), Ports.parse(ports)),
    "guest-gone": lambda vpc, guest, address: GuestGone(vpc, guest, ip_address(address)),
    "guest-moved": lambda vpc, guest, address: GuestMoved(vpc, guest, ip_address(address)),
    "vip-served": lambda vpc, service: VipServed(vpc, Service.parse(service)),
}
