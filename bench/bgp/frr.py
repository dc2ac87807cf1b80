"""FRR's bgpd, with zebra beside it for its next-hop tracking, which is not measured.

The import policy as route-maps, without the limit to the length of paths, for which there is no word but a regular
expression that nobody writes. It does nothing against path hiding, and sends each client its own routes back.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.bgp.dut import Command, Dut, Lack
from bench.bgp.exchange import AS, FORBIDDEN, MOST_PREFIXES, ROUTER_ID, Client, Exchange
from routing.bgp.values import Family, PrefixRule

_ZEBRA, _BGPD = Path("/usr/lib/frr/zebra"), Path("/usr/lib/frr/bgpd")


class Frr(Dut):
    """bgpd, as user frr."""

    name = "FRR"
    lacks = frozenset({Lack.SECOND, Lack.SILENCE, Lack.LENGTH, Lack.HIDDEN, Lack.RELOAD})

    def available(self) -> bool:
        """Tell whether its daemons are installed."""
        return _ZEBRA.exists() and _BGPD.exists()

    def commands(self, home: Path, at: Exchange) -> list[Command]:
        """Write the configuration of both; the daemons give up root before they read it."""
        (home / "zebra.conf").write_text("")
        (home / "bgpd.conf").write_text(configuration(at))
        for path in (home, *home.iterdir()):
            shutil.chown(path, "frr", "frr")
        zebra = _daemon(_ZEBRA, home)
        # -n: no route of BGP is put into the kernel.
        return [Command(zebra, measured=False, ready=home / "zserv.api"), Command((*_daemon(_BGPD, home), "-n"))]


def _daemon(program: Path, home: Path) -> tuple[str, ...]:
    name = program.name
    sockets = ("-P", "0", "--vty_socket", str(home), "-z", str(home / "zserv.api"))
    files = ("-f", str(home / f"{name}.conf"), "-i", str(home / f"{name}.pid"), "--log", f"file:{home / 'log'}")
    return (str(program), *sockets, *files, "--log-level", "warn")


def configuration(at: Exchange) -> str:
    """Write an exchange down."""
    ip = "ip" if at.family is Family.IPV4 else "ipv6"
    forbidden = "|".join(str(asn) for low, high in ((AS, AS), *FORBIDDEN) for asn in range(low, high + 1))
    lines = [
        "frr defaults traditional",
        *_rules(f"{ip} prefix-list never", at.never),
        *_rules(f"{ip} prefix-list owned", at.owned),
        f"bgp as-path access-list forbidden seq 5 permit _({forbidden})_",
        *(line for client in at.clients for line in _route_map(ip, client)),
        *("route-map sent permit 10", f" match {ip} address prefix-list owned", "exit"),
        *(f"router bgp {AS}", f" bgp router-id {ROUTER_ID}", " no bgp default ipv4-unicast"),
        *(" no bgp network import-check", " bgp reject-as-sets"),
        *(line for client in at.clients for line in _neighbor(client)),
        f" address-family {'ipv4' if at.family is Family.IPV4 else 'ipv6'} unicast",
        *(line for client in at.clients for line in _activated(client)),
        " exit-address-family",
    ]
    return "\n".join([*lines, ""])


def _route_map(ip: str, client: Client) -> Iterator[str]:
    name, hop = f"from-{client.number}", f"hop-{client.number}"
    yield f"{ip} prefix-list {hop} permit {client.address}/{client.address.max_prefixlen}"
    yield f"bgp as-path access-list first-{client.number} seq 5 permit ^{client.asn}(_|$)"
    yield from (f"route-map {name} deny 10", f" match {ip} address prefix-list never", "exit")
    yield from (f"route-map {name} deny 20", " match as-path forbidden", "exit")
    yield from (f"route-map {name} permit 30", f" match {ip} address prefix-list owned")
    yield from (f" match as-path first-{client.number}", f" match {ip} next-hop prefix-list {hop}", "exit")


def _neighbor(client: Client) -> Iterator[str]:
    yield f" neighbor {client.address} remote-as {client.asn}"
    yield f" neighbor {client.address} passive"


def _activated(client: Client) -> Iterator[str]:
    words = ("activate", "route-server-client", f"route-map from-{client.number} in", "route-map sent out")
    yield from (f"  neighbor {client.address} {word}" for word in (*words, f"maximum-prefix {MOST_PREFIXES}"))


def _rules(head: str, rules: Sequence[PrefixRule]) -> Iterator[str]:
    for rule in rules:
        low = f" ge {rule.min_length}" if rule.min_length > rule.network.prefixlen else ""
        yield f"{head} permit {rule.network}{low} le {rule.max_length}"
