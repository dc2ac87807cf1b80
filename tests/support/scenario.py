"""The vocabulary of the route-server scenarios: who owns which prefixes, sessions of both families, a world to ask.

A world is one LAN with one speaker under test and several foreign routers; its daemons are shared by a test module.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from routing.bgp.values import (
    Address,
    Attributes,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Speaker,
)
from tests.support.engines import EngineOnLan
from tests.support.lan import Lan
from tests.support.routers.bird import Bird
from tests.support.routers.common import Link, Route, Router, difference, sequence
from tests.support.routers.exabgp import ExaBgp
from tests.support.routers.frr import Frr
from tests.support.routers.openbgpd import OpenBgpd
from tests.support.waiting import eventually

SERVER = 64500
CLASSES: dict[str, type[Router]] = {"bird": Bird, "frr": Frr, "openbgpd": OpenBgpd, "exabgp": ExaBgp, "other": Bird}
OWNERS = {"bird": 1, "frr": 2, "openbgpd": 3, "exabgp": 4, "other": 5, "host": 6, "foreign": 7, "outside": 8}
ASNS = {"bird": 64501, "frr": 64502, "openbgpd": 64503, "exabgp": 65540, "other": 64505, "host": 64510}
EVERYTHING = (PrefixRule(IPv4Network("0.0.0.0/0"), 0, 32), PrefixRule(IPv6Network("::/0"), 0, 128))
ACCEPT_ALL = ImportPolicy(accept=EVERYTHING)
SEND_ALL = ExportPolicy(accept=EVERYTHING)
_MANY = 1000
IDS = {Family.IPV4: "v4", Family.IPV6: "v6"}


def prefix(owner: str, number: int, family: Family) -> Network:
    """Return the n-th prefix (a /24 or /48) that a member owns."""
    if family is Family.IPV4:
        return IPv4Network((f"10.{OWNERS[owner]}.{number}.0", 24))
    return IPv6Network((f"2001:db8:{OWNERS[owner]}{number:02x}::", 48))


def owned(owner: str) -> tuple[PrefixRule, ...]:
    """Return the rules for everything a member owns, in both families."""
    number = OWNERS[owner]
    return (
        PrefixRule(IPv4Network(f"10.{number}.0.0/16"), 16, 32),
        PrefixRule(IPv6Network(f"2001:db8:{number}00::/40"), 40, 64),
    )


def only(owner: str, **limits: Any) -> ImportPolicy:
    """Return the policy that accepts what a member owns."""
    return ImportPolicy(accept=owned(owner), **limits)


def address(lan: Lan, member: str, family: Family) -> Address:
    """Return a member's address of a family."""
    return lan.ipv4(member) if family is Family.IPV4 else lan.ipv6(member)


def third_party(family: Family) -> Address:
    """Return an address of the LAN that is nobody's in the test."""
    return Lan(nobody=250).ipv4("nobody") if family is Family.IPV4 else Lan(nobody=250).ipv6("nobody")


def attributes(lan: Lan, member: str, family: Family, *beyond: int, asn: int | None = None, **more: Any) -> Attributes:
    """Return attributes as a member sends them: its own AS (none if `asn` is 0) and `beyond`, its own next hop."""
    own = ASNS[member] if asn is None else asn
    path = sequence(*((own,) if own else ()), *beyond)
    given = Attributes(next_hop=address(lan, member, family), as_path=path, med=0 if member == "frr" else None)
    return replace(given, **more)


def link(lan: Lan, member: str, family: Family, server: str = "rs", **options: Any) -> Link:
    """Return the session over a family's addresses that carries this family."""
    asn = options.pop("server_asn", SERVER)
    return Link(address(lan, server, family), asn, address(lan, member, family), (family,), **options)


def neighbor(
    lan: Lan, member: str, family: Family, imports: ImportPolicy, exports: ExportPolicy, **more: Any
) -> Neighbor:
    """Return the speaker's side of `link`."""
    given = Neighbor(
        name=name_of(member, family),
        asn=ASNS.get(member, 0),
        address=address(lan, member, family),
        local_address=address(lan, "rs", family),
        families=(family,),
        imports=imports,
        exports=exports,
        passive=True,
        restart_time=0,
    )
    return replace(given, **more)


def client(lan: Lan, member: str, routes: Iterable[Route] = (), **options: Any) -> Callable[[], Router]:
    """Return what makes a member's router: a session of each family, both to the speaker under test."""
    links = [link(lan, member, family, **options) for family in Family]
    return lambda: CLASSES[member](lan, member, ASNS[member], links, routes)


def neighbors(
    lan: Lan, member: str, imports: ImportPolicy, exports: ExportPolicy = SEND_ALL, **more: Any
) -> list[Neighbor]:
    """Return the speaker's side of `client`."""
    return [neighbor(lan, member, family, imports, exports, **more) for family in Family]


