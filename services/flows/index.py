"""The flows of one VPC on this host, so that those a change affects are found without a look at the conntrack table.

Pure: fed with the kernel's events by `appliance.control.flow_watch`, asked by `services.flows.reconcile` (design 0005).

Flows that were translated alike (same guests, same service, same public source) are one bundle. A flow lies in its
bundle and nowhere else, packed into octets; only bundles are in the indexes. So a flow costs 88 to 144 octets, 136 to 192
of IPv6 (measured over 100,000 to 200,000 flows; sets grow in steps), and an event is one addition to a set.

Untranslated flows are held too: a guest that moved away and comes back must not find the records of its first stay,
whose TCP windows are long past. Their price is the same, and in a VPC's namespace nearly every flow has a guest at one
end, so nothing would be saved by looking closer. What is not held is the mark: it changes without an event.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from ipaddress import ip_address
from typing import Final, NamedTuple

from appliance.model.facts import Address, Flow, FlowKey, Network

ICMP: Final = frozenset({1, 58})
#: Source ports that are translated to one public address are told apart by so many: a usual block of source NAT.
BUCKET: Final = 1024
_NOBODY: Final = b""
#: Source, destination, their ports, zone; the same of the replies; protocol.
_V4: Final = struct.Struct(">4s4sHHH4s4sHHHB")
_V6: Final = struct.Struct(">16s16sHHH16s16sHHHB")


class Bundle(NamedTuple):
    """What flows have in common; addresses packed, empty where there is none of that kind.

    The ports are 0 where the service keeps the port: else a scan of a public address would make a bundle a port.
    """

    caller: bytes
    answerer: bytes
    service: bytes
    service_port: int
    backend_port: int
    public: bytes
    bucket: int

    @property
    def astray(self) -> bool:
        """Whether nothing was translated though an end is outside."""
        return not self.service and not self.public and not (self.caller and self.answerer)


class FlowIndex:
    """Flows by guest, by service, by backend and by public source."""

    __slots__ = ("_astray", "_bundles", "_guests", "_inside", "_publics")

    def __init__(self, inside: Iterable[Network] = ()) -> None:
        """Hold nothing; addresses of the networks `inside` are private: those of guests."""
        self._inside = [(n.version, int(n.netmask), int(n.network_address)) for n in inside]
        self._bundles: dict[Bundle, set[bytes]] = {}
        self._guests: dict[bytes, set[Bundle]] = {}
        self._publics: dict[bytes, set[Bundle]] = {}
        self._astray: set[Bundle] = set()

    def __len__(self) -> int:
        """Count; costs as much as there are bundles."""
        return sum(map(len, self._bundles.values()))

    def __iter__(self) -> Iterator[Flow]:
        """Yield everything."""
        return self._flows(self._bundles)

    def __contains__(self, flow: Flow) -> bool:
        """Tell whether a flow, translated as given, is held."""
        return pack(flow) in self._bundles.get(self._bundle(flow), ())

    def add(self, flow: Flow) -> None:
        """Hold a flow; one that is held already is nothing."""
        bundle = self._bundle(flow)
        held = self._bundles.get(bundle)
        if held is None:
            held = self._bundles[bundle] = set()
            for index, key in self._places(bundle):
                index.setdefault(key, set()).add(bundle)
            if bundle.astray:
                self._astray.add(bundle)
        held.add(pack(flow))

    def remove(self, flow: Flow) -> bool:
        """Let go of a flow; tell whether it was held."""
        bundle = self._bundle(flow)
        held, packed = self._bundles.get(bundle, set()), pack(flow)
        if packed not in held:
            return False
        held.remove(packed)
        if not held:
            del self._bundles[bundle]
            self._astray.discard(bundle)
            for index, key in self._places(bundle):
                index[key].discard(bundle)
                if not index[key]:
                    del index[key]
        return True

    def keep(self, packed: AbstractSet[bytes]) -> tuple[Flow, ...]:
        """Let go of all flows but these, each as `pack` writes it; return those that are gone."""
        gone = tuple(unpack(one) for held in self._bundles.values() for one in held - packed)
        for flow in gone:
            self.remove(flow)
        return gone

    def of_guest(self, address: Address) -> Iterator[Flow]:
        """Yield flows that a private address begins or answers."""
        return self._flows(self._guests.get(address.packed, ()))

    def of_service(
        self, address: Address, port: int, protocol: int, backend: tuple[Address, int] | None = None
    ) -> Iterator[Flow]:
        """Yield flows that called a service address, those that one backend answers if given.

        Services that keep the port share bundles by address and backend: they are looked through together.
        """
        chosen = [
            bundle
            for bundle in self._publics.get(address.packed, ())
            if bundle.service == address.packed
            and bundle.service_port in {0, port}
            and (backend is None or (bundle.answerer == backend[0].packed and bundle.backend_port in {0, backend[1]}))
        ]
        for flow in self._flows(chosen):
            same = flow.key.destination_port == port and flow.key.protocol == protocol
            if same and (backend is None or flow.reply.source_port == backend[1]):
                yield flow

    def from_public(self, address: Address, low: int = 0, high: int = 0xFFFF) -> Iterator[Flow]:
        """Yield flows whose source was translated to an address and one of these ports."""
        chosen = [
            bundle
            for bundle in self._publics.get(address.packed, ())
            if bundle.public == address.packed and low // BUCKET <= bundle.bucket <= high // BUCKET
        ]
        return (flow for flow in self._flows(chosen) if low <= public_port(flow) <= high)

    def of_pair(self, public: Address, private: Address) -> Iterator[Flow]:
        """Yield flows in which one address was translated into the other, from whichever side they began."""
        pairs = (public.packed, private.packed)
        return self._flows(
            [b for b in self._publics.get(pairs[0], ()) if pairs in {(b.service, b.answerer), (b.public, b.caller)}]
        )

    def astray(self, address: Address, port: int, protocol: int) -> Iterator[Flow]:
        """Yield flows that called an address while nothing translated it.

        Looks at all flows with an end outside that nothing translated; an edge that serves its VIPs has next to none.
        """
        for flow in self._flows(self._astray):
            key = flow.key
            if (key.destination, key.destination_port, key.protocol) == (address, port, protocol):
                yield flow

    def _flows(self, bundles: Iterable[Bundle]) -> Iterator[Flow]:
        """Yield what bundles hold; the index may change meanwhile."""
        for bundle in tuple(bundles):
            for packed in tuple(self._bundles.get(bundle, ())):
                yield unpack(packed)

    def _places(self, bundle: Bundle) -> Iterator[tuple[dict[bytes, set[Bundle]], bytes]]:
        """Yield where a bundle stands in the indexes."""
        for guest in {bundle.caller, bundle.answerer} - {_NOBODY}:
            yield self._guests, guest
        for public in {bundle.service, bundle.public} - {_NOBODY}:
            yield self._publics, public

    def _guest(self, address: Address) -> bytes:
        """Return an address that is private, packed."""
        value = int(address)
        private = any(value & mask == first and version == address.version for version, mask, first in self._inside)
        return address.packed if private else _NOBODY

    def _bundle(self, flow: Flow) -> Bundle:
        """Say how a flow was translated."""
        key, reply = flow.key, flow.reply
        icmp = key.protocol in ICMP
        moved = not icmp and reply.source_port != key.destination_port
        served = moved or reply.source != key.destination
        public = reply.destination if reply.destination != key.source else None
        # Behind the address of the edge itself, as when a guest calls a VIP of its own VPC, nothing is public.
        shown = public is not None and not self._guest(public)
        return Bundle(
            self._guest(key.source),
            self._guest(reply.source),
            key.destination.packed if served else _NOBODY,
            key.destination_port if moved else 0,
            reply.source_port if moved else 0,
            public.packed if public is not None and shown else _NOBODY,
            public_port(flow) // BUCKET if shown else 0,
        )


def public_port(flow: Flow) -> int:
    """Return the port, or the identifier of an echo, that a flow has on the address its replies go to."""
    return flow.reply.source_port if flow.key.protocol in ICMP else flow.reply.destination_port


def pack(flow: Flow) -> bytes:
    """Write a flow in 29 octets, or 77 of IPv6."""
    key, reply = flow.key, flow.reply
    return (_V4 if key.source.version == 4 else _V6).pack(  # noqa: PLR2004 - IP version
        key.source.packed,
        key.destination.packed,
        key.source_port,
        key.destination_port,
        key.zone,
        reply.source.packed,
        reply.destination.packed,
        reply.source_port,
        reply.destination_port,
        reply.zone,
        key.protocol,
    )


def unpack(packed: bytes) -> Flow:
    """Read what `pack` wrote; the mark is not known."""
    form = _V4 if len(packed) == _V4.size else _V6
    source, destination, sport, dport, zone, back, forth, rsport, rdport, rzone, protocol = form.unpack(packed)
    return Flow(
        FlowKey(ip_address(source), sport, ip_address(destination), dport, protocol, zone),
        FlowKey(ip_address(back), rsport, ip_address(forth), rdport, protocol, rzone),
    )
