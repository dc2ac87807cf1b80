"""Our commands inside ExaBGP, with its own parser, encoder and decoder; only sessions and pipes are stand-ins."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import SimpleNamespace
from typing import Any

import pytest
from exabgp.bgp.fsm import FSM
from exabgp.bgp.message import Update
from exabgp.bgp.message.direction import Direction
from exabgp.bgp.message.open.asn import ASN
from exabgp.environment import getenv
from exabgp.logger import log
from exabgp.protocol.family import AFI, SAFI
from exabgp.reactor.api import API
from exabgp.reactor.api.response.json import JSON
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.bgp.attributes import encode
from routing.bgp.nlri import pack
from routing.bgp.values import Attributes, Family, Network, Origin, Segment, SegmentType, UnknownAttribute
from routing.engines import exabgp_codec as codec
from routing.engines import exabgp_messages as messages
from routing.engines.exabgp_commands import Commands, part
from routing.engines.exabgp_wrapper import Queue

US = 65000
FAMILIES = [(AFI.ipv4, SAFI.unicast), (AFI.ipv6, SAFI.unicast)]
ONE, TWO = IPv4Network("10.0.0.0/24"), IPv4Network("10.0.1.0/24")
PLAIN = Attributes(next_hop=IPv4Address("192.0.2.1"), as_path=(Segment(SegmentType.SEQUENCE, (65001,)),))


def announce(sessions: list[int], found: Attributes, prefixes: Sequence[Network]) -> Iterator[str]:
    """Return the commands that announce prefixes of one family."""
    family = Family.of(prefixes[0])
    return codec.announce(sessions, family, encode(found, family), pack(prefixes))


def withdraw(sessions: list[int], prefixes: Sequence[Network]) -> Iterator[str]:
    """Return the commands that withdraw prefixes of one family."""
    return codec.withdraw(sessions, Family.of(prefixes[0]), pack(prefixes))


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> None:
    """ExaBGP's parser wants its logger; its reports are compact, as we configure it."""
    environment = getenv()
    environment.api.compact = True
    environment.log.enable = False
    log.init(environment)


class Peer:
    """A neighbour's place in ExaBGP: its session, its queue."""

    def __init__(self, session: int, peer_as: int = 65001, *, up: bool = True) -> None:
        """Stand in for a peer that is up or down."""
        self.fsm = FSM(self, FSM.IDLE)
        self.fsm.state = FSM.ESTABLISHED if up else FSM.IDLE
        outgoing = Queue(False, FAMILIES)
        self.neighbor = Neighbor(session, outgoing)
        self.ended: list[str] = []
        self.negotiated = SimpleNamespace(
            asn4=True,
            msg_size=4096,
            local_as=ASN(US),
            peer_as=ASN(peer_as),
            families=FAMILIES,
            addpath=SimpleNamespace(send=lambda *_: False, receive=lambda *_: False),
            cached_attributes=None,
            cached_wire=None,
            nexthop=[(AFI.ipv4, SAFI.unicast, AFI.ipv6)],
            aigp=False,
        )

    def established(self) -> bool:
        """Tell whether the session is up."""
        return bool(self.fsm == FSM.ESTABLISHED)

    def reestablish(self) -> None:
        """Note that the session is to begin anew."""
        self.ended.append("reset")

    def teardown(self, code: int, *, restart: bool) -> None:
        """Note that the session ends with a NOTIFICATION."""
        self.ended.append(f"cease {code} {restart} {self.neighbor['capability']['graceful-restart']}")

    def remove(self) -> None:
        """Note that there is no session to end."""
        self.ended.append("removed")

    def sent(self) -> list[bytes]:
        """Return the messages that would go out now."""
        return [m for batch in self.neighbor.rib.outgoing.updates(True) for m in batch.messages(self.negotiated, False)]


class Neighbor(dict):
    """ExaBGP's neighbours are dictionaries with attributes."""

    def __init__(self, session: int, outgoing: Queue) -> None:
        """Begin with graceful restart."""
        super().__init__(capability={"graceful-restart": 120})
        self.session, self.rib, self.eor = session, SimpleNamespace(outgoing=outgoing), deque[Any]()


class Reactor:
    """ExaBGP's reactor as the commands see it."""

    def __init__(self, *peers: Peer) -> None:
        """Hold peers, write down answers."""
        self._peers = dict(enumerate(peers))
        self.said: list[str] = []
        self.processes = SimpleNamespace(
            write=lambda _, text: self.said.append(text),
            answer_done=lambda _: self.said.append("done"),
            answer_error=lambda _: self.said.append("error"),
            older_sessions=1,
        )
        self.configuration = SimpleNamespace(error="line 7")
        self.reloads = [True, False]

    def reload(self) -> bool:
        """Succeed the first time."""
        return self.reloads.pop(0)


