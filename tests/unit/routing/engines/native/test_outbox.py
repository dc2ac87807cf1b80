from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.attributes import decode, downgrade, encode
from routing.bgp.audiences import Send
from routing.bgp.hot import announce, split, withdraw
from routing.bgp.nlri import pack, unpack
from routing.bgp.peers import Peer
from routing.bgp.update import Format, read
from routing.bgp.values import Attributes, Family, Network
from routing.engines.native import outbox
from routing.engines.native.outbox import CODES, Buffer, Stream, parts
from tests.support.fake_core import at, attributes, neighbor, speaker

V4, V6 = Family.IPV4, Family.IPV6
LONG = Format(frozenset(Family), internal=False, limit=65535)
SHORT = replace(LONG, limit=4096)
OLD = replace(SHORT, four_octet=False)
P = [ip_network(f"10.0.{n}.0/24") for n in range(8)]
SPEAKER = speaker()
PEERS = tuple(Peer(at(number), neighbor(number), SPEAKER) for number in range(5))
ONE, TWO, THREE, FOUR, FIVE = PEERS


def send(
    to: tuple[Peer, ...], prefixes: Iterable[Network], said: Attributes | None, *but: Peer, how: Format = LONG
) -> Send:
    """Make what some are to be told of prefixes of one family."""
    prefixes = list(prefixes)
    family = Family.of(prefixes[0])
    return Send(to, but, family, None if said is None else encode(said, family), pack(prefixes), how)


def written(*sends: Send) -> dict[Peer, list[Buffer]]:
    """Return the buffers of each neighbour, in order; none is empty."""
    found: dict[Peer, list[Buffer]] = {}
    for peer, data in parts(sends):
        assert len(data) > 0
        found.setdefault(peer, []).append(data)
    return found


def messages(buffers: Iterable[Buffer], how: Format) -> list[tuple[Any, ...]]:
    """Return what a neighbour's reader makes of its buffers; no message is longer than it takes."""
    data = b"".join(buffers)
    found, consumed, fault = split(data, how.limit)
    assert (consumed, fault) == (len(data), None)
    return list(found)


def heard(buffers: Iterable[Buffer], how: Format = LONG) -> list[tuple[Network, Attributes | None]]:
    """Return what a neighbour reads out of its buffers, prefix by prefix."""
    found: list[tuple[Network, Attributes | None]] = []
    for message in messages(buffers, how):
        withdrawn, octets, nlri = message[1:]
        update = read(withdrawn, octets, nlri, how)
        assert not update.malformed
        for family, nlri in update.withdrawn:
            found += [(prefix, None) for prefix in unpack(nlri, family)]
        for family, octets, nlri in update.announced:
            found += [(prefix, decode(octets)) for prefix in unpack(nlri, family)]
    return found


# -- a stream


def test_who_is_told_everything_shares_one_buffer() -> None:
    """A batch costs a member a reference, however many messages it has."""
    stream = Stream(PEERS)
    for chunk in (b"a", b"bc", b"d"):
        stream.add(chunk, ())
    found = list(stream.parts())
    assert [peer for peer, _ in found] == list(PEERS)
    assert {id(data) for _, data in found} == {id(found[0][1])}
    assert found[0][1] == b"abcd"


@pytest.mark.parametrize(
    ("holes", "left"),
    [
        ((0,), [b"bcdd"]),
        ((3,), [b"aabc"]),
        ((1, 2), [b"aa", b"dd"]),
        ((0, 2), [b"b", b"dd"]),
        ((0, 1, 2, 3), []),
        ((), [b"aabcdd"]),
    ],
)
def test_what_is_not_for_a_member_is_cut_out(holes: tuple[int, ...], left: list[bytes]) -> None:
    """At the beginning, at the end, in between, in a row; the others have the whole."""
    stream = Stream((ONE, TWO))
    for number, chunk in enumerate((b"aa", b"b", b"c", b"dd")):
        stream.add(chunk, (TWO,) if number in holes else ())
    found = list(stream.parts())
    assert found[0] == (ONE, b"aabcdd")
    assert [bytes(data) for peer, data in found if peer is TWO] == left


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=3), st.sets(st.sampled_from(PEERS)))))
def test_everybody_gets_what_is_for_it_and_in_order(added: list[tuple[bytes, set[Peer]]]) -> None:
    """Whatever is for whom; the slices are of the one buffer, not copies."""
    stream = Stream(PEERS)
    for chunk, but in added:
        stream.add(chunk, tuple(but))
    got: dict[Peer, bytes] = dict.fromkeys(PEERS, b"")
    for peer, data in stream.parts():
        assert isinstance(data, bytes) or data.obj == b"".join(chunk for chunk, _ in added)
        got[peer] += data
    assert got == {peer: b"".join(chunk for chunk, but in added if peer not in but) for peer in PEERS}


