"""The stateful firewall of a VPC: first match decides, replies of allowed flows pass, defaults by direction.

Every guest's traffic is routed by the edge, also between guests of one host, so one forward chain sees all of it, on
the host of either end.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, collapse_addresses

from appliance.model.facts import NftSet
from appliance.model.intent import Vpc
from appliance.model.policy import Rule
from services.feature import EdgeParts
from services.place import LAN, OVERLAY_DEVICE, Place

_VERDICT = {"allow": "accept", "deny": "drop", "reject": "reject with icmpx admin-prohibited"}


def compile_firewall(place: Place, vpc: Vpc) -> EdgeParts:
    """Return the forward chain; guests that stand here may use no address but their own."""
    guests = frozenset(str(guest.address) for guest in vpc.guests.values() if guest.host == place.node)
    return EdgeParts(
        declarations=("set local_guests { type ipv4_addr; }",),
        forward=(
            f'iifname "{LAN}" ip saddr != @local_guests drop',
            "ct state established,related accept",
            "ct state invalid drop",
            *(_statement(place, vpc, rule) for rule in vpc.firewall.rules),
            *_defaults(place, vpc),
        ),
        sets=(NftSet(place.ns, "local_guests", guests),),
    )


def _defaults(place: Place, vpc: Vpc) -> Iterator[str]:
    inside = f'{{ "{LAN}", "{OVERLAY_DEVICE}" }}'
    yield f"iifname {inside} oifname {inside} {_VERDICT[vpc.firewall.internal]}"
    yield f'iifname "{place.uplink}" {_VERDICT[vpc.firewall.inbound]}'
    yield f'oifname "{place.uplink}" {_VERDICT[vpc.firewall.outbound]}'


def _statement(place: Place, vpc: Vpc, rule: Rule) -> str:
    terms = [
        *_side(place, vpc, rule.source, "iifname", "saddr"),
        *_side(place, vpc, rule.destination, "oifname", "daddr"),
    ]
    if rule.protocol != "any":
        ports = f"dport {{ {', '.join(map(_port, rule.ports))} }}" if rule.ports else ""
        terms.append(f"{rule.protocol} {ports}" if ports else f"meta l4proto {rule.protocol}")
    return " ".join([*terms, _VERDICT[rule.action]])


def _port(text: str) -> str:
    """Write a port or a range for nft, which reads a leading zero as octal."""
    return "-".join(str(int(part)) for part in text.split("-"))


def _side(place: Place, vpc: Vpc, terms: tuple[str, ...], device: str, field: str) -> Iterator[str]:
    """Match one side; `outside` is a device, so it cannot be joined with addresses in one statement: it is theirs."""
    if not terms:
        return
    if "outside" in terms:
        yield f'{device} "{place.uplink}"'
        return
    networks = [IPv4Network(vpc.guests[t].address) if t in vpc.guests else IPv4Network(t) for t in terms]
    yield f"ip {field} {{ {', '.join(str(network) for network in collapse_addresses(networks))} }}"
