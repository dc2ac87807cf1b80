"""Flows of the VPC of `tests.support.intents.one_vpc`, written short."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from appliance.model.facts import Flow, FlowKey

SUBNET = ip_network("172.16.1.0/24")
CLIENT, VIP, SHARED, PUBLIC = "198.51.100.7", "203.0.113.80", "203.0.113.1", "203.0.113.11"
R1, R2, R3, GATEWAY = "172.16.1.11", "172.16.1.12", "172.16.1.13", "172.16.1.1"
TCP, UDP, ECHO = 6, 17, 1
ZONE = 1101


def key(source: str, source_port: int, destination: str, destination_port: int, protocol: int = TCP) -> FlowKey:
    """Write one direction."""
    return FlowKey(ip_address(source), source_port, ip_address(destination), destination_port, protocol, ZONE)


def called(port: int, backend: str = R1, *, protocol: int = TCP, service: int = 80, target: int = 8080) -> Flow:
    """Return a flow of a client to the VIP."""
    there = key(CLIENT, port, VIP, service, protocol)
    return Flow(there, key(backend, target, CLIENT, port, protocol))


def left(port: int, guest: str = R2, *, public: str = SHARED, to: int = 5000, protocol: int = TCP) -> Flow:
    """Return a flow of a guest to the outside."""
    return Flow(key(guest, port, CLIENT, 443, protocol), key(CLIENT, 443, public, to, protocol))


def entered(port: int, public: str = PUBLIC, guest: str = R1) -> Flow:
    """Return a flow to a guest's public address."""
    return Flow(key(CLIENT, port, public, 22), key(guest, 22, CLIENT, port))


def plain(port: int, source: str = R1, destination: str = R2, protocol: int = TCP, to: int = 7) -> Flow:
    """Return a flow that nothing translates."""
    return Flow(key(source, port, destination, to, protocol), key(destination, to, source, port, protocol))


def pinged(number: int, guest: str = R2) -> Flow:
    """Return an echo of a guest to the outside: the identifier is translated, the type of the reply is another."""
    return Flow(key(guest, number, CLIENT, 8 * 256, ECHO), key(CLIENT, 5001, SHARED, 0, ECHO))
