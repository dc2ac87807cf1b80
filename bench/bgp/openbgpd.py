"""OpenBGPD. The whole policy; `rde evaluate all` against path hiding, which helps where a filter hides the best route.

Who announces the best route itself is sent no other one. `enforce neighbor-as` would end the session of who sends a wrong path, where a route server refuses the route: a filter
does that. It keeps what it sent to each client, so its memory grows with prefixes times clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.bgp.dut import Command, Dut, Lack
from bench.bgp.exchange import AS, FORBIDDEN, LONGEST_PATH, MOST_PREFIXES, ROUTER_ID, Client, Exchange
from routing.bgp.values import Family, PrefixRule

_PROGRAM, _CLIENT = Path("/usr/sbin/bgpd"), Path("/usr/sbin/bgpctl")
_CHROOT = Path("/run/openbgpd")


class OpenBgpd(Dut):
    """`bgpd -d` and the processes it makes."""

    name = "OpenBGPD"
    lacks = frozenset({Lack.SECOND})
    most = 40_000_000

    def available(self) -> bool:
        """Tell whether it and its client are installed."""
        return _PROGRAM.exists() and _CLIENT.exists()

    def commands(self, home: Path, at: Exchange) -> list[Command]:
        """Write the configuration; systemd would make the directory of the chroot."""
        _CHROOT.mkdir(exist_ok=True)
        self.amend(home, at)
        return [Command((str(_PROGRAM), "-d", "-f", str(home / "bgpd.conf")))]

    def amend(self, home: Path, at: Exchange) -> None:
        """Write the configuration, which nobody else may read."""
        path = home / "bgpd.conf"
        path.touch(mode=0o600)
        path.write_text(configuration(at, home / "control"))

    def reload(self, home: Path) -> tuple[str, ...]:
        """Return the command that has it read its file."""
        return (str(_CLIENT), "-s", str(home / "control"), "reload")


def configuration(at: Exchange, control: Path) -> str:
    """Write an exchange down; of the rules the last that matches decides, unless one is quick."""
    forbidden = ", ".join(f"{low} - {high}" if low != high else str(low) for low, high in FORBIDDEN if high)
    lines = [
        *(f"AS {AS}", f"router-id {ROUTER_ID}", f"listen on {at.server}", f'socket "{control}"'),
        *("fib-update no", "transparent-as yes", "rde evaluate all", "reject as-set yes"),
        f"prefix-set never {{ {_rules(at.never)} }}",
        f"prefix-set owned {{ {_rules(at.owned)} }}",
        *(_neighbor(at, client) for client in at.clients),
        "deny quick from any prefix-set never",
        f"deny quick from any AS {{ {AS}, {forbidden} }}",
        f"deny quick from any max-as-len {LONGEST_PATH}",
        *(
            f"allow from {client.address} prefix-set owned peer-as {client.asn} nexthop neighbor"
            for client in at.clients
        ),
        "allow to any prefix-set owned",
        *(f"deny to {client.address} prefix {network}" for client in at.clients for network in client.hidden),
    ]
    return "\n".join([*lines, ""])


def _neighbor(at: Exchange, client: Client) -> str:
    family = "IPv4 unicast" if at.family is Family.IPV4 else "IPv6 unicast"
    return (
        f"neighbor {client.address} {{\n remote-as {client.asn}\n passive\n announce {family}\n"
        f" enforce neighbor-as no\n max-prefix {MOST_PREFIXES}\n}}"
    )


def _rules(rules: Sequence[PrefixRule]) -> str:
    return ", ".join(f"{rule.network} prefixlen {rule.min_length} - {rule.max_length}" for rule in rules)
