from __future__ import annotations

import itertools
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.connection import Connection
from routing.bgp.effects import Close, Down, Effect, RefreshAsked, Transmit, Up, Updates
from routing.bgp.fsm import Event
from routing.bgp.machine import Admission, Common
from routing.bgp.messages import (
    KEEPALIVE_MESSAGE,
    UPDATE,
    Notify,
    decode_notification,
    encode_notification,
    encode_open,
    encode_refresh,
    message,
)
from routing.bgp.negotiation import offer
from routing.bgp.pace import Pace
from routing.bgp.values import Family, Mode, Neighbor, Speaker
from routing.engines.engine import SessionState

LOCAL, REMOTE = IPv4Address("192.0.2.254"), IPv4Address("192.0.2.1")
OURS = offer(Neighbor("n", 65001, REMOTE), Speaker("s", Mode.ROUTER, 65000, LOCAL, (LOCAL,)))
THEIRS = offer(Neighbor("n", 65000, LOCAL), Speaker("t", Mode.ROUTER, 65001, REMOTE, (REMOTE,)))
OPEN = encode_open(THEIRS)
END_OF_RIB = message(UPDATE, bytes(4))
TCP = 5


def withdrawal(number: int) -> bytes:
    """Write an UPDATE that tells itself apart."""
    return message(UPDATE, bytes((0, 2, 8, number, 0, 0)))


def parsed(number: int) -> tuple[int, bytes, bytes, bytes]:
    """Say what hot.split makes of it."""
    return (2, bytes((8, number)), b"", b"")


def opened(*, delay: bool = False, admits: Admission = Admission.NOW) -> Connection:
    """Make a connection over which the neighbour came, and forget its effects."""

    def admit(*_: object) -> Admission:
        if admits is Admission.DUMPED:
            made.fire(Event.COLLISION_DUMP, 0, Notify(6, 7))
        return admits

    made = Connection(Common(65001, OURS, Pace(REMOTE), admit), outgoing=False)
    made.fire(Event.MANUAL_START_PASSIVE, 0)
    made.attach(TCP, LOCAL)
    made.fire(Event.TCP_CONFIRMED_DELAY if delay else Event.TCP_CONFIRMED, 0)
    made.common.effects.clear()
    return made


def established() -> Connection:
    """Make one with a session since second 0."""
    made = opened()
    made.receive(OPEN + KEEPALIVE_MESSAGE, 0)
    assert made.state is SessionState.ESTABLISHED
    made.common.effects.clear()
    return made


def said(effects: list[Effect]) -> list[Notify]:
    """Read the NOTIFICATIONs among them."""
    sent = [effect.data for effect in effects if isinstance(effect, Transmit)]
    return [decode_notification(data[19:]) for data in sent if data[18] == 3]


def numbers(effects: list[Effect]) -> list[int]:
    """Say which withdrawals were delivered."""
    runs = [effect.messages for effect in effects if isinstance(effect, Updates)]
    return [each[1][1] for run in runs for each in run if each[1]]


def test_updates_pass_in_bulk() -> None:
    """What came together is delivered together and untouched, and once for all it shows that the neighbour lives."""
    made = established()
    made.receive(withdrawal(1) + withdrawal(2) + END_OF_RIB, 7)
    assert made.common.effects == [Updates(TCP, [parsed(1), parsed(2), (2, b"", b"", b"")])]
    assert made.timers[Event.HOLD_EXPIRES] == 7 + 90


def test_what_comes_between_updates_keeps_its_place() -> None:
    """A request between two runs of UPDATEs is given between them; KEEPALIVE is swallowed."""
    made = established()
    asked = encode_refresh(Family.IPV4)
    made.receive(withdrawal(1) + KEEPALIVE_MESSAGE + withdrawal(2) + asked + withdrawal(3), 1)
    assert made.common.effects == [
        Updates(TCP, [parsed(1)]),
        Updates(TCP, [parsed(2)]),
        RefreshAsked(Family.IPV4, 0),
        Updates(TCP, [parsed(3)]),
    ]