# -- who is told what


def test_nothing_to_say_is_no_buffer() -> None:
    """For anybody."""
    assert list(parts([])) == []


def test_all_members_get_one_buffer_and_the_source_what_is_not_its_own() -> None:
    """Three changes, of which the second is the third member's own."""
    members = (ONE, TWO, THREE)
    said = [attributes(4), attributes(3), attributes(5)]
    sends = [
        send(members, P[:2], said[0]),
        send(members, P[2:4], said[1], THREE),
        send(members, P[4:5], None),
        send(members, P[5:6], said[2]),
    ]
    found = written(*sends)
    assert found[ONE][0] is found[TWO][0]
    assert len(found[ONE]) == len(found[TWO]) == 1
    everything = [(P[0], said[0]), (P[1], said[0]), (P[2], said[1]), (P[3], said[1]), (P[5], said[2]), (P[4], None)]
    assert heard(found[ONE]) == everything
    assert heard(found[THREE]) == everything[:2] + everything[4:]
    assert all(isinstance(data, memoryview) and data.obj is found[ONE][0] for data in found[THREE])


def test_prefixes_that_the_same_neighbours_lose_are_withdrawn_together() -> None:
    """Whatever attributes each of them had; who is not concerned by all of them is told of the others."""
    members = (ONE, TWO, THREE)
    sends = [send(members, P[:2], None), send(members, P[2:3], None, THREE), send(members, P[3:4], None)]
    found = written(*sends)
    assert len(messages(found[ONE], LONG)) == 2
    assert {prefix for prefix, _ in heard(found[ONE])} == set(P[:4])
    assert [prefix for prefix, _ in heard(found[THREE])] == [*P[:2], P[3]]


def test_what_many_audiences_of_one_are_told_is_one_buffer() -> None:
    """A thousand neighbours of different policies hold what they are told once."""
    sends = [send((peer,), P[:2], attributes(5)) for peer in (ONE, TWO, THREE)]
    shared = sends[0]
    found = written(*(each._replace(octets=shared.octets, nlri=shared.nlri, format=shared.format) for each in sends))
    assert found[ONE][0] is found[TWO][0] is found[THREE][0]


def test_a_member_gets_its_own_messages_besides_those_of_all() -> None:
    """What is withheld from it is cut out, what it is told instead comes with it; each prefix once."""
    members = (ONE, TWO)
    sends = [
        send(members, P[:1], attributes(4), ONE),
        send((ONE,), P[:1], attributes(5)),
        send(members, P[1:2], attributes(4)),
        send((ONE,), P[2:3], None),
        send(members, P[2:3], attributes(4), ONE),
    ]
    found = written(*sends)
    assert heard(found[TWO]) == [(prefix, attributes(4)) for prefix in P[:3]]
    assert dict(heard(found[ONE])) == {P[0]: attributes(5), P[1]: attributes(4), P[2]: None}
    assert len(heard(found[ONE])) == 3


def test_several_audiences_have_streams_of_their_own() -> None:
    """One whose members are the same neighbours at another time is another one."""
    first, again, second = (ONE, TWO), (ONE, TWO, FIVE)[:2], (THREE, FOUR)
    assert first is not again
    found = written(
        send(first, P[:1], attributes(5)),
        send(second, P[1:2], attributes(5)),
        send(again, P[2:3], attributes(5)),
        send(first, P[3:4], attributes(5)),
    )
    assert {prefix for prefix, _ in heard(found[ONE])} == {P[0], P[2], P[3]}
    assert [prefix for prefix, _ in heard(found[THREE])] == [P[1]]
    assert len(found[ONE]) == 2
    assert all(one is two for one, two in zip(found[ONE], found[TWO], strict=True))
    assert found[THREE][0] is found[FOUR][0]


# -- how it is written


