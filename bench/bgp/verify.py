"""`python -m bench verify`: does every server say exactly what it should? A small exchange, every client looked at.

Step by step: everybody announces, among it all that the policy refuses, prefixes that two announce and prefixes that are
hidden from one; the better of two takes its routes back and announces them again; one leaves. After each step every
client must hold the prefixes that the policy gives it, with the attributes that their announcer sent (RFC 7947 2.2), and
no others. What a server is known to lack (`bench.bgp.dut.Lack`) is not asked of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Final

from bench.bgp.contest import Contest, contest
from bench.bgp.dut import Dut, Lack
from bench.bgp.duts import everybody
from bench.bgp.exchange import AS, LONGEST_PATH, Exchange, client, exchange
from bench.bgp.inbox import Recorder, walk
from bench.bgp.messages import NEXT_HOP, REACH, UNREACH, Path, announcements, network, nlri
from bench.bgp.tables import ORIGINS, Space, Table, plain, realistic
from bench.bgp.tester import Failed, Session
from bench.compare import Row, Rows, said
from routing.bgp.values import Family

_CLIENTS, _EACH, _SHARED, _HIDDEN = 4, 60, 10, 5
_WITHIN: Final = 10.0

#: Attributes by type, whatever their order and how their lengths are written; the next hop is NEXT_HOP in both families.
Said = Mapping[int, bytes]
#: What a client holds, or should.
Held = dict[bytes, Said]


@dataclass(frozen=True)
class Plot:
    """Who announces what: tables by client; the first two share `shared`, the second by a longer way."""

    at: Exchange
    tables: Mapping[int, Table]
    shared: Mapping[int, Table]
    refused: bytes

    def expected(self, receiver: int, gone: frozenset[int], withdrew: frozenset[int], lacks: frozenset[Lack]) -> Held:
        """Return what a client should hold when some have left and some have taken the shared prefixes back."""
        hidden = frozenset(map(nlri, self.at.clients[receiver].hidden))
        found: Held = {}
        for number, table in self.tables.items():
            if number not in gone | {receiver}:
                found |= _said(table)
        sharing = [number for number in self.shared if number not in gone | withdrew]
        if sharing and Lack.SECOND in lacks:
            sharing = sharing[:1]
        for number in [number for number in sharing if number != receiver][:1]:
            found |= _said(self.shared[number])
        return {prefix: attributes for prefix, attributes in found.items() if prefix not in hidden}

    def own(self, number: int) -> frozenset[bytes]:
        """Return the prefixes that a client announces."""
        tables = [tables[number] for tables in (self.tables, self.shared) if number in tables]
        return frozenset(prefix for table in tables for prefix in table.prefixes)


def plot(family: Family, lacks: frozenset[Lack]) -> Plot:
    """Make up an exchange; without HIDDEN nothing is hidden from its last client."""
    at, space = exchange(_CLIENTS, family), Space(family)
    tables = {one.number: realistic(one, space.take(_EACH)) for one in at.clients}
    shared = space.take(_SHARED)
    both = {number: plain(at.clients[number], shared, detour=number) for number in (0, 1)}
    if Lack.HIDDEN not in lacks:
        hidden = tuple(network(family, prefix) for prefix in tables[0].prefixes[:_HIDDEN])
        at = replace(at, clients=(*at.clients[:-1], client(_CLIENTS - 1, family, hidden)))
    return Plot(at, tables, both, b"".join(_refused(at, Space(family, first=_beyond(family)), lacks)))


def _beyond(family: Family) -> int:
    return 90 << 24 if family is Family.IPV4 else 0x2AF0 << 112


def _refused(at: Exchange, space: Space, lacks: frozenset[Lack]) -> Iterator[bytes]:
    """Encode what the first client says and nobody may take from it, each for a reason of its own."""
    first, other = at.clients[:2]
    good = Path((first.asn, ORIGINS), first.address)
    bogon, long = ("10.1.0.0/24", "91.0.0.0/25") if at.family is Family.IPV4 else ("2001:db8:1::/48", "2a01::/49")
    for text in (bogon, long):
        yield announcements(good, [nlri(ip_network(text))])
    for asns in (
        (other.asn, ORIGINS),
        (first.asn, AS, ORIGINS),
        (first.asn, 23456, ORIGINS),
        (first.asn, 64500),
        *([(first.asn, *((ORIGINS,) * LONGEST_PATH))] if Lack.LENGTH not in lacks else []),
    ):
        yield announcements(replace(good, asns=asns), space.take(3))
    yield announcements(replace(good, next_hop=other.address), space.take(3))


def _said(table: Table) -> Held:
    return {prefix: sent(path) for path, prefixes in table.groups for prefix in prefixes}


def sent(path: Path) -> Said:
    """Return what an announcer says of a path."""
    return {**attributes(path.attributes()), NEXT_HOP: path.next_hop.packed}


def attributes(octets: bytes) -> Said:
    """Take attributes apart; of two IPv6 next hops the global one counts."""
    found: dict[int, bytes] = {}
    for kind, value, end in walk(octets, 0, len(octets)):
        if kind == REACH:
            found[NEXT_HOP] = octets[value + 4 : value + 4 + min(octets[value + 3], 16)]
        elif kind != UNREACH:
            found[kind] = octets[value:end]
    return found


def complaint(expected: Held, held: Held) -> str:
    """Say what is wrong; nothing if nothing is."""
    missing, foreign = expected.keys() - held.keys(), held.keys() - expected.keys()
    changed = [prefix for prefix in expected.keys() & held.keys() if expected[prefix] != held[prefix]]
    words = [
        f"{len(some)} {what}"
        for some, what in ((missing, "missing"), (foreign, "foreign"), (changed, "changed"))
        if some
    ]
    if changed:
        one, other = expected[changed[0]], held[changed[0]]
        kinds = sorted(kind for kind in one.keys() | other.keys() if one.get(kind) != other.get(kind))
        words.append(f"attributes {kinds}")
    return ", ".join(words)


@dataclass
class Judge:
    """What a server should have said by now, and what it said."""

    made: Contest
    story: Plot
    gone: frozenset[int] = frozenset()
    withdrew: frozenset[int] = frozenset()

    def complaints(self) -> list[str]:
        """Return one for each client that holds something else."""
        found = []
        for session in self.made.sessions:
            number = session.client.number
            if number not in self.gone and (words := self._complaint(session, number)):
                found.append(f"client {number}: {words}")
        return found

    def _complaint(self, session: Session, number: int) -> str:
        assert isinstance(session.inbox, Recorder)
        lacks = self.made.dut.lacks
        ignored = self.story.own(number) if Lack.SILENCE in lacks else frozenset()
        held = {prefix: attributes(octets) for prefix, octets in session.inbox.held.items() if prefix not in ignored}
        wanted = self.story.expected(number, self.gone, self.withdrew, lacks)
        return complaint({prefix: said for prefix, said in wanted.items() if prefix not in ignored}, held)

    def row(self, step: str) -> Row:
        """Wait until all is as it should be, and stays so."""
        try:
            self.made.tester.until(lambda: not self.complaints(), _WITHIN, step)
            self.made.settle()
        except Failed as failure:
            said(f"verify: {self.made.dut.name}: {failure}; {self.made.ground.words()}")
        wrong = self.complaints()
        prefixes = sum(len(session.inbox.held) for session in self.made.sessions if isinstance(session.inbox, Recorder))
        family = self.story.at.family.name
        return {
            "step": step,
            "family": family,
            "by": self.made.dut.name,
            "held": prefixes,
            "wrong": wrong,
            "met": not wrong,
        }


def check(dut: Dut, family: Family) -> Rows:
    """Play it all with one server."""
    story = plot(family, dut.lacks)
    with contest(dut, story.at, {}, Recorder) as made:
        judge, tester, sessions = Judge(made, story), made.tester, made.sessions
        for number, session in enumerate(sessions):
            shared = story.shared[number].announced() if number in story.shared else b""
            tester.send(session, (story.refused if number == 0 else b"") + shared + story.tables[number].ended())
        found = [judge.row("everybody announces")]
        tester.send(sessions[0], story.shared[0].withdrawn())
        judge.withdrew = frozenset({0})
        found.append(judge.row("the better way goes"))
        tester.send(sessions[0], story.shared[0].announced())
        judge.withdrew = frozenset()
        found.append(judge.row("the better way comes back"))
        tester.leave(sessions[0])
        judge.gone = frozenset({0})
        found.append(judge.row("its announcer leaves"))
        return found


def run(_: int = 1, duts: Sequence[Dut] | None = None, __: float = 1.0) -> Rows:
    """Check every server, in both families."""
    found: Rows = []
    for dut in everybody() if duts is None else duts:
        for family in Family:
            said(f"verify: {dut.name}, {family.name}")
            try:
                found += check(dut, family)
            except Failed as failure:
                found.append(
                    {"step": "all", "family": family.name, "by": dut.name, "wrong": [str(failure)], "met": False}
                )
    return found
