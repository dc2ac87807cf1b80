"""Sections of the intent that say what may pass: rules, tiers, service nodes, what becomes of established flows."""

from __future__ import annotations

from ipaddress import IPv4Interface
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from appliance.model.fields import Device, Name, PortText, Section, strings_only
from appliance.model.marks import STEERS

Choice = Literal["keep", "re-judge", "reset", "drop"]
Tier = Literal["emergency", "infrastructure", "application"]

#: Tiers in the order in which they are looked at.
TIERS: Final[tuple[Tier, ...]] = ("emergency", "infrastructure", "application")

#: The word for everything that is not the VPC; no guest or group may have it for a name.
OUTSIDE: Final = "outside"


class Rule(Section):
    """One firewall rule; the first that matches decides, replies of allowed flows always pass."""

    action: Literal["allow", "deny", "reject", "redirect", "sample", "limit"] = Field(
        description="deny is silent, reject answers; the others allow, and more"
    )
    source: tuple[str, ...] = Field((), description="guests, groups, prefixes, or `outside`; anything when empty")
    destination: tuple[str, ...] = Field((), description="as source")
    protocol: Literal["any", "tcp", "udp", "icmp"] = Field("any", description="protocol of the packet")
    ports: tuple[PortText, ...] = Field((), description="destination ports or ranges `8000-8099`; tcp and udp only")
    applies_to: tuple[str, ...] = Field((), description="guests and groups whose ports have the rule; all when empty")
    tier: Tier = Field("application", description="rules of an earlier tier come first")
    to: Name | None = Field(None, description="redirect: the service node that the flow goes through")
    rate: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = Field(
        None, description="limit: packets a second of all flows of the rule; sample: one packet of so many"
    )


class Firewall(Section):
    """Rules of a VPC, tier by tier, in order, then the defaults by direction."""

    rules: tuple[Rule, ...] = Field((), description="in order; the first of a port's rules that matches decides")
    inbound: Literal["allow", "deny"] = Field("deny", description="from outside to guests, when no rule matched")
    outbound: Literal["allow", "deny"] = Field("allow", description="from guests to the outside")
    internal: Literal["allow", "deny"] = Field("allow", description="between guests of the VPC")


class ServiceNode(Section):
    """A machine on a link of its own to the edge: gets flows that rules redirect, and sends them back on the same link."""

    id: Annotated[int, Field(ge=1, le=STEERS, strict=True)] = Field(description="unique number in the VPC, 1..63")
    host: Name = Field(description="node at which its link ends")
    interface: Device = Field(description="the host's device towards it; it may appear later")
    link: Annotated[IPv4Interface, BeforeValidator(strings_only)] = Field(
        description="the edge's address on the link, a /31; the service node has the other one"
    )
    on_failure: Literal["allow", "deny"] = Field("allow", description="for its flows while it does not answer")


class Established(Section):
    """What happens to established flows after a change; the defaults depend on the protocol (design 0005)."""

    backend_gone: Choice | None = Field(None, description="flows through a VIP to a backend that is down or removed")
    vip_gone: Choice | None = Field(None, description="flows through a VIP that is removed or has another address")
    snat_moved: Choice | None = Field(None, description="flows whose source NAT address or ports are no longer ours")
    floating_moved: Choice | None = Field(None, description="flows of a guest whose public address changed")
    guest_gone: Choice | None = Field(None, description="flows of a guest that moved to another host or is removed")