def run(reactor: Reactor, *commands: str) -> list[str]:
    """Give commands; return the answers."""
    api = API(reactor)
    for command in commands:
        Commands(api, reactor).run("edgeway", command)
    return reactor.said


def decoded(peer: Peer, octets: bytes) -> list[messages.Update]:
    """Read UPDATE messages as our ExaBGP reads and reports them."""
    found = []
    while octets:
        length = int.from_bytes(octets[16:18], "big")
        assert length <= peer.negotiated.msg_size
        update = Update.unpack_message(octets[19:length], Direction.IN, peer.negotiated)
        report = JSON("5")
        body = json.loads("{" + report._kv(report._update(update)) + "}")
        neighbor = {"address": {"local": "192.0.2.9", "peer": "192.0.2.1"}, **body}
        message = codec.parse(json.dumps({"type": "update", "neighbor": neighbor}))
        assert isinstance(message, messages.Update)
        found.append(message)
        octets = octets[length:]
    return found


def test_an_announcement_is_encoded_once_for_all_its_sessions() -> None:
    """Those that agreed on the same get the very same octets; others and sessions that are over get none."""
    peers = [Peer(1), Peer(2), Peer(3), Peer(4, up=False)]
    assert run(Reactor(*peers), *announce([1, 2, 4, 9], PLAIN, [ONE, TWO])) == ["done"]
    first, second, third, fourth = (peer.sent() for peer in peers)
    assert first[0] is second[0]
    assert (third, fourth) == ([], [])
    (update,) = decoded(peers[0], first[0])
    assert update.announced == ((Family.IPV4, PLAIN, pack([ONE, TWO])),)


def test_changes_go_out_in_the_order_in_which_they_came() -> None:
    """A to B and back to A ends at A; a withdrawal in the first turn of a session is not left out."""
    peer = Peer(1)
    other = replace(PLAIN, med=7)
    commands = [
        *announce([1], PLAIN, [ONE]),
        *announce([1], other, [ONE]),
        *announce([1], PLAIN, [ONE]),
        *withdraw([1], [ONE]),
    ]
    run(Reactor(peer), *commands)
    told = [update for octets in peer.sent() for update in decoded(peer, octets)]
    assert [u.announced[0][1].med if u.announced else "withdrawn" for u in told] == [None, 7, None, "withdrawn"]
    assert told[-1].withdrawn == ((Family.IPV4, pack([ONE])),)
    assert peer.sent() == []


def test_many_prefixes_share_messages_in_both_families() -> None:
    """ExaBGP itself sends one IPv6 prefix a message."""
    peer = Peer(1)
    six = replace(PLAIN, next_hop=IPv6Address("2001:db8::1"))
    prefixes: list[Network] = [IPv6Network((0x20010DB8 << 96 | n << 80, 48)) for n in range(300)]
    run(Reactor(peer), *announce([1], six, prefixes), *withdraw([1], prefixes))
    updates = [update for octets in peer.sent() for update in decoded(peer, octets)]
    assert len(updates) == 2
    assert updates[0].announced == ((Family.IPV6, six, pack(prefixes)),)
    assert updates[1].withdrawn == ((Family.IPV6, pack(prefixes)),)


def test_internal_neighbours_are_sent_the_local_preference() -> None:
    """What depends on the session is encoded for each kind of session."""
    inside, outside = Peer(1, US), Peer(2)
    run(Reactor(inside, outside), *announce([1, 2], replace(PLAIN, local_pref=300), [ONE]))
    found = [
        decoded(peer, octets)[0].announced[0][1].local_pref for peer in (inside, outside) for octets in peer.sent()
    ]
    assert found == [300, None]


def test_what_cannot_be_done_is_refused_with_its_reason() -> None:
    """The daemon's log shows the command and why; nothing stops."""
    for command in ("@nonsense", "@announce 1 next-hop x ; 10.0.0.0/24", "@withdraw 1 ; 10.0.0/24", "@eor x"):
        said = run(Reactor(Peer(1)), command)
        assert said[-1] == "error"
        assert json.loads(said[0])["type"] == "refused"
        assert isinstance(codec.parse(said[0]), messages.Refused)


def test_end_of_rib_is_queued_behind_the_routes() -> None:
    """For one session and one family."""
    peers = [Peer(1), Peer(2)]
    run(Reactor(*peers), "@eor 2 6")
    assert not peers[0].neighbor.eor
    assert [family.afi_safi() for family in peers[1].neighbor.eor] == [FAMILIES[1]]


