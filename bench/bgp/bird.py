"""BIRD 2. The whole policy, as generators of its configuration write it; `secondary` against path hiding.

A changed import policy makes it ask every client for everything again (RFC 2918): `import table` would spare that and
is not what generators write.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.bgp.dut import Command, Dut
from bench.bgp.exchange import AS, FORBIDDEN, LONGEST_PATH, MOST_PREFIXES, ROUTER_ID, Client, Exchange
from routing.bgp.values import Family, PrefixRule


class Bird(Dut):
    """One `bird` in the foreground."""

    name = "BIRD 2"

    def available(self) -> bool:
        """Tell whether it and its client are installed."""
        return bool(shutil.which("bird") and shutil.which("birdc"))

    def commands(self, home: Path, at: Exchange) -> list[Command]:
        """Write the configuration."""
        self.amend(home, at)
        files = ("-c", str(home / "bird.conf"), "-s", str(home / "control"), "-P", str(home / "pid"))
        return [Command(("bird", "-f", *files))]

    def amend(self, home: Path, at: Exchange) -> None:
        """Write the configuration."""
        (home / "bird.conf").write_text(configuration(at))

    def reload(self, home: Path) -> tuple[str, ...]:
        """Return the command that has it read its file."""
        return ("birdc", "-s", str(home / "control"), "configure")


def configuration(at: Exchange) -> str:
    """Write an exchange down."""
    family = _name(at)
    lines = [
        f"router id {ROUTER_ID};",
        "protocol device {}",
        f"{family} table master{4 if at.family is Family.IPV4 else 6} sorted;",
        f"define NEVER = [ {_rules(at.never)} ];",
        f"define OWNED = [ {_rules(at.owned)} ];",
        f"define FORBIDDEN = [ {AS}, {', '.join(f'{low}..{high}' for low, high in FORBIDDEN)} ];",
        "filter sent { if net ~ NEVER then reject; if net ~ OWNED then accept; reject; }",
    ]
    return "\n".join([*lines, *(_protocol(at, client) for client in at.clients), ""])


def _protocol(at: Exchange, client: Client) -> str:
    imports = (
        "if net ~ NEVER then reject; if ! (net ~ OWNED) then reject;"
        f" if bgp_path.first != {client.asn} then reject; if bgp_path ~ FORBIDDEN then reject;"
        f" if bgp_path.len > {LONGEST_PATH} then reject; if bgp_next_hop != {client.address} then reject; accept;"
    )
    hidden = ", ".join(map(str, client.hidden))
    exports = (
        f"filter {{ if net ~ [ {hidden} ] then reject; if net ~ OWNED then accept; reject; }}"
        if hidden
        else "filter sent"
    )
    return (
        f"protocol bgp c{client.number} {{ local {at.server} as {AS}; neighbor {client.address} as {client.asn};"
        f" passive; rs client; {_name(at)} {{ secondary; gateway direct;"
        f" import limit {MOST_PREFIXES} action block; import filter {{ {imports} }}; export {exports}; }}; }}"
    )


def _name(at: Exchange) -> str:
    return "ipv4" if at.family is Family.IPV4 else "ipv6"


def _rules(rules: Sequence[PrefixRule]) -> str:
    return ", ".join(f"{rule.network}{{{rule.min_length},{rule.max_length}}}" for rule in rules)
