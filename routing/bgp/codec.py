"""A speaker and its values as JSON and back: what an engine's process is told and keeps in a file.

Called by engines of our own RIB. Explicit, field by field: what the file of an older version lacks gets the default of
`values.py`, what it has and we do not know is an error. Pure; the text itself is made by `json`.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from routing.bgp.values import (
    Address,
    Announcement,
    Attributes,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    Origin,
    PrefixRule,
    Segment,
    SegmentType,
    Speaker,
    UnknownAttribute,
)

Json = dict[str, Any]
Rules = tuple[PrefixRule, ...]

_FAMILIES = {Family.IPV4: "ipv4", Family.IPV6: "ipv6"}
_FAMILIES_BY_NAME = {name: family for family, name in _FAMILIES.items()}


def speaker_to_json(speaker: Speaker) -> Json:
    """Write a whole desired state."""
    return {
        "name": speaker.name,
        "mode": speaker.mode.value,
        "asn": speaker.asn,
        "router_id": str(speaker.router_id),
        "listen": [str(address) for address in speaker.listen],
        "port": speaker.port,
        "neighbors": [neighbor_to_json(neighbor) for neighbor in speaker.neighbors],
        "announcements": [announcement_to_json(announcement) for announcement in speaker.announcements],
    }


class RuleSets:
    """Rules that were read before: equal ones are one object, for hundreds of neighbours often have the same."""

    def __init__(self) -> None:
        """Begin with none."""
        # Not by their text: it would be kept as long as they are.
        self._known: dict[tuple[int, int], Rules] = {}

    def __len__(self) -> int:
        """Return how many are known."""
        return len(self._known)

    def read(self, items: Iterable[Iterable[Any]]) -> Rules:
        """Read rules."""
        text = tuple(map(tuple, items))
        key = (len(text), hash(text))
        found = self._known.get(key)
        if found is None:
            found = tuple(PrefixRule(ip_network(network), shortest, longest) for network, shortest, longest in text)
            self._known[key] = found
        return found

    def keep(self, neighbors: Iterable[Neighbor]) -> None:
        """Forget what none of these neighbours has."""
        policies = [policy for neighbor in neighbors for policy in (neighbor.imports, neighbor.exports)]
        kept = {id(rules) for policy in policies for rules in (policy.accept, policy.never)}
        self._known = {key: rules for key, rules in self._known.items() if id(rules) in kept}


def speaker_from_json(data: Json, rules: RuleSets | None = None) -> Speaker:
    """Read a whole desired state; afterwards `rules` are those of its neighbours."""
    rules = RuleSets() if rules is None else rules
    neighbors = tuple(neighbor_from_json(item, rules) for item in data.get("neighbors", ()))
    rules.keep(neighbors)
    return Speaker(
        **data
        | {
            "mode": Mode(data["mode"]),
            "router_id": IPv4Address(data["router_id"]),
            "listen": tuple(ip_address(text) for text in data["listen"]),
            "neighbors": neighbors,
            "announcements": tuple(announcement_from_json(item) for item in data.get("announcements", ())),
        }
    )


def neighbor_to_json(neighbor: Neighbor) -> Json:
    """Write a neighbour with its policies."""
    return {
        "name": neighbor.name,
        "asn": neighbor.asn,
        "address": text_or_none(neighbor.address),
        "range": text_or_none(neighbor.range),
        "local_address": text_or_none(neighbor.local_address),
        "families": [_FAMILIES[family] for family in neighbor.families],
        "imports": _import_to_json(neighbor.imports),
        "exports": {"accept": _rules_to_json(neighbor.exports.accept), "never": _rules_to_json(neighbor.exports.never)},
        "passive": neighbor.passive,
        "next_hop_self": neighbor.next_hop_self,
        "extended_next_hop": neighbor.extended_next_hop,
        "hold_time": neighbor.hold_time,
        "restart_time": neighbor.restart_time,
        "client": neighbor.client,
    }


def neighbor_from_json(data: Json, rules: RuleSets) -> Neighbor:
    """Read a neighbour with its policies."""
    exports = {name: rules.read(items) for name, items in data.get("exports", {}).items()}
    return Neighbor(
        **data
        | {
            "address": address_or_none(data.get("address")),
            "range": network_or_none(data.get("range")),
            "local_address": address_or_none(data.get("local_address")),
            "families": tuple(_FAMILIES_BY_NAME[name] for name in data["families"]),
            "imports": _import_from_json(data.get("imports", {}), rules),
            "exports": ExportPolicy(**exports),
        }
    )


def _import_to_json(policy: ImportPolicy) -> Json:
    return {
        "accept": _rules_to_json(policy.accept),
        "never": _rules_to_json(policy.never),
        "first_as": policy.first_as,
        "forbidden_as": list(policy.forbidden_as),
        "max_path_length": policy.max_path_length,
        "next_hops": [str(network) for network in policy.next_hops],
        "max_prefixes": policy.max_prefixes,
        "refuse_as_set": policy.refuse_as_set,
    }


def _import_from_json(data: Json, rules: RuleSets) -> ImportPolicy:
    return ImportPolicy(
        **data
        | {
            "accept": rules.read(data.get("accept", ())),
            "never": rules.read(data.get("never", ())),
            "forbidden_as": tuple(data.get("forbidden_as", ())),
            "next_hops": tuple(ip_network(text) for text in data.get("next_hops", ())),
        }
    )


def _rules_to_json(rules: Rules) -> list[list[str | int]]:
    return [[str(rule.network), rule.min_length, rule.max_length] for rule in rules]


def announcement_to_json(announcement: Announcement) -> Json:
    """Write a route that the speaker originates."""
    return {
        "prefix": str(announcement.prefix),
        "next_hop": text_or_none(announcement.next_hop),
        "communities": [list(community) for community in announcement.communities],
        "large_communities": [list(community) for community in announcement.large_communities],
        "med": announcement.med,
    }


def announcement_from_json(data: Json) -> Announcement:
    """Read a route that the speaker originates."""
    return Announcement(
        **data
        | {
            "prefix": ip_network(data["prefix"]),
            "next_hop": address_or_none(data.get("next_hop")),
            "communities": tuple((a, b) for a, b in data.get("communities", ())),
            "large_communities": tuple((a, b, c) for a, b, c in data.get("large_communities", ())),
        }
    )


def attributes_to_json(attributes: Attributes) -> Json:
    """Write an attribute set; what is absent or empty is left out."""
    data: Json = {
        "next_hop": str(attributes.next_hop),
        "origin": int(attributes.origin),
        "as_path": [[int(segment.type), list(segment.asns)] for segment in attributes.as_path],
        "med": attributes.med,
        "local_pref": attributes.local_pref,
        "atomic_aggregate": attributes.atomic_aggregate or None,
        "aggregator": attributes.aggregator and [attributes.aggregator[0], str(attributes.aggregator[1])],
        "communities": [list(community) for community in attributes.communities],
        "large_communities": [list(community) for community in attributes.large_communities],
        "extended_communities": [octets.hex() for octets in attributes.extended_communities],
        "originator_id": text_or_none(attributes.originator_id),
        "cluster_list": [str(identifier) for identifier in attributes.cluster_list],
        "unknown": [[item.flags, item.code, item.value.hex()] for item in attributes.unknown],
    }
    return {name: value for name, value in data.items() if value is not None and value != []}


def attributes_from_json(data: Json) -> Attributes:
    """Read an attribute set."""
    aggregator = data.get("aggregator")
    originator = data.get("originator_id")
    return Attributes(
        **data
        | {
            "next_hop": ip_address(data["next_hop"]),
            "origin": Origin(data.get("origin", 0)),
            "as_path": tuple(Segment(SegmentType(kind), tuple(asns)) for kind, asns in data.get("as_path", ())),
            "aggregator": aggregator and (aggregator[0], IPv4Address(aggregator[1])),
            "communities": tuple((a, b) for a, b in data.get("communities", ())),
            "large_communities": tuple((a, b, c) for a, b, c in data.get("large_communities", ())),
            "extended_communities": tuple(bytes.fromhex(text) for text in data.get("extended_communities", ())),
            "originator_id": originator and IPv4Address(originator),
            "cluster_list": tuple(IPv4Address(text) for text in data.get("cluster_list", ())),
            "unknown": tuple(
                UnknownAttribute(flags, code, bytes.fromhex(text)) for flags, code, text in data.get("unknown", ())
            ),
        }
    )


def families_to_json(families: tuple[Family, ...]) -> list[str]:
    """Write families by name."""
    return [_FAMILIES[family] for family in families]


def families_from_json(names: list[str]) -> tuple[Family, ...]:
    """Read families by name."""
    return tuple(_FAMILIES_BY_NAME[name] for name in names)


def text_or_none(value: Address | Network | None) -> str | None:
    """Write an address or a network that may be absent."""
    return None if value is None else str(value)


def address_or_none(text: str | None) -> Address | None:
    """Read an address that may be absent."""
    return None if text is None else ip_address(text)


def network_or_none(text: str | None) -> Network | None:
    """Read a network that may be absent."""
    return None if text is None else ip_network(text)