def test_updates_are_delivered_before_the_end_that_follows_them() -> None:
    """And nothing that stands behind a NOTIFICATION."""
    made = established()
    made.receive(withdrawal(1) + encode_notification(Notify(6, 4)) + withdrawal(2), 1)
    assert made.common.effects == [
        Updates(TCP, [parsed(1)]),
        Down(graceful=True, detail="received: Cease / Administrative Reset"),
        Close(TCP),
    ]


def test_a_session_may_begin_with_updates_in_the_same_octets() -> None:
    """OPEN, KEEPALIVE and routes at once: up first, then the routes."""
    made = opened()
    made.receive(OPEN + KEEPALIVE_MESSAGE + withdrawal(1), 0)
    kinds = [type(effect) for effect in made.common.effects]
    assert kinds == [Transmit, Up, Updates]
    assert numbers(made.common.effects) == [1]


def test_a_long_update_is_read_behind_the_open_that_allows_it() -> None:
    """RFC 8654: from then on, also in the same octets; without the capability it is a fault."""
    prefixes = bytes((8, 10)) * 3000
    long = message(UPDATE, len(prefixes).to_bytes(2, "big") + prefixes + bytes(2))
    made = opened()
    made.receive(OPEN + KEEPALIVE_MESSAGE + long, 0)
    assert made.common.effects[-1] == Updates(TCP, [(2, prefixes, b"", b"")])
    made = opened()
    made.receive(encode_open(replace(THEIRS, extended_message=False)) + KEEPALIVE_MESSAGE + long, 0)
    assert said(made.common.effects) == [Notify(1, 2, len(long).to_bytes(2, "big"))]
    assert made.number is None


@given(cuts=st.sets(st.integers(0, 400)))
def test_how_octets_are_cut_does_not_matter(cuts: set[int]) -> None:
    """Each octet alone or all at once, the same is delivered in the same order."""
    made = opened()
    stream = OPEN + KEEPALIVE_MESSAGE + b"".join(withdrawal(number) for number in range(12))
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in itertools.pairwise(places):
        made.receive(stream[start:end], 0)
    assert numbers(made.common.effects) == list(range(12))
    assert made.state is SessionState.ESTABLISHED


@pytest.mark.parametrize(
    ("octets", "notify"),
    [
        (message(UPDATE, bytes((0, 9, 0, 0))), Notify(3, 1)),
        (b"\0" * 19, Notify(1, 1)),
        (b"\xff" * 16 + b"\0\x13\x09", Notify(1, 3, b"\x09")),
        (OPEN, Notify(5, 3)),
        (message(5, bytes(3)), Notify(7, 1, message(5, bytes(3)))),
    ],
)
def test_a_fault_in_a_session_ends_it_with_its_name(octets: bytes, notify: Notify) -> None:
    """What came before is delivered; the fault is said, then the connection is closed."""
    made = established()
    made.receive(withdrawal(1) + octets, 1)
    assert numbers(made.common.effects) == [1]
    assert said(made.common.effects) == [notify]
    assert made.common.effects[-1] == Close(TCP)
    assert made.state is SessionState.IDLE


@pytest.mark.parametrize(
    ("octets", "notify"),
    [
        (KEEPALIVE_MESSAGE, Notify(5, 1)),
        (END_OF_RIB, Notify(5, 1)),
        (encode_refresh(Family.IPV4), Notify(5, 1)),
        (message(1, b"\x03" + OPEN[20:]), Notify(2, 1, b"\0\4")),
        (encode_open(replace(THEIRS, asn=64999)), Notify(2, 2)),
        (OPEN + OPEN, Notify(5, 2)),
        (OPEN + END_OF_RIB, Notify(5, 2)),
    ],
)
def test_a_fault_before_the_session_ends_the_connection(octets: bytes, notify: Notify) -> None:
    """Its name is said; nobody hears of a session."""
    made = opened()
    made.receive(octets, 1)
    assert said(made.common.effects) == [notify]
    assert made.common.effects[-1] == Close(TCP)
    assert not [effect for effect in made.common.effects if isinstance(effect, Up | Down)]