def name_of(member: str, family: Family) -> str:
    """Return how a session is called."""
    return f"{member}-{IDS[family]}"


def speaker(lan: Lan, mode: Mode, neighbors: Iterable[Neighbor], member: str = "rs", **more: Any) -> Speaker:
    """Return the speaker under test."""
    listen = (lan.ipv4(member), lan.ipv6(member))
    return Speaker("under-test", mode, SERVER, lan.ipv4(member), listen, neighbors=tuple(neighbors), **more)


@dataclass
class World:
    """What a scenario asks: the engine and the routers around it."""

    lan: Lan
    engine: EngineOnLan
    speaker: Speaker
    routers: dict[str, Router]

    def apply(self, wanted: Speaker) -> None:
        """Make the engine something else."""
        self.speaker = wanted
        self.engine.apply(wanted)

    def link(self, member: str, family: Family) -> Link:
        """Return a router's session that carries a family."""
        return next(link for link in self.routers[member].links if family in link.families)

    def received(self, member: str, family: Family) -> dict[Network, Attributes]:
        """Return what a router received of a family."""
        got = self.routers[member].received(self.link(member, family))
        return {found: value for found, value in got.items() if Family.of(found) is family}

    def announced(self, member: str, family: Family) -> dict[Network, Attributes]:
        """Return what a router announces of a family."""
        return {r.prefix: r.attributes for r in self.routers[member].routes if Family.of(r.prefix) is family}

    def expect(
        self, member: str, family: Family, routes: Mapping[Network, Attributes], *, within: float = 30.0
    ) -> None:
        """Wait until a router has received exactly these routes with exactly these attributes."""
        router, session = self.routers[member], self.link(member, family)
        wanted = {found: router.as_seen(value, session) for found, value in routes.items()}

        def complete() -> bool:
            wrong = difference(wanted, self.received(member, family))
            assert not wrong, f"{len(wrong)} differences at {member}:\n  " + "\n  ".join(wrong[:20])
            return True

        if len(wanted) > _MANY or router.count(session) > _MANY:
            # Whole tables are compared once, not at every poll; if the number never fits, the comparison says why.
            with suppress(AssertionError):
                eventually(lambda: router.count(session) == len(wanted), within=within)
        eventually(complete, within=within, what=f"{member} has received the {len(wanted)} routes of {family.name}")

    def reasons(self, neighbor_name: str) -> dict[Network, object]:
        """Return what the engine says about every route of a neighbour: prefix -> reason or None."""
        return {view.prefix: view.reason for view in self.engine.routes(neighbor=neighbor_name)}


@contextmanager
def running(
    lan: Lan,
    engine_name: str,
    wanted: Speaker,
    routers: Mapping[str, Callable[[], Router]],
    *,
    up: Iterable[str] = (),
) -> Iterator[World]:
    """Run the engine first (a router that is refused once may wait half a minute), then all routers at once.

    `up` names the members whose sessions have to come up; by default all of them.
    """
    with ExitStack() as stack:
        engine = stack.enter_context(EngineOnLan(engine_name, lan, "rs"))
        engine.apply(wanted)
        wait_until_listening(lan, "rs", wanted)
        started = {name: stack.enter_context(make()) for name, make in routers.items()}
        world = World(lan, engine, wanted, started)
        _wait_until_up(world, set(up))
        yield world


def _wait_until_up(world: World, members: set[str]) -> None:
    named = {n.name for n in world.speaker.neighbors if n.address is not None}
    wanted = {name for name in named if not members or name.rsplit("-", 1)[0] in members}

    def up() -> bool:
        views = {view.name: view for view in world.engine.sessions()}
        down = {name: views.get(name) for name in wanted if not world.engine.established(name)}
        assert not down, str(down)
        return True

    try:
        eventually(up, what="the engine says every session is established")
    except AssertionError as error:
        for name, router in world.routers.items():
            error.add_note(f"--- {name}:\n{router.log()[-1500:]}")
        raise


def wait_until_listening(lan: Lan, member: str, wanted: Speaker) -> None:
    """Wait for the listening sockets of the speaker."""

    def listening() -> bool:
        done = subprocess.run(lan.inside(member, "ss", "-Hltn"), capture_output=True, text=True, check=True)
        found = {line.split()[3] for line in done.stdout.splitlines()}
        everywhere = {f"*:{wanted.port}", f"0.0.0.0:{wanted.port}", f"[::]:{wanted.port}"}
        ours = {f"{a}:{wanted.port}" if a.version == 4 else f"[{a}]:{wanted.port}" for a in wanted.listen}
        assert ours <= found or everywhere & found, f"only {found}"
        return True

    eventually(listening, what="the engine listens")


def routes_of(lan: Lan, member: str, *numbers: int, **more: Any) -> list[Route]:
    """Return plain routes of a member in both families; `more` are fields of their attributes."""
    return [Route(prefix(member, n, f), attributes(lan, member, f, **more)) for f in Family for n in numbers]
