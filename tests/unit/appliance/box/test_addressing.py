"""Addresses, routes, DHCP and name servers of an interface."""

from __future__ import annotations

import pytest

from tests.support.seeds import errors, said, seed


def lines(text: str) -> list[str]:
    """Return the lines for one interface."""
    judged = seed(network=f"version: 2\nethernets: {{eth0: {{{text}}}}}\n")
    assert judged.network is not None
    return judged.network[0].text.splitlines()


def sections(text: str, name: str) -> list[list[str]]:
    """Return the lines of each section of a name."""
    found: list[list[str]] = []
    for line in lines(text):
        if line.startswith("["):
            found.append([line])
        elif line:
            found[-1].append(line)
    return [rest for head, *rest in found if head == f"[{name}]"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("dhcp4: true", "DHCP=ipv4"),
        ("dhcp6: true", "DHCP=ipv6"),
        ("dhcp4: true, dhcp6: yes", "DHCP=yes"),
        ("dhcp4: false", "DHCP=no"),
        ("accept-ra: true", "IPv6AcceptRA=yes"),
        ("dhcp4: true", "IPv6AcceptRA=no"),
        ("link-local: []", "LinkLocalAddressing=no"),
        ("link-local: [ipv4, ipv6]", "LinkLocalAddressing=yes"),
        ("dhcp4: true", "KeepConfiguration=static"),
        ("dhcp4: false", "KeepConfiguration=yes"),
        ("nameservers: {addresses: [9.9.9.9], search: [a.example, b.example]}", "DNS=9.9.9.9"),
        ("nameservers: {search: [a.example, b.example]}", "Domains=a.example b.example"),
    ],
)
def test_what_network_says(text: str, line: str) -> None:
    """One line each."""
    assert line in sections(text, "Network")[0]


def test_routes_and_gateways_are_sections() -> None:
    """Each its own."""
    text = (
        "gateway4: 10.0.0.1, gateway6: 'fe80::1', routes: [{to: 10.9.0.0/16, via: 10.0.0.2, metric: 5, on-link: true}]"
    )
    assert sections(text, "Route") == [
        ["Gateway=10.0.0.1"],
        ["Gateway=fe80::1"],
        ["Destination=10.9.0.0/16", "Gateway=10.0.0.2", "Metric=5", "GatewayOnLink=yes"],
    ]
    assert sections("routes: [{to: default, via: 10.0.0.2}]", "Route") == [["Gateway=10.0.0.2"]]


def test_leases_give_no_name_and_may_be_limited() -> None:
    """The name is the seed's."""
    text = "dhcp4: true, dhcp4-overrides: {use-dns: false, route-metric: 50}"
    assert sections(text, "DHCPv4") == [["UseHostname=no", "UseDNS=no", "RouteMetric=50"]]


def test_options_of_an_address_are_told() -> None:
    """The address itself is taken."""
    judged = seed(network="version: 2\nethernets: {eth0: {addresses: [{10.0.0.1/24: {label: x}}]}}\n")
    assert judged.network is not None
    assert "Address=10.0.0.1/24" in judged.network[0].text
    assert "ethernets.eth0.addresses.0" in said(judged.warnings)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("addresses: [10.0.0.1]", "addresses.0"),
        ("addresses: ['fe80::1%eth0/64']", "addresses.0"),
        ("addresses: 10.0.0.1/24", "addresses"),
        ("gateway4: 'fe80::1'", "gateway4"),
        ("gateway6: 10.0.0.1", "gateway6"),
        ("routes: [{via: 10.0.0.1}]", "routes.0"),
        ("routes: [{to: 10.0.0.1/24}]", "routes.0.to"),
        ("routes: [{to: default, via: x}]", "routes.0.via"),
        ("routes: [{to: default, type: best}]", "routes.0.type"),
        ("routes: [{to: default, metric: -1}]", "routes.0.metric"),
        ("nameservers: {addresses: [x]}", "nameservers.addresses.0"),
        ("nameservers: {search: ['a b']}", "nameservers.search.0"),
        ("dhcp4: 7", "dhcp4"),
    ],
)
def test_what_is_no_address_is_an_error(text: str, path: str) -> None:
    """At its place."""
    assert f"ethernets.eth0.{path}" in said(errors(network=f"version: 2\nethernets: {{eth0: {{{text}}}}}\n"))


def test_no_text_of_a_seed_makes_a_line_of_its_own() -> None:
    """A newline in a value would be a setting that nobody judged."""
    for text in ('match: {name: "a\\nb"}', 'nameservers: {search: ["a\\nb"]}', 'addresses: ["10.0.0.1/24\\nDHCP=yes"]'):
        assert errors(network=f"version: 2\nethernets: {{eth0: {{{text}}}}}\n")