def test_a_neighbour_that_cannot_speak_our_version_is_not_answered() -> None:
    """NotifMsgVerErr costs nothing, any other NOTIFICATION counts."""
    for notify, errors in ((Notify(2, 1, b"\0\3"), 0), (Notify(2, 2), 1)):
        made = opened()
        made.receive(encode_notification(notify), 1)
        assert made.common.effects == [Close(TCP)]
        assert made.common.pace.errors == errors
        assert made.common.detail.startswith("received: OPEN Message Error")


def test_a_connection_that_waits_answers_open_with_open() -> None:
    """Delayed, it says nothing before the neighbour does; then OPEN and KEEPALIVE."""
    made = opened(delay=True)
    assert not made.opened
    made.receive(OPEN, 1)
    assert made.common.effects == [Transmit(TCP, encode_open(OURS)), Transmit(TCP, KEEPALIVE_MESSAGE)]
    assert made.state is SessionState.OPENCONFIRM


def test_a_connection_that_is_not_admitted_goes_no_further() -> None:
    """What the peering said of it stands; what follows the OPEN is not read."""
    made = opened(admits=Admission.DUMPED)
    made.receive(OPEN + KEEPALIVE_MESSAGE, 1)
    assert said(made.common.effects) == [Notify(6, 7)]
    assert made.state is SessionState.IDLE


def test_an_open_that_has_to_wait_is_answered_later_and_what_follows_it_is_read_then() -> None:
    """In the same octets or in later ones; nothing is lost and nothing is read before."""
    made = opened(admits=Admission.LATER)
    made.receive(OPEN + KEEPALIVE_MESSAGE + withdrawal(1), 1)
    made.receive(withdrawal(2)[:20], 2)
    made.receive(withdrawal(2)[20:], 2)
    assert made.common.effects == []
    assert made.deadline() == 240
    made.resume(3)
    assert [type(effect) for effect in made.common.effects] == [Transmit, Up, Updates]
    assert numbers(made.common.effects) == [1, 2]


def test_one_that_waits_does_not_take_octets_without_end() -> None:
    """Who says more than a message goes on at once."""
    made = opened(admits=Admission.LATER)
    made.receive(OPEN + KEEPALIVE_MESSAGE, 1)
    made.receive(END_OF_RIB * 2800, 1)
    assert made.common.effects == []
    made.receive(END_OF_RIB * 100, 1)
    assert made.state is SessionState.ESTABLISHED


@pytest.mark.parametrize(
    "request_", [encode_refresh(Family.IPV6), encode_refresh(Family.IPV4, 1), message(5, b"\0\x63\0\x01")]
)
def test_a_request_for_what_was_not_agreed_on_is_ignored(request_: bytes) -> None:
    """Another family, one nobody knows, or a part of an enhanced refresh; the session goes on."""
    made = established()
    made.receive(request_, 1)
    assert made.common.effects == []
    assert made.state is SessionState.ESTABLISHED


@given(octets=st.binary(max_size=200), at=st.sampled_from(["opened", "delayed", "established"]))
def test_garbage_never_raises(octets: bytes, at: str) -> None:
    """Whatever comes, raw or behind a good header, is taken or refused."""
    for prefix in (b"", *(b"\xff" * 16 + (19 + len(octets)).to_bytes(2, "big") + bytes((kind,)) for kind in range(7))):
        made = established() if at == "established" else opened(delay=at == "delayed")
        made.receive(prefix + octets, 1)
        assert (made.number is None) == bool([effect for effect in made.common.effects if effect == Close(TCP)])