def test_a_change_is_written_once_for_all_audiences(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes in a row and is the same, by identity; in another format it is written again."""
    calls: list[tuple[bytes, bytes, int]] = []

    def counted(octets: bytes, nlri: bytes, limit: int) -> bytes:
        calls.append((octets, nlri, limit))
        return announce(octets, nlri, limit)

    monkeypatch.setattr(outbox, "announce", counted)
    one = send((ONE,), P, attributes(5))
    found = written(one, one._replace(to=(TWO,)), one._replace(to=(THREE,), format=SHORT))
    assert [limit for *_, limit in calls] == [65535, 4096]
    assert found[ONE][0] == found[TWO][0]


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (send((ONE,), P[:1], None), {"nlri": pack(P[1:2])}),
        (send((ONE,), P[:1], attributes(1)), {"octets": encode(attributes(2), V4)}),
        (send((ONE,), P[:1], attributes(1)), {"octets": None}),
        (send((ONE,), P[:1], attributes(1, 4200000000)), {"format": OLD}),
    ],
)
def test_another_change_is_written_for_itself(first: Send, other: dict[str, Any]) -> None:
    """Other prefixes, other attributes, a withdrawal, another format."""
    second = first._replace(to=(TWO,), **other)
    both = written(first, second)
    apart = [written(first), written(second)]
    assert both == apart[0] | apart[1]
    assert both[ONE] != both[TWO]


def test_default_routes_of_both_families_are_withdrawn() -> None:
    """Their NLRI are the same octet, and what has one octet Python mostly has once."""
    four, six = ip_network("0.0.0.0/0"), ip_network("::/0")
    first = send((ONE,), [four], None)
    found = written(first, send((ONE,), [six], None)._replace(nlri=first.nlri))
    assert heard(found[ONE]) == [(four, None), (six, None)]


def test_both_families_are_withdrawn_as_each_wants_it() -> None:
    """RFC 4271 4.3 and RFC 4760 4."""
    six = ip_network("2001:db8::/32")
    found = written(send((ONE,), P[:1], None), send((ONE,), [six], None))
    assert b"".join(found[ONE]) == withdraw(CODES[V4], pack(P[:1]), 4096) + withdraw(CODES[V6], pack([six]), 4096)


def test_no_message_is_longer_than_the_neighbour_takes() -> None:
    """RFC 8654: of a big table whole messages, each as full as may be."""
    prefixes = [ip_network(f"10.{number >> 8}.{number & 255}.0/24") for number in range(5000)]
    for how, fewest in ((SHORT, 5), (LONG, 1)):
        for said in (attributes(1), None):
            found = written(send((ONE,), prefixes, said, how=how))
            assert heard(found[ONE], how) == [(prefix, said) for prefix in prefixes]
            assert len(messages(found[ONE], how)) == fewest


def crowded(number: int, count: int, **more: Any) -> Attributes:
    """Make attributes with so many communities, of four octets each."""
    return replace(attributes(number), communities=tuple((65000, each) for each in range(count)), **more)


@pytest.mark.parametrize("family", list(Family))
def test_attributes_that_do_not_fit_are_withdrawn_from_those_for_whom_they_do_not(family: Family) -> None:
    """RFC 8654 4: whoever takes longer messages is told; the others forget what they were told before."""
    prefixes = P[:2] if family is V4 else [ip_network(f"2001:db8:{n}::/48") for n in (1, 2)]
    said = replace(crowded(3, 1100), next_hop=at(3) if family is V4 else IPv6Address("2001:db8::3"))
    one = send((ONE,), prefixes, said)
    found = written(one, one._replace(to=(TWO,), format=SHORT))
    assert heard(found[ONE]) == [(prefix, said) for prefix in prefixes]
    assert heard(found[TWO], SHORT) == [(prefix, None) for prefix in prefixes]


def test_a_neighbour_of_two_octets_is_told_what_it_understands() -> None:
    """RFC 6793 4.2.2: AS_TRANS in AS_PATH, the true path besides."""
    said = attributes(1, 4200000000)
    found = written(send((ONE,), P[:2], said, how=OLD))
    assert heard(found[ONE], OLD) == [(prefix, said) for prefix in P[:2]]
    ((_, _, octets, _),) = messages(found[ONE], OLD)
    assert b"\x02\x02" + (65001).to_bytes(2, "big") + (23456).to_bytes(2, "big") in octets


@pytest.mark.parametrize("beyond", [(4200000000,) * 50, tuple(range(1, 51))])
def test_what_counts_is_the_length_of_what_is_written(beyond: tuple[int, ...]) -> None:
    """AS4_PATH makes it longer, AS numbers of two octets shorter: the last that fits is told, the next is not."""
    said = [crowded(1, count, as_path=attributes(1, *beyond).as_path) for count in range(900, 1020)]
    lengths = [23 + len(downgrade(encode(each, V4))) + 4 for each in said]
    last = max(number for number, length in enumerate(lengths) if length <= 4096)
    assert 0 < last < len(said) - 1
    for number, told in ((last, said[last]), (last + 1, None)):
        found = written(send((ONE,), P[:1], said[number], how=OLD))
        assert heard(found[ONE], OLD) == [(P[0], told)]