def test_only_sessions_that_the_process_has_not_seen_begin_anew() -> None:
    """Unless one is named."""
    peers = [Peer(1), Peer(2), Peer(0, up=False), Peer(9)]
    del peers[3].neighbor.session  # established a moment ago, its number comes next
    assert run(Reactor(*peers), "@reset") == ["done"]
    assert [peer.ended for peer in peers] == [["reset"], [], [], []]
    run(Reactor(*peers), "@reset 2")
    assert peers[1].ended == ["reset"]


def test_a_parting_is_never_silent() -> None:
    """With graceful restart ExaBGP would just close the connection and our routes would stay."""
    peers = [Peer(1), Peer(2, up=False)]
    run(Reactor(*peers), "@cease 2")
    assert [peer.ended for peer in peers] == [["cease 2 False False"], ["removed"]]
    part(peers[0], 3)
    assert peers[0].ended[-1] == "cease 3 False False"


def test_a_reload_tells_how_it_went() -> None:
    """Once well, once with the error of the configuration."""
    said = run(Reactor(), "@reload", "@reload")
    assert [codec.parse(text) for text in said] == [
        messages.Reloaded(""),
        messages.Answered(done=True),
        messages.Reloaded("line 7"),
        messages.Answered(done=True),
    ]


ASNS = st.integers(1, 2**32 - 1)
WORD = st.integers(0, 2**16 - 1)
LONG = st.integers(0, 2**32 - 1)


def several(of: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[Any]:
    """Draw a short sorted tuple without repetition: ExaBGP sorts communities when it reads them."""
    return st.lists(of, max_size=most, unique=True).map(sorted).map(tuple)


SENT = st.builds(
    Attributes,
    next_hop=st.just(IPv4Address("192.0.2.1")),
    origin=st.sampled_from(Origin),
    as_path=st.lists(
        st.builds(Segment, st.sampled_from(SegmentType), st.lists(ASNS, min_size=1, max_size=4).map(tuple)), max_size=3
    ).map(tuple),
    med=st.none() | LONG,
    local_pref=st.just(100),
    atomic_aggregate=st.booleans(),
    aggregator=st.none() | st.tuples(ASNS, st.ip_addresses(v=4)),
    communities=several(st.tuples(WORD, WORD)),
    large_communities=several(st.tuples(LONG, LONG, LONG)),
    extended_communities=several(st.binary(min_size=6, max_size=6).map(lambda b: b"\x00\x02" + b)),
    originator_id=st.none() | st.ip_addresses(v=4),
    cluster_list=st.lists(st.ip_addresses(v=4), max_size=3).map(tuple),
    unknown=st.lists(
        st.builds(UnknownAttribute, st.just(0xE0), st.sampled_from([99, 201]), st.binary(max_size=300)),
        max_size=2,
        unique_by=lambda item: item.code,
    ).map(lambda items: tuple(sorted(items, key=lambda item: item.code))),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SENT)
def test_every_attribute_survives_the_way_through_exabgp(attributes: Attributes) -> None:
    """Our text, its parser, its encoder, its decoder, its JSON, our values: what comes out went in."""
    peer = Peer(1, US)
    run(Reactor(peer), *announce([1], attributes, [ONE]))
    (octets,) = peer.sent()
    (update,) = decoded(peer, octets)
    ((_, found, nlri),) = update.announced
    assert nlri == pack([ONE])
    assert _flags_settled(found) == _flags_settled(attributes)


def _flags_settled(attributes: Attributes) -> Attributes:
    """EXTENDED_LENGTH says how the length was written, no more."""
    return replace(attributes, unknown=tuple(replace(item, flags=item.flags & ~0x10) for item in attributes.unknown))


@pytest.mark.parametrize("prefix", ["0.0.0.0/0", "10.1.2.3/32", "2001:db8::/32", "::/0", "2001:db8::1/128"])
def test_prefixes_of_every_length_are_encoded(prefix: str) -> None:
    """The default route and host routes of both families."""
    peer = Peer(1)
    network: Network = IPv6Network(prefix) if ":" in prefix else IPv4Network(prefix)
    hop = IPv6Address("2001:db8::1") if ":" in prefix else IPv4Address("192.0.2.1")
    run(Reactor(peer), *announce([1], replace(PLAIN, next_hop=hop), [network]))
    (octets,) = peer.sent()
    assert decoded(peer, octets)[0].announced[0] == (Family.of(network), replace(PLAIN, next_hop=hop), pack([network]))


def test_an_ipv4_prefix_may_have_an_ipv6_next_hop() -> None:
    """RFC 8950."""
    peer = Peer(1)
    six = replace(PLAIN, next_hop=IPv6Address("2001:db8::1"))
    run(Reactor(peer), *announce([1], six, [ONE]))
    (octets,) = peer.sent()
    assert decoded(peer, octets)[0].announced[0] == (Family.IPV4, six, pack([ONE]))
