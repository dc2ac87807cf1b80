"""Our own engine for as long as one likes, among a crowd that does all that neighbours do, and worse.

EDGEWAY_MINUTES makes it longer (a few seconds without), EDGEWAY_SEED says what the crowd does; `make soak-bgp` sets both.
At quiet points every guest's table is what `naive_rs` works out, and so are the best paths that a watcher is told of. The
memory of the process at quiet points, all with about as many routes, must not grow.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from statistics import median
from typing import TypeVar

import pytest

from appliance.model.errors import EngineError
from routing.bgp import attributes as codec
from routing.bgp.attributes import Code
from routing.bgp.capabilities import Restart
from routing.bgp.messages import MARKER, Notify, Open, encode_notification, encode_refresh
from routing.bgp.nlri import unpack
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
    Reason,
    Segment,
    SegmentType,
    Speaker,
    UnknownAttribute,
)
from routing.engines.engine import RouteView, SessionView
from tests.support.crowd import Crowd, Guest, Tended, add_addresses, maker
from tests.support.lan import Lan
from tests.support.naive_rs import NaiveRouteServer
from tests.support.scenario import ACCEPT_ALL, EVERYTHING, SEND_ALL, SERVER, wait_until_listening

pytestmark = pytest.mark.engine

MINUTES = float(os.environ.get("EDGEWAY_MINUTES", "0.15"))
SEEDS = [int(os.environ["EDGEWAY_SEED"])] if "EDGEWAY_SEED" in os.environ else [1, 2, 3]
GUESTS = 50 if MINUTES >= 1 else 16
#: Of the run: until then the process is killed from time to time, afterwards it is one and its memory is watched.
KILLING = 0.12
#: Seconds between two quiet points, at most; share of one core that we take, ourselves.
CALM, SHARE = 30.0, 0.2 if MINUTES >= 1 else 1.0
#: How much the memory may grow, from the first third to the last or until all have left, for it has holes.
GROWTH = 1.04
#: Seconds for what takes a few, on a machine that others keep busy.
PATIENCE = 300
#: Routes that each guest announces at quiet points, by family.
QUOTA = {Family.IPV4: 16, Family.IPV6: 8}
PREFIXES: dict[Family, list[Network]] = {
    Family.IPV4: [ip_network("0.0.0.0/0"), ip_network("10.0.0.0/8"), ip_network("10.1.0.0/16")]
    + [ip_network(f"10.{n // 50}.{n % 50}.{n % 2 * 128}/{24 + n % 2}") for n in range(300)],
    Family.IPV6: [ip_network("::/0"), ip_network("2001:db8:100::/40")]
    + [ip_network(f"2001:db8:1{n:02x}::/48") for n in range(150)],
}
HALF = (PrefixRule(ip_network("10.0.0.0/14"), 14, 25), PrefixRule(ip_network("2001:db8:100::/42"), 42, 64))
OWN = [
    Announcement(ip_network("10.2.0.0/16")),
    Announcement(ip_network("2001:db8:100::/40"), med=7),
    Announcement(ip_network("10.1.0.0/16"), communities=((SERVER, 1),)),
]
#: RFC 7606: what has the routes treated as withdrawn, what goes alone, and what ends the session.
SPOILT = [
    bytes.fromhex(text)
    for text in ("8004030000aa", "c00803aabbcc", "c020050102030405", "c01007" + "00" * 7, "40010103")
]
GONE_ALONE = [bytes.fromhex(text) for text in ("804d02aabb", "40060100", "c00703aabbcc")]
FATAL = [
    MARKER + bytes.fromhex("001d02" + "0000" + "0000" + "21c000020000"),
    MARKER + bytes.fromhex("001702" + "0000" + "0009"),
    MARKER + bytes.fromhex("001307"),
    MARKER + bytes.fromhex("001204"),
    bytes(19),
    MARKER + bytes.fromhex("001a02" + "0000" + "0003" + "406300"),
]
T = TypeVar("T")


@lru_cache(maxsize=1 << 14)
def _decoded(octets: bytes) -> Attributes:
    return codec.decode(octets)


@lru_cache(maxsize=1 << 12)
def _network(family: Family, packed: bytes) -> Network:
    return unpack(packed, family)[0]


class Soak:
    """A crowd, what it is doing, and what must come of it."""

    def __init__(self, lan: Lan, engine: Tended, crowd: Crowd, seed: int, pool: ThreadPoolExecutor) -> None:
        """Bring up the engine and the guests."""
        self.dice = random.Random(seed)
        self.lan, self.engine, self.crowd, self.pool = lan, engine, crowd, pool
        self.mode = list(Mode)[(seed - 1) % 3]
        self.begun = time.monotonic()
        self.done: Counter[str] = Counter()
        self.told: deque[str] = deque(maxlen=20000)
        self.neighbors: dict[Guest, Neighbor] = {}
        self.own: list[Announcement] = []
        self.away: dict[Guest, float] = {}
        self.resting: dict[Guest, float] = {}
        self.greeted: set[Guest] = set()
        self.restarting: set[Guest] = set()
        self.change: Future[None] | None = None
        self.samples: list[tuple[float, int]] = []
        self._cpu = (time.monotonic(), time.process_time())
        self._reported = self.begun
        for number in range(GUESTS):
            server: Address = lan.ipv6("rs") if number % 2 else lan.ipv4("rs")
            guest = crowd.guest(_address(number), server, Open(_asn(number, self.mode), 0, IPv4Address(number + 1)))
            self.neighbors[guest] = self._neighbor(guest)
        self.present = set(crowd.guests)
        self.speaker = self._speaker()
        engine.apply(self.speaker)
        wait_until_listening(lan, "rs", self.speaker)
        engine.watch()

    # -- what there is

    def _number(self, guest: Guest) -> int:
        return self.crowd.guests.index(guest)

    def _neighbor(self, guest: Guest) -> Neighbor:
        number, dice = self._number(guest), self.dice
        imports = dice.choice(
            (
                *[replace(ACCEPT_ALL, refuse_as_set=False)] * 6,
                ACCEPT_ALL,
                replace(ACCEPT_ALL, accept=HALF),
                replace(ACCEPT_ALL, never=HALF),
                replace(ACCEPT_ALL, forbidden_as=(65003,)),
                replace(ACCEPT_ALL, max_path_length=3),
                replace(ACCEPT_ALL, max_prefixes=12),
                replace(ACCEPT_ALL, first_as=guest.open.asn),
                ImportPolicy(),
            )
        )
        exports = dice.choice(
            (*[SEND_ALL] * 6, ExportPolicy(HALF), ExportPolicy(EVERYTHING, never=HALF), ExportPolicy())
        )
        return Neighbor(
            name=f"g{number}",
            asn=guest.open.asn,
            address=guest.address,
            local_address=guest.server,
            families=tuple(Family),
            imports=imports,
            exports=exports,
            passive=number % 5 != 0,
            next_hop_self=dice.random() < 0.3,
            extended_next_hop=number % 4 == 0,
            hold_time=dice.choice((30, 90)),
            restart_time=dice.choice((0, 5, 5)),
        )

    def _speaker(self) -> Speaker:
        order = [neighbor for guest, neighbor in self.neighbors.items() if guest in self.present]
        self.dice.shuffle(order)
        listen = (self.lan.ipv4("rs"), self.lan.ipv6("rs"))
        return Speaker(
            "soak",
            self.mode,
            SERVER,
            self.lan.ipv4("rs"),
            listen,
            neighbors=tuple(order),
            announcements=tuple(self.own),
        )

    def _open(self, guest: Guest) -> Open:
        dice, asn = self.dice, guest.open.asn
        families = frozenset(Family) if dice.random() < 0.8 else frozenset({dice.choice(list(Family))})
        kept = tuple((family, dice.random() < 0.7) for family in families)
        return Open(
            asn=asn,
            hold_time=dice.choice((0, 30, 90)),
            router_id=guest.open.router_id,
            families=families,
            four_octet=asn > 65535 or dice.random() < 0.7,
            refresh=dice.random() < 0.8,
            extended_message=dice.random() < 0.5,
            extended_next_hop=dice.random() < 0.5,
            restart=Restart(dice.choice((2, 4)), guest in self.restarting, dice.random() < 0.5, kept)
            if dice.random() < 0.6
            else None,
        )

    def _attributes(self, guest: Guest, family: Family) -> Attributes:
        choice, few = self.dice.choice, self.dice.random
        internal = guest.open.asn == SERVER
        beyond = [
            choice((65000 + choice(range(GUESTS)), 7018, 65003, 4200000007)) for _ in range(choice((0, 0, 1, 1, 2, 6)))
        ]
        asns = (*(() if internal else (guest.open.asn,)), *beyond, *((SERVER,) if few() < 0.02 else ()))
        path = (Segment(SegmentType.SEQUENCE, asns),) if asns else ()
        if few() < 0.1:
            path = (*path, Segment(SegmentType.SET, (choice((65002, 64999)), 11)))
        return Attributes(
            next_hop=self._next_hop(guest, family),
            origin=choice(list(Origin)),
            as_path=path,
            med=choice((None, None, 0, self.dice.getrandbits(32))),
            local_pref=choice((None, 100, 200)) if internal else None,
            communities=tuple((self.dice.getrandbits(16), n) for n in range(choice((0, 0, 1, 3, 200)))),
            large_communities=tuple((self.dice.getrandbits(32), n, 1) for n in range(choice((0, 0, 0, 2)))),
            extended_communities=tuple(self.dice.randbytes(8) for _ in range(choice((0, 0, 0, 2)))),
            originator_id=choice((None, IPv4Address("10.9.9.9"))) if internal else None,
            cluster_list=choice(((), (IPv4Address("1.1.1.1"),))) if internal else (),
            unknown=choice(((), (), (UnknownAttribute(0xE0, 99, self.dice.randbytes(5)),))),
        )

    def _next_hop(self, guest: Guest, family: Family) -> Address:
        number = self._number(guest) + 50
        if family is Family.IPV6 or (guest.format.extended_next_hop and self.dice.random() < 0.5):
            return IPv6Address(f"2001:db8::{number}")
        return IPv4Address(f"192.0.2.{number}")

    # -- the run

    def run(self, seconds: float) -> None:
        """Let the crowd do what it likes, with quiet points in between."""
        calm = min(CALM, seconds / 5)
        settled, killed = self._now, False
        self.quiet()
        while self._now < seconds:
            if self._now >= settled + calm:
                if self._now < seconds * KILLING or not killed:
                    self.kill()
                    killed = self._now >= seconds * KILLING or self._now + calm >= seconds * KILLING
                    self.samples = []
                self.quiet()
                settled = self._now
            self._return()
            self._act()
            self._pace()
            self._report()
        self.quiet()
        self.leave()

    @property
    def _now(self) -> float:
        return time.monotonic() - self.begun

    def _pace(self) -> None:
        """Take no more of the machine than a share, whatever others do."""
        self.crowd.turn(0.02)
        wall, _ = self._cpu
        # What was not used up half a minute ago is lost.
        if time.monotonic() - wall > 30:
            self._cpu = (time.monotonic() - 10, time.process_time() - 10 * SHARE)
        while time.process_time() - self._cpu[1] > SHARE * (time.monotonic() - self._cpu[0]):
            self.crowd.turn(0.2)

    def _report(self, *, always: bool = False) -> None:
        if time.monotonic() - self._reported < 60 and not always:
            return
        self._reported = time.monotonic()
        done = " ".join(f"{what}:{count}" for what, count in sorted(self.done.items()))
        up = sum(guest.established for guest in self.crowd.guests)
        sys.stdout.write(
            f"{self._now / 60:6.1f} min, {up} up, process {self.engine.pid} {self.engine.resident / 1e6:.1f} MB "
            f"{self.engine.spent:.0f} s, ours {time.process_time():.0f} s, lost {self.engine.losses}, {done}\n"
        )
        sys.stdout.flush()

    def _say(self, what: str) -> None:
        self.done[what.split(maxsplit=1)[0]] += 1
        self.told.append(f"{self._now:.2f} {what}")

    def _return(self) -> None:
        """Let guests come back, greet, and read again, as their time has come."""
        now = self._now
        for guest in self.crowd.guests:
            if guest.tcp is None and guest in self.present and self.away.get(guest, 0.0) <= now:
                self.away[guest] = now + 1.0
                self.greeted.discard(guest)
                self.resting.pop(guest, None)
                guest.connect(self._open(guest))
                guest.touched = self.change is not None and not self.change.done()
                self.told.append(f"{now:.2f} connect {guest.address}")
            elif guest.established and guest not in self.greeted:
                self.greeted.add(guest)
                self.restarting.discard(guest)
                for _ in range(self.dice.choice((0, 1, 3))):
                    self._announce(guest)
                guest.say_end()
            if self.resting.get(guest, now) < now:
                del self.resting[guest]
                guest.read_on()

    def _act(self) -> None:
        ways: list[tuple[Callable[[Guest], None], float]] = [
            (self._announce, 40),
            (self._withdraw, 12),
            (self._spoil, 6),
            (self._discard, 4),
            (self._flap, 4),
            (self._rest, 3),
            (self._refresh, 2),
            (self._drop, 1.5),
            (self._half, 1),
            (self._depart, 1),
            (self._restart, 1.5),
            (self._break, 1),
            (self._stranger, 1),
            (self._configure, 1),
        ]
        guest = self.dice.choice(self.crowd.guests)
        (way,) = self.dice.choices([way for way, _ in ways], [weight for _, weight in ways])
        if guest.established and guest in self.greeted:
            way(guest)

    # -- what guests do

    def _some(self, guest: Guest) -> tuple[Family, list[Network]]:
        family = self.dice.choice(sorted(guest.format.families, key=str))
        return family, self.dice.sample(PREFIXES[family], self.dice.choice((1, 2, 4, 8)))

    def _announce(self, guest: Guest) -> None:
        family, prefixes = self._some(guest)
        guest.announce(self._attributes(guest, family), prefixes)
        self._say(f"announce {guest.address} {_texts(prefixes)}")

    def _withdraw(self, guest: Guest) -> None:
        family, prefixes = self._some(guest)
        known = [prefix for prefix in guest.said if Family.of(prefix) is family]
        if known and self.dice.random() < 0.8:
            prefixes = self.dice.sample(known, self.dice.randint(1, len(known)))
        guest.withdraw(prefixes)
        self._say(f"withdraw {guest.address} {_texts(prefixes)}")

    def _plain(self, guest: Guest, family: Family) -> Attributes:
        """Return attributes beside which others are none twice."""
        return Attributes(self._next_hop(guest, family), as_path=(Segment(SegmentType.SEQUENCE, (guest.open.asn,)),))

    def _spoil(self, guest: Guest) -> None:
        family, prefixes = self._some(guest)
        more, plain = self.dice.choice(SPOILT), self._plain(guest, family)
        guest.write(guest.announcement(plain, prefixes, more))
        # Of two ORIGINs the first counts, and that is the good one.
        guest.said.update(dict.fromkeys(prefixes, plain if more[1] == Code.ORIGIN else None))
        self._say(f"spoil {guest.address} {more.hex()} {_texts(prefixes)}")

    def _discard(self, guest: Guest) -> None:
        family, prefixes = self._some(guest)
        plain = self._plain(guest, family)
        more = self.dice.choice(GONE_ALONE)
        guest.write(guest.announcement(plain, prefixes, more))
        guest.said.update(dict.fromkeys(prefixes, plain))
        self._say(f"discard {guest.address} {more.hex()} {_texts(prefixes)}")

    def _flap(self, guest: Guest) -> None:
        family, prefixes = self._some(guest)
        for _ in range(self.dice.choice((3, 10))):
            guest.announce(self._attributes(guest, family), prefixes)
            guest.withdraw(prefixes)
        if self.dice.random() < 0.5:
            guest.announce(self._attributes(guest, family), prefixes)
        self._say(f"flap {guest.address} {_texts(prefixes)}")

    def _rest(self, guest: Guest) -> None:
        guest.stop_reading()
        self.resting[guest] = self._now + self.dice.choice((1, 5, 20))
        self._say(f"rest {guest.address}")

    def _refresh(self, guest: Guest) -> None:
        if guest.as_seen().refresh:
            guest.write(encode_refresh(self.dice.choice(sorted(guest.format.families, key=str))))
            self._say(f"refresh {guest.address}")

    def _drop(self, guest: Guest) -> None:
        guest.close()
        self.away[guest] = self._now + self.dice.choice((0, 0.5, 5))
        self._say(f"drop {guest.address}")

    def _half(self, guest: Guest) -> None:
        family, prefixes = self._some(guest)
        message = guest.announcement(self._attributes(guest, family), prefixes)
        guest.close(last=message[: self.dice.randrange(1, len(message))])
        self._say(f"half {guest.address}")

    def _depart(self, guest: Guest) -> None:
        last = Notify(6, self.dice.choice((2, 4, 9)), self.dice.choice((b"", bytes((6, 2)))))
        guest.close(last=encode_notification(last))
        self.away[guest] = self._now + self.dice.choice((0, 1, 6))
        self._say(f"depart {guest.address}")

    def _restart(self, guest: Guest) -> None:
        if guest.open.restart is not None:
            self.restarting.add(guest)
            guest.close()
            self.away[guest] = 0.0
            self._say(f"restart {guest.address}")

    def _break(self, guest: Guest) -> None:
        # A session that lived so long is not held against it.
        if time.monotonic() - guest.since > 11:
            guest.excused = "broken"
            guest.write(self.dice.choice(FATAL))
            self._say(f"break {guest.address}")

    def _stranger(self, _: Guest) -> None:
        """Somebody else, or a neighbour once more, connects and says nonsense, or nothing."""
        stranger = self.crowd.make(socket.AF_INET)
        stranger.settimeout(5)
        stranger.bind((str(_address(GUESTS)), 0))
        stranger.connect((str(self.lan.ipv4("rs")), 179))
        if self.dice.random() < 0.5:
            stranger.send(self.dice.randbytes(40))
        stranger.close()
        self._say("stranger")

    def _configure(self, _: Guest) -> None:
        """Change the speaker, while all goes on."""
        if self.change is not None and not self.change.done():
            return
        self._changed()
        for guest in self.dice.sample(self.crowd.guests, self.dice.choice((1, 2, 5))):
            self.neighbors[guest] = self._neighbor(guest)
            guest.touched = True
            if guest not in self.present:
                self.present.add(guest)
            elif self.dice.random() < 0.3 and len(self.present) > GUESTS * 0.8:
                self.present.discard(guest)
        self.own = self.dice.sample(OWN, self.dice.randrange(len(OWN)))
        self.speaker = self._speaker()
        self.change = self.pool.submit(self.engine.apply, self.speaker)
        self._say(f"configure {' '.join(str(guest.address) for guest in self.crowd.guests if guest.touched)}")

    def _changed(self) -> None:
        if self.change is not None:
            self.crowd.until(self.change.done, within=PATIENCE, what="the engine has taken in a speaker")
            self.change.result()
            self.change = None

    # -- the process

    def kill(self) -> None:
        """End the process as a crash would, and wait until it is there again."""
        self._changed()
        before = self.engine.pid
        for guest in self.crowd.guests:
            guest.excused = "killed"
        self.engine.kill()
        self._say("kill")
        self.crowd.until(
            lambda: self.engine.pid != before and self._sessions(), within=PATIENCE, what="the process is back"
        )

    def leave(self) -> None:
        """Have everybody go for good, and look what stays."""
        for guest in self.crowd.guests:
            guest.close(last=encode_notification(Notify(6, 9, bytes((6, 2)))))
        self.crowd.until(
            lambda: not any(view.received for view in self._sessions()), within=PATIENCE, what="no route is left"
        )
        self._judge_memory()

    def _judge_memory(self) -> None:
        end = self.engine.resident
        sizes = [size for _, size in self.samples]
        # Caches that are bounded fill up first.
        warm = sizes[len(sizes) // 4 :]
        third = len(warm) // 3
        said = f"quiet points: {' '.join(f'{size / 1e6:.1f}' for size in sizes)}; at the end {end / 1e6:.1f} MB"
        sys.stdout.write(said + "\n")
        if third >= 3:
            assert median(warm[-third:]) <= median(warm[:third]) * GROWTH, said
            assert end <= median(warm) * GROWTH, said

    # -- whether it is right

    def _asked(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except (EngineError, FileNotFoundError) as error:
            raise AssertionError(str(error)) from error

    def _sessions(self) -> tuple[SessionView, ...]:
        return self._asked(self.engine.sessions)

    def quiet(self) -> None:
        """Let all come to rest with about as many routes as ever, and compare."""
        self._changed()
        for guest in list(self.resting):
            self.resting[guest] = 0.0
        for guest in self.crowd.guests:
            self.away[guest] = min(self.away.get(guest, 0.0), self._now + 1)
        self.crowd.until(self._all_up, within=PATIENCE, what="all neighbours are up")
        for guest in self.present:
            self._fill(guest)
        self.crowd.until(self._all_told, within=PATIENCE, what="the engine has what the guests said")
        naive = self._naive()
        sent, best = naive.sent(), _bests(naive)
        self.crowd.until(lambda: self._heard(sent), within=PATIENCE, what="the guests have what they are to have")
        self.crowd.until(lambda: self._best_known(best), within=PATIENCE, what="a watcher knows the best paths")
        assert not self.crowd.surprises, f"sessions that ended for no reason: {self.crowd.surprises}"
        assert not self.engine.complaints()
        self.samples.append((self._now, self.engine.resident))
        self._say("quiet")
        routes = sum(len(guest.said) for guest in self.present)
        sys.stdout.write(f"{self._now / 60:6.1f} min, quiet, {routes} routes, {self.samples[-1][1] / 1e6:.1f} MB\n")
        sys.stdout.flush()

    def _all_up(self) -> bool:
        self._return()
        down = [
            f"{guest.address} {guest.ended[-1:]}"
            for guest in self.crowd.guests
            if (guest in self.present) != (guest.established and guest in self.greeted and not guest.excused)
        ]
        assert not down, f"{len(down)}: {down[:5]}"
        return True

    def _fill(self, guest: Guest) -> None:
        for family in guest.format.families:
            said = [prefix for prefix in guest.said if Family.of(prefix) is family]
            more = QUOTA[family] - len(said)
            if more < 0:
                guest.withdraw(self.dice.sample(said, -more))
            fresh = [prefix for prefix in PREFIXES[family] if prefix not in guest.said]
            for prefix in self.dice.sample(fresh, max(0, more)):
                guest.announce(self._attributes(guest, family), [prefix])

    def _all_told(self) -> bool:
        self._return()
        received = {view.address: view.received for view in self._sessions()}
        said = {guest.address: len(guest.said) for guest in self.present}
        assert received == said, str(
            {a: (received.get(a), said.get(a)) for a in {*received, *said} if received.get(a) != said.get(a)}
        )
        return True

    def _naive(self) -> NaiveRouteServer:
        """Have everything said to the oracle."""
        naive = NaiveRouteServer(self.speaker)
        for guest in self.present:
            naive.session_up(guest.address, guest.as_seen().established, 0.0)
            for prefix, attributes in guest.said.items():
                if attributes is None:
                    naive.malformed(guest.address, [prefix])
                else:
                    naive.announce(guest.address, attributes, [prefix])
            self._limit(naive, guest)
            self.crowd.turn(0)
        return naive

    def _limit(self, naive: NaiveRouteServer, guest: Guest) -> None:
        neighbor = self.neighbors[guest]
        if neighbor.imports.max_prefixes is None:
            return
        views: tuple[RouteView, ...] = self._asked(lambda: self.engine.routes(neighbor=neighbor.name))
        over = {view.prefix for view in views if view.reason is Reason.MAX_PREFIXES}
        good = {prefix for prefix, reason in naive.reasons(guest.address).items() if reason is None}
        assert over <= good
        assert len(good - over) == min(len(good), neighbor.imports.max_prefixes), f"the limit of {guest.address}"
        naive.over |= {(guest.address, prefix) for prefix in over}

    def _heard(self, sent: dict[Address, dict[Network, Attributes]]) -> bool:
        for guest in self.present:
            got = {_network(family, packed): octets for (family, packed), octets in guest.table.items()}
            wanted = sent[guest.address]
            wrong = [p for p in {*got, *wanted} if p not in got or p not in wanted or _decoded(got[p]) != wanted[p]]
            assert not wrong, self._explained(guest, wrong[0], got.get(wrong[0]), wanted.get(wrong[0]), len(wrong))
            assert guest.ends == guest.format.families, f"{guest.address} was told End-of-RIB of {guest.ends}"
        return True

    def _explained(
        self, guest: Guest, prefix: Network, got: bytes | None, wanted: Attributes | None, number: int
    ) -> str:
        """Say all that may help to find out why a guest has something else than it should."""
        said = [f"{other.address} says {other.said[prefix]}" for other in self.crowd.guests if prefix in other.said]
        lines = (
            f"{number} wrong at {guest.address}: {prefix} is {None if got is None else _decoded(got)}, should be {wanted}",
            f"{guest.open}, up for {time.monotonic() - guest.since:.1f} s, {self.neighbors[guest]}",
            *said,
            *(str(view) for view in self._asked(lambda: self.engine.routes(prefix))),
            *(str(view) for view in self._sessions() if view.address == guest.address),
            *[told for told in self.told if str(guest.address) in told or str(prefix) in told or "configure" in told][
                -80:
            ],
        )
        return "\n    ".join(lines)

    def _best_known(self, best: dict[Network, tuple[Attributes, str]]) -> bool:
        assert self.engine.watching
        known = {prefix: (said.attributes, said.neighbor) for prefix, said in list(self.engine.best.items())}
        wrong = [prefix for prefix in {*best, *known} if best.get(prefix) != known.get(prefix)]
        assert not wrong, f"{len(wrong)}: {[(p, best.get(p), known.get(p)) for p in wrong[:2]]}"
        return True


def _bests(naive: NaiveRouteServer) -> dict[Network, tuple[Attributes, str]]:
    found = {}
    for prefix in {prefix for _, prefix in naive.said}:
        for route in naive.ranked(prefix)[:1]:
            found[prefix] = route.attributes, "local" if route.source is None else route.source.neighbor.name
    return found


def _texts(prefixes: list[Network]) -> str:
    return " ".join(map(str, prefixes))


def _address(number: int) -> Address:
    return IPv6Address(f"2001:db8::{number + 50}") if number % 2 else IPv4Address(f"192.0.2.{number + 50}")


def _asn(number: int, mode: Mode) -> int:
    if mode is Mode.REFLECTOR or (mode is Mode.ROUTER and number % 3 == 0):
        return SERVER
    if number % 7 == 0:
        return 4200000000 + number
    return 65000 + number // 2 if number % 10 < 2 else 65000 + number


@contextmanager
def soaking(seed: int) -> Iterator[Soak]:
    """Give an engine with a crowd around it."""
    with Lan("rs", "crowd") as lan, Tended("native", lan, "rs") as engine, maker(lan.namespace("crowd")) as make:
        add_addresses(lan, "crowd", [_address(number) for number in range(GUESTS + 1)])
        crowd = Crowd(make)
        try:
            with ThreadPoolExecutor(1) as pool:
                yield Soak(lan, engine, crowd, seed, pool)
        finally:
            crowd.close()


@pytest.mark.timeout(max(300, MINUTES * 60 + 900))
@pytest.mark.parametrize("seed", SEEDS)
def test_a_crowd_is_served_rightly_and_its_memory_is_given_back(
    seed: int, record_property: Callable[[str, object], None]
) -> None:
    """At every quiet point all tables are right; no session ends for no reason; memory is flat."""
    with soaking(seed) as soak:
        try:
            soak.run(MINUTES * 60)
        except AssertionError as error:
            steps = "\n  ".join(list(soak.told)[-60:])
            log = "\n  ".join(soak.engine.complaints()[-20:])
            message = f"EDGEWAY_SEED={seed} EDGEWAY_MINUTES={MINUTES}: {error}\nthe last:\n  {steps}\nthe log:\n  {log}"
            raise AssertionError(message) from error
        soak._report(always=True)
        done = ", ".join(f"{count} {what}" for what, count in soak.done.items())
        record_property("measured", f"soak {seed} ({soak.mode.value}): {done}")
        assert soak.done["quiet"] > 2
