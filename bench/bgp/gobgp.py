"""GoBGP. The whole import policy as one statement a client; nothing against path hiding.

`secondary-route` is the remedy it has, and with it paths that loop are no longer left out and some are sent twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.bgp.dut import Command, Dut, Lack
from bench.bgp.exchange import AS, FORBIDDEN, LONGEST_PATH, MOST_PREFIXES, ROUTER_ID, Client, Exchange
from routing.bgp.values import Family, PrefixRule


class GoBgp(Dut):
    """One `gobgpd`; a delivery costs it 30 microseconds."""

    name = "GoBGP"
    lacks = frozenset({Lack.HIDDEN, Lack.RELOAD})
    most = 1_000_000
    within = 400.0

    def available(self) -> bool:
        """Tell whether it is installed."""
        return shutil.which("gobgpd") is not None

    def commands(self, home: Path, at: Exchange) -> list[Command]:
        """Write the configuration."""
        path = home / "gobgpd.toml"
        path.write_text(configuration(at))
        return [
            Command(
                ("gobgpd", "-f", str(path), "-l", "warn", "-p", "--pprof-disable", "--api-hosts", "127.0.0.1:50051")
            )
        ]


def configuration(at: Exchange) -> str:
    """Write an exchange down, in TOML."""
    lines = [
        *("[global.config]", f"as = {AS}", f'router-id = "{ROUTER_ID}"', f'local-address-list = ["{at.server}"]'),
        *_prefix_set("never", at.never),
        *_prefix_set("owned", at.owned),
        *(
            "[[defined-sets.bgp-defined-sets.as-path-sets]]",
            'as-path-set-name = "forbidden"',
            f"as-path-list = [{_forbidden()}]",
        ),
        *(line for client in at.clients for line in _sets(client)),
        *(line for client in at.clients for line in _policy(client)),
        *_export(),
        *(line for client in at.clients for line in _neighbor(at.family, client)),
    ]
    return "\n".join([*lines, ""])


def _forbidden() -> str:
    ranges = ((AS, AS), *FORBIDDEN)
    return ", ".join(f'"_{asn}_"' for low, high in ranges for asn in range(low, high + 1))


def _prefix_set(name: str, rules: Sequence[PrefixRule]) -> Iterator[str]:
    yield from ("[[defined-sets.prefix-sets]]", f'prefix-set-name = "{name}"')
    for rule in rules:
        yield "[[defined-sets.prefix-sets.prefix-list]]"
        yield f'ip-prefix = "{rule.network}"'
        yield f'masklength-range = "{rule.min_length}..{rule.max_length}"'


def _sets(client: Client) -> Iterator[str]:
    yield from ("[[defined-sets.neighbor-sets]]", f'neighbor-set-name = "c{client.number}"')
    yield f'neighbor-info-list = ["{client.address}"]'
    yield from ("[[defined-sets.bgp-defined-sets.as-path-sets]]", f'as-path-set-name = "first-{client.number}"')
    yield f'as-path-list = ["^{client.asn}_"]'


def _policy(client: Client) -> Iterator[str]:
    number = client.number
    yield from ("[[policy-definitions]]", f'name = "from-{number}"')
    yield from _statement(f"never-{number}", "reject-route", prefixes="never")
    yield from _statement(f"forbidden-{number}", "reject-route", path="forbidden")
    yield from _statement(f"long-{number}", "reject-route", length=LONGEST_PATH + 1)
    yield from _statement(
        f"owned-{number}", "accept-route", prefixes="owned", path=f"first-{number}", hop=str(client.address)
    )


def _export() -> Iterator[str]:
    yield from ("[[policy-definitions]]", 'name = "sent"')
    yield from _statement("sent", "accept-route", prefixes="owned")


def _statement(
    name: str, action: str, *, prefixes: str = "", path: str = "", length: int = 0, hop: str = ""
) -> Iterator[str]:
    head = "policy-definitions.statements"
    yield from (f"[[{head}]]", f'name = "{name}"')
    if prefixes:
        yield from (f"[{head}.conditions.match-prefix-set]", f'prefix-set = "{prefixes}"')
    if path or length or hop:
        yield f"[{head}.conditions.bgp-conditions]"
    if hop:
        yield f'next-hop-in-list = ["{hop}"]'
    if path:
        yield from (f"[{head}.conditions.bgp-conditions.match-as-path-set]", f'as-path-set = "{path}"')
    if length:
        yield from (f"[{head}.conditions.bgp-conditions.as-path-length]", 'operator = "ge"', f"value = {length}")
    yield from (f"[{head}.actions]", f'route-disposition = "{action}"')


def _neighbor(family: Family, client: Client) -> Iterator[str]:
    name = "ipv4-unicast" if family is Family.IPV4 else "ipv6-unicast"
    yield from ("[[neighbors]]", "[neighbors.config]")
    yield from (f'neighbor-address = "{client.address}"', f"peer-as = {client.asn}")
    yield from ("[neighbors.transport.config]", "passive-mode = true")
    yield from ("[neighbors.route-server.config]", "route-server-client = true")
    yield from ("[neighbors.apply-policy.config]", f'import-policy-list = ["from-{client.number}"]')
    yield from (
        'default-import-policy = "reject-route"',
        'export-policy-list = ["sent"]',
        'default-export-policy = "reject-route"',
    )
    yield from ("[[neighbors.afi-safis]]", "[neighbors.afi-safis.config]", f'afi-safi-name = "{name}"')
    yield from ("[neighbors.afi-safis.prefix-limit.config]", f"max-prefixes = {MOST_PREFIXES}")
