"""A neighbour at one address as the tables know it: what it may say, compiled, and which paths it has said.

Called by `routing.bgp.tables`. Pure. The verdict about an attribute set is found once and kept with the path; the verdict
about prefixes is found for a whole run of packed NLRI at once.
"""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING

from routing.bgp.filters import prefix_filter
from routing.bgp.hot import scan
from routing.bgp.paths import NOBODY, Path
from routing.bgp.policy import ImportCheck
from routing.bgp.values import Address, Attributes, Family, Neighbor, Reason, Speaker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from routing.bgp.update import Format

#: First octets of unicast IPv4 addresses; 0/8 and 127/8 are no next hop either.
_UNICAST = frozenset(range(1, 224)) - {127}


_UNLIMITED = 1 << 62
_HOPS = 1 << 10


#: AS numbers of a path and next hop, of `scan`.
Facts = tuple[tuple[int, ...], bytes]


class Judge:
    """The import policy of a neighbour. The order of reasons is that of `routing.bgp.policy`."""

    def __init__(self, neighbor: Neighbor, speaker: Speaker) -> None:
        """Compile it."""
        policy = neighbor.imports
        self._check = ImportCheck(neighbor, speaker)
        self._first = policy.first_as
        self._own = speaker.asn
        self._forbidden = frozenset((*policy.forbidden_as, 0))
        self._longest = policy.max_path_length
        #: Next hops that were found to be hosts and allowed.
        self.hops: set[bytes] = set()
        self._filters = {
            family: (prefix_filter(policy.never, family), prefix_filter(policy.accept, family)) for family in Family
        }
        self._not_accepted = Reason.NOT_OWNED if policy.accept else Reason.NO_POLICY

    def ordinary(self, asns: tuple[int, ...], next_hop: bytes) -> Reason | None:
        """Judge an ordinary attribute set of an external neighbour: a path of sequences, no reflection."""
        if self._first is not None and (not asns or asns[0] != self._first):
            return Reason.FIRST_AS
        if not self._forbidden.isdisjoint(asns):
            return Reason.FORBIDDEN_AS
        if self._own in asns:
            return Reason.AS_LOOP
        if len(asns) > self._longest:
            return Reason.PATH_TOO_LONG
        return None if next_hop in self.hops or self._may_name(next_hop) else Reason.NEXT_HOP

    def attributes(self, attributes: Attributes) -> Reason | None:
        """Judge any attribute set."""
        return self._check.attributes(attributes)

    def accepts(self, family: Family, nlri: bytes) -> bool:
        """Tell whether the policy accepts all of these prefixes."""
        never, accept = self._filters[family]
        return never.covers_none(nlri) and accept.covers_all(nlri)

    def prefixes(self, family: Family, nlri: bytes) -> Iterable[tuple[Reason | None, bytes]]:
        """Split prefixes by what the policy says of them."""
        never, accept = self._filters[family]
        bogus, rest = never.split(nlri)
        good, bad = accept.split(rest)
        verdicts = ((None, good), (Reason.BOGON, bogus), (self._not_accepted, bad))
        return [(reason, part) for reason, part in verdicts if part]

    def _may_name(self, next_hop: bytes) -> bool:
        hop, allowed = ip_address(next_hop), self._check.neighbor.imports.next_hops
        may = not allowed or any(hop in network for network in allowed)
        # As many as the neighbour likes to name: what is refused is not kept, and of the others not too many.
        if may and is_host(next_hop) and len(self.hops) < _HOPS:
            self.hops.add(next_hop)
        return may


class Peer:
    """A neighbour at one address; it outlives its sessions. Counts are of prefixes of all families.

    `limit` is how many may be accepted, `room` the same as a number always. `waiting` are refused for the limit alone. `paths` by their octets, with the verdict about the attributes alone.
    """

    __slots__ = (
        "_variants",
        "accepted",
        "address",
        "format",
        "internal",
        "judge",
        "limit",
        "neighbor",
        "paths",
        "received",
        "room",
        "router_id",
        "stale_until",
        "waiting",
    )

    def __init__(self, address: Address, neighbor: Neighbor, speaker: Speaker) -> None:
        """Nothing was said yet."""
        self.address, self.internal = address, neighbor.asn == speaker.asn
        self.router_id = IPv4Address(0)
        self.format: Format | None = None
        self.received = self.accepted = self.waiting = 0
        self.stale_until: float | None = None
        self.paths: dict[bytes, Path] = {}
        self._variants: dict[tuple[bytes, Reason | None, bool], Path] = {}
        self.follow(neighbor, speaker)

    def follow(self, neighbor: Neighbor, speaker: Speaker) -> None:
        """Take another policy, and judge the paths anew; what they are labels of is the caller's.

        A path of which the new policy says the same stays the same object, so nothing follows from it.
        """
        self.neighbor = neighbor
        self.judge = Judge(neighbor, speaker)
        self.limit = neighbor.imports.max_prefixes
        self.room = _UNLIMITED if self.limit is None else self.limit
        self.paths = {octets: self.variant(path, self._verdict(path)) for octets, path in self.paths.items()}

    def ordinary(self, octets: bytes, ours: frozenset[int]) -> Path | None:
        """Return the judged path of octets as they came; None: out of the ordinary, to be read closely first.

        `ours` are the AS numbers of our neighbours.
        """
        found = self.paths.get(octets)
        if found is not None:
            return found
        facts = scan(octets, self.internal)
        if facts is None:
            return None
        asns, next_hop = facts
        if next_hop not in self.judge.hops and not is_host(next_hop):
            return None
        if self.internal:
            found = self._judged(octets, facts, ours)
        else:
            avoid = ours.intersection(asns)
            avoid = _named.setdefault(avoid, avoid)
            reason = self.judge.ordinary(asns, next_hop)
            # RFC 7607 2: malformed. No policy accepts it.
            if reason is not None and 0 in asns:
                return None
            found = Path(self, octets, next_hop, reason, avoid)
        self.paths[octets] = found
        return found

    def path(self, octets: bytes, ours: frozenset[int]) -> Path:
        """Return the judged path of octets that were read closely."""
        found = self.paths.get(octets)
        if found is None:
            found = self.paths[octets] = self._judged(octets, scan(octets, self.internal), ours)
        return found

    def variant(self, path: Path, reason: Reason | None, *, stale: bool = False) -> Path:
        """Return the same path with another verdict, or stale."""
        if path.reason is reason and path.stale is stale:
            return path
        return self._made(path, reason, stale=stale)

    def again(self, path: Path) -> Path:
        """Return the same path, weighed anew."""
        return self._made(path, path.reason, stale=path.stale)

    def malformed(self, *, stale: bool = False) -> Path:
        """Return the path of what is treated as withdrawn (RFC 7606)."""
        return self.variant(Path(self, b"", self.address.packed), Reason.MALFORMED, stale=stale)

    def all_paths(self) -> list[Path]:
        """Return every path that it may have said, each once."""
        return list(dict.fromkeys((*self.paths.values(), *self._variants.values())))

    def forget(self, live: dict[Path, None]) -> None:
        """Keep only what is in use."""
        self.paths = {octets: path for octets, path in self.paths.items() if path in live}
        self._variants = {key: path for key, path in self._variants.items() if path in live}

    def _made(self, path: Path, reason: Reason | None, *, stale: bool) -> Path:
        key = (path.octets, reason, stale)
        found = self._variants.get(key)
        if found is None:
            found = Path(self, path.octets, path.next_hop, reason, path.avoid, stale=stale)
            self._variants[key] = found
        return found

    def _judged(self, octets: bytes, facts: Facts | None, ours: frozenset[int]) -> Path:
        if facts is not None and not self.internal:
            asns, next_hop = facts
            return Path(self, octets, next_hop, self.judge.ordinary(asns, next_hop), named(ours, asns))
        path = Path(self, octets, b"")
        attributes = path.attributes
        path.next_hop = attributes.next_hop.packed
        path.reason = self.judge.attributes(attributes)
        path.avoid = named(ours, attributes.path_asns)
        return path

    def _verdict(self, path: Path) -> Reason | None:
        facts = None if self.internal else scan(path.octets, False)  # noqa: FBT003 - one word in C
        return self.judge.attributes(path.attributes) if facts is None else self.judge.ordinary(*facts)


#: What paths name. A neighbour can think of any number of sets, so `keep_named` is to be called from time to time.
_named: dict[frozenset[int], frozenset[int]] = {NOBODY: NOBODY}


def named(ours: frozenset[int], asns: tuple[int, ...]) -> frozenset[int]:
    """Return which of our neighbours' AS numbers a path names; equal sets are one object."""
    found = ours.intersection(asns)
    return _named.setdefault(found, found)


def keep_named(live: Iterable[Path]) -> None:
    """Forget the sets that none of these paths names."""
    kept = {path.avoid: path.avoid for path in live}
    _named.clear()
    _named.update(kept)
    _named[NOBODY] = NOBODY


def path_asns(path: Path) -> tuple[int, ...]:
    """Return every AS number of a path."""
    if not path.octets:
        return ()
    ordinary = scan(path.octets, True)  # noqa: FBT003 - one word in C
    return path.attributes.path_asns if ordinary is None else ordinary[0]


def is_host(next_hop: bytes) -> bool:
    """Tell whether a packed next hop can be a host's address."""
    if len(next_hop) == 4:  # noqa: PLR2004 - IPv4
        return next_hop[0] in _UNICAST
    return next_hop[0] != 0xFF and any(next_hop)  # noqa: PLR2004 - multicast
