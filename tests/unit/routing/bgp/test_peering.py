from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address, ip_network
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.bgp.messages import (
    KEEPALIVE_MESSAGE,
    UPDATE,
    Notify,
    Open,
    Restart,
    decode_notification,
    decode_open,
    encode_notification,
    encode_open,
    encode_refresh,
    message,
)
from routing.bgp.negotiation import offer
from routing.bgp.peering import Close, Connect, Down, Effect, Moved, Peering, RefreshAsked, Transmit, Up, Updates
from routing.bgp.values import ExportPolicy, Family, Mode, Neighbor, Speaker
from routing.engines.engine import SessionState

HERE, THERE = IPv4Address("192.0.2.254"), IPv4Address("192.0.2.1")
SPEAKER = Speaker("here", Mode.TRANSPARENT, 65000, HERE, (HERE,))
NEIGHBOR = Neighbor("there", 65001, THERE)
THEIRS = offer(Neighbor("here", 65000, HERE), Speaker("there", Mode.ROUTER, 65001, THERE, (THERE,)))
END_OF_RIB = message(UPDATE, bytes(4))
COLLISION = Notify(6, 7)


def peering(**more: Any) -> Peering:
    """Make one that was started at second 0, and forget what it wanted."""
    made = Peering(THERE, replace(NEIGHBOR, **more), SPEAKER, 0)
    made.start(0)
    made.take()
    return made


def opened(theirs: Open = THEIRS, **more: Any) -> Peering:
    """Make one to which the neighbour connected (1) and which is about to be established."""
    made = peering(**more)
    made.connected(1, HERE, outgoing=False, now=0)
    made.receive(1, encode_open(theirs), 0)
    made.take()
    assert made.state is SessionState.OPENCONFIRM
    return made


def established(theirs: Open = THEIRS, **more: Any) -> Peering:
    """Make one with a session since second 0 over connection 1, which the neighbour made."""
    made = opened(theirs, **more)
    made.receive(1, KEEPALIVE_MESSAGE, 0)
    made.take()
    assert made.state is SessionState.ESTABLISHED
    return made


def said(effects: list[Effect], connection: int = 1) -> list[Notify]:
    """Read the NOTIFICATIONs that were sent over a connection."""
    sent = [effect.data for effect in effects if isinstance(effect, Transmit) and effect.connection == connection]
    return [decode_notification(data[19:]) for data in sent if data[18] == 3]


def opens(effects: list[Effect], connection: int) -> list[Open]:
    """Read the OPENs that were sent over a connection."""
    sent = [effect.data for effect in effects if isinstance(effect, Transmit) and effect.connection == connection]
    return [decode_open(data[19:]) for data in sent if data[18] == 1]


def downs(effects: list[Effect]) -> list[bool]:
    """Say of each session that ended whether it did so gracefully."""
    return [effect.graceful for effect in effects if isinstance(effect, Down)]


def run(made: Peering, until: float) -> list[tuple[float, Effect]]:
    """Let time pass as the caller does, from one deadline to the next."""
    seen = []
    while (due := made.deadline()) is not None and due <= until:
        made.tick(due)
        seen += [(due, effect) for effect in made.take()]
    return seen


# -- one end


def test_started_it_connects() -> None:
    """At once, and it says so."""
    made = Peering(THERE, NEIGHBOR, SPEAKER, 0)
    assert (made.state, made.deadline(), made.take()) == (SessionState.IDLE, None, [])
    made.start(0)
    assert made.take() == [Connect(), Moved(SessionState.CONNECT, "")]
    made.start(0)
    assert made.take() == []


@pytest.mark.parametrize("more", [{"passive": True}, {"address": None, "range": ip_network("192.0.2.0/24")}])
def test_a_passive_one_waits_for_ever(more: dict[str, Any]) -> None:
    """A neighbour that is configured so, or one of a range: it never connects, also when a session is lost."""
    made = Peering(THERE, replace(NEIGHBOR, **more), SPEAKER, 0)
    made.start(0)
    assert made.take() == [Moved(SessionState.ACTIVE, "")]
    assert made.deadline() is None
    made.connected(1, HERE, outgoing=False, now=1)
    made.receive(1, encode_open(THEIRS) + KEEPALIVE_MESSAGE, 1)
    made.disconnected(1, 2)
    effects = made.take()
    assert downs(effects) == [True]
    assert Connect() not in effects
    assert made.deadline() is None
    assert made.state is SessionState.ACTIVE


def test_a_session_comes_up() -> None:
    """With what both agreed on; then KEEPALIVE goes every third of the hold time."""
    made = peering()
    made.connected(7, HERE, outgoing=True, now=1)
    assert opens(made.take(), 7) == [offer(NEIGHBOR, SPEAKER)]
    made.receive(7, encode_open(replace(THEIRS, hold_time=30)), 2)
    assert made.take() == [Transmit(7, KEEPALIVE_MESSAGE), Moved(SessionState.OPENCONFIRM, "")]
    made.receive(7, KEEPALIVE_MESSAGE, 3)
    up, moved = made.take()
    assert isinstance(up, Up)
    assert (up.connection, up.established.router_id, up.established.local_address) == (7, THERE, HERE)
    assert up.format.limit == 65535
    assert moved == Moved(SessionState.ESTABLISHED, "")
    assert run(made, 32.9) == [
        (12, Transmit(7, KEEPALIVE_MESSAGE)),
        (22, Transmit(7, KEEPALIVE_MESSAGE)),
        (32, Transmit(7, KEEPALIVE_MESSAGE)),
    ]


def test_a_neighbour_that_falls_silent_is_lost() -> None:
    """Nothing whole for the hold time: Hold Timer Expired, gracefully since both said N."""
    made = established()
    made.receive(1, END_OF_RIB, 50)
    made.receive(1, END_OF_RIB[:-1], 100)
    seen = {type(effect): (when, effect) for when, effect in run(made, 140)}
    assert seen[Close] == (140, Close(1))
    assert seen[Down] == (140, Down(graceful=True, detail="sent: Hold Timer Expired"))


def test_a_neighbour_that_takes_nothing_is_lost() -> None:
    """RFC 9687: octets waited for the send hold time, although the neighbour spoke."""
    made = established()
    made.written(1, 0, 10, waiting=True)
    for now in range(30, 480, 30):
        made.receive(1, KEEPALIVE_MESSAGE, now)
        assert not downs([effect for _, effect in run(made, now + 1)])
    made.receive(1, KEEPALIVE_MESSAGE, 480)
    seen = [effect for _, effect in run(made, 490)]
    assert said(seen) == [Notify(8)]
    assert Close(1) in seen


def test_attempts_follow_each_other_ever_more_slowly() -> None:
    """An attempt that is not answered is repeated, one that failed as well; never more than 30 s apart."""
    for fails in (True, False):
        made = peering()
        times = [0.0]
        while times[-1] < 300:
            if fails:
                made.connect_failed(times[-1], "connection refused")
                assert (made.state, made.detail) == (SessionState.ACTIVE, "connection refused")
            due = made.deadline()
            assert due is not None
            made.tick(due)
            assert Connect() in made.take()
            times.append(due)
        waits = [later - earlier for earlier, later in pairwise(times)]
        assert waits[0] <= 2
        assert 20 < max(waits) <= 30
        assert waits[:4] == sorted(waits[:4])


def test_a_lost_session_is_sought_again_soon_and_welcome_at_once() -> None:
    """A second later we connect; whoever comes before is let in."""
    made = established()
    made.disconnected(1, 100, "connection reset by peer")
    detail = "connection reset by peer"
    assert made.take() == [Down(graceful=True, detail=detail), Moved(SessionState.ACTIVE, detail)]
    due = made.deadline()
    assert due is not None
    assert 100 < due <= 101
    made.connected(2, HERE, outgoing=False, now=100.1)
    assert opens(made.take(), 2)
    made.receive(2, encode_open(THEIRS) + KEEPALIVE_MESSAGE, 100.2)
    assert made.state is SessionState.ESTABLISHED
    assert made.detail == ""


@pytest.mark.parametrize("end", ["notification", "disconnected", "silence"])
def test_the_neighbour_may_come_back_after_any_failure_of_its_own(end: str) -> None:
    """It restarts, it resets the session, it is lost: it is accepted when it connects."""
    made = established()
    if end == "notification":
        made.receive(1, encode_notification(Notify(6, 4)), 60)
    elif end == "disconnected":
        made.disconnected(1, 60)
    else:
        run(made, 90)
    made.take()
    made.connected(2, HERE, outgoing=False, now=90.01)
    assert opens(made.take(), 2)


def test_a_neighbour_that_makes_faults_is_kept_away_ever_longer() -> None:
    """Refused for a second, then two, then four, up to a minute; then it may try again."""
    made = peering(passive=True)
    now, waits = 0.0, []
    for connection in range(10):
        made.connected(connection, HERE, outgoing=False, now=now)
        made.receive(connection, encode_open(replace(THEIRS, asn=64999)), now)
        effects = made.take()
        assert said(effects, connection) == [Notify(2, 2)]
        assert Moved(SessionState.IDLE, made.detail) in effects
        assert "AS 64999, not 65001" in made.detail
        made.connected(connection + 100, HERE, outgoing=False, now=now)
        assert made.take() == [Close(connection + 100)]
        due = made.deadline()
        assert due is not None
        waits.append(due - now)
        made.tick(due)
        assert made.state is SessionState.ACTIVE
        assert made.deadline() is None
        made.take()
        now = due
    assert waits == sorted(waits)
    assert waits[0] <= 1
    assert 45 <= waits[-1] <= 60


def test_a_fault_in_an_update_resets_the_session() -> None:
    """The caller finds it; the code is the UPDATE's, and an excess of prefixes is Cease."""
    for notify, sent in ((Notify(3, 10), Notify(3, 10)), (Notify(6, 1), Notify(6, 9, b"\x06\x01"))):
        made = established()
        made.fail(1, notify, 20)
        effects = made.take()
        assert said(effects) == [sent]
        assert downs(effects) == [notify.code == 3]
        assert Close(1) in effects
        made.fail(1, notify, 20)
        assert made.take() == []


def test_what_comes_over_a_connection_that_is_over_is_nothing() -> None:
    """Octets and ends of connections that were closed, or of which we never knew."""
    made = established()
    made.fail(1, Notify(3, 1), 1)
    made.take()
    for connection in (1, 99):
        made.receive(connection, END_OF_RIB, 1)
        made.disconnected(connection, 1)
        made.written(connection, 1, 1, waiting=True)
        assert made.take() == []


def test_the_routes_can_be_asked_for_again() -> None:
    """If both offered route refresh, and for families of the session."""
    made = established()
    made.refresh(Family.IPV4)
    assert made.take() == [Transmit(1, encode_refresh(Family.IPV4))]
    made.refresh(Family.IPV6)
    assert made.take() == []
    made = established(replace(THEIRS, refresh=False))
    made.refresh(Family.IPV4)
    assert made.take() == []
    made = peering()
    made.refresh(Family.IPV4)
    assert made.take() == []


def test_the_neighbour_may_ask_for_its_routes_again() -> None:
    """Told to the caller."""
    made = established()
    made.receive(1, encode_refresh(Family.IPV4), 1)
    assert made.take() == [RefreshAsked(Family.IPV4, 0)]


def test_updates_are_given_as_they_come() -> None:
    """In one piece."""
    made = established()
    made.receive(1, END_OF_RIB * 3, 1)
    assert made.take() == [Updates(1, [(2, b"", b"", b"")] * 3)]


# -- stop, start, another configuration


def test_stopped_it_ceases_and_lets_nobody_in() -> None:
    """Cease with what the operator says; nothing is due until it is started again."""
    made = established(replace(THEIRS, restart=None))
    made.stop(2, "back at noon", 100)
    effects = made.take()
    assert [str(notify) for notify in said(effects)] == ['Cease / Administrative Shutdown: "back at noon"']
    assert said(effects)[0].data == b"\x0cback at noon"
    assert downs(effects) == [False]
    assert (made.state, made.deadline()) == (SessionState.IDLE, None)
    assert "back at noon" in made.detail
    made.connected(2, HERE, outgoing=False, now=101)
    effects = made.take()
    assert said(effects, 2) == [Notify(6, 5)]
    assert Close(2) in effects
    made.connected(3, HERE, outgoing=True, now=101)
    assert made.take() == [Close(3)]
    made.start(102)
    assert Connect() in made.take()


def test_stopping_while_connecting_forgets_the_attempt() -> None:
    """The connection that comes up none the less is closed."""
    made = peering()
    made.stop(2, "", 1)
    made.connect_failed(1)
    made.connected(3, HERE, outgoing=True, now=1)
    assert Close(3) in made.take()
    assert made.state is SessionState.IDLE


@pytest.mark.parametrize(
    "more",
    [
        {"hold_time": 30},
        {"families": tuple(Family)},
        {"restart_time": 0},
        {"extended_next_hop": True},
        {"asn": 65002},
        {"local_address": HERE},
    ],
)
def test_what_the_open_says_takes_a_new_session(more: dict[str, Any]) -> None:
    """Other Configuration Change, and at once another attempt."""
    made = established()
    made.reconfigure(replace(NEIGHBOR, **more), SPEAKER, 100)
    effects = made.take()
    assert said(effects) == [Notify(6, 6)]
    assert downs(effects) == [True]
    assert Connect() in effects
    assert effects.index(Close(1)) < effects.index(Connect())


def test_another_identity_of_ours_takes_a_new_session() -> None:
    """AS number and identifier are in the OPEN; a listener or another neighbour is not."""
    for speaker in (replace(SPEAKER, asn=64998), replace(SPEAKER, router_id=IPv4Address(9))):
        made = established()
        made.reconfigure(NEIGHBOR, speaker, 100)
        assert said(made.take()) == [Notify(6, 6)]


def test_any_other_change_leaves_the_session_alone() -> None:
    """Policies, names, who connects, an order of families."""
    made = established(families=(Family.IPV4, Family.IPV6), restart_time=0)
    for more in (
        {"exports": ExportPolicy()},
        {"passive": True},
        {"passive": False},
        {"families": (Family.IPV6, Family.IPV4)},
        {"next_hop_self": True, "name": "other"},
    ):
        changed = {"families": (Family.IPV4, Family.IPV6), "restart_time": 0} | more
        made.reconfigure(replace(NEIGHBOR, **changed), replace(SPEAKER, neighbors=(NEIGHBOR,)), 100)  # type: ignore[arg-type] # of the test's own making
        assert made.take() == []


def test_one_that_becomes_passive_connects_no_more_and_the_other_way_round() -> None:
    """A session that is there stays; an attempt is given up, or made at once."""
    made = peering()
    made.reconfigure(replace(NEIGHBOR, passive=True), SPEAKER, 1)
    assert (made.state, made.deadline()) == (SessionState.ACTIVE, None)
    made.take()
    made.reconfigure(NEIGHBOR, SPEAKER, 2)
    assert Connect() in made.take()


def test_a_change_before_the_start_takes_effect_with_it() -> None:
    """Nothing is said, nothing is tried."""
    made = Peering(THERE, NEIGHBOR, SPEAKER, 0)
    made.reconfigure(replace(NEIGHBOR, hold_time=30), SPEAKER, 1)
    assert made.take() == []
    made.start(2)
    made.connected(1, HERE, outgoing=True, now=2)
    assert opens(made.take(), 1)[0].hold_time == 30


# -- restarts


def test_a_process_that_was_restarted_says_so_until_it_is_back() -> None:
    """The R bit; not once there was a session, and not when the neighbour has given up anyway."""
    made = Peering(THERE, NEIGHBOR, SPEAKER, 0, restarting=True)
    made.start(0)
    said_ = []
    for connection, now in ((1, 0.0), (2, 5.0), (3, 10.0)):
        made.connected(connection, HERE, outgoing=False, now=now)
        said_ += opens(made.take(), connection)
        if connection == 2:
            made.receive(2, encode_open(THEIRS) + KEEPALIVE_MESSAGE, now)
        made.disconnected(connection, now)
    assert [each.restart.restarting for each in said_ if each.restart] == [True, True, False]
    late = Peering(THERE, NEIGHBOR, SPEAKER, 0, restarting=True)
    late.start(0)
    late.connected(1, HERE, outgoing=False, now=120)
    assert opens(late.take(), 1) == [offer(NEIGHBOR, SPEAKER)]


def _comes_again(made: Peering, theirs: Open, now: float) -> list[Effect]:
    made.connected(2, HERE, outgoing=False, now=now)
    assert opens(made.take(), 2) == []
    made.receive(2, encode_open(theirs), now)
    return made.take()


def test_a_neighbour_that_restarted_takes_the_place_of_its_old_session() -> None:
    """RFC 4724 5: the old connection is closed without a word, its routes may be kept."""
    restarted = replace(
        THEIRS, restart=Restart(120, restarting=True, notification=True, families=((Family.IPV4, True),))
    )
    for theirs, now in ((restarted, 1), (THEIRS, 1000)):
        made = established(hold_time=0)
        effects = _comes_again(made, theirs, now)
        assert effects[:2] == [Down(graceful=True, detail="the neighbour came again"), Close(1)]
        assert len(opens(effects, 2)) == 1
        made.receive(2, KEEPALIVE_MESSAGE, now)
        assert made.state is SessionState.ESTABLISHED
        assert isinstance(made.take()[0], Up)


@pytest.mark.parametrize(("theirs", "now"), [(replace(THEIRS, restart=None), 1000), (THEIRS, 1)])
def test_a_second_connection_besides_a_session_is_refused(theirs: Open, now: float) -> None:
    """RFC 4271 6.8: by those who cannot restart, and by those who just connected as we did."""
    made = established(theirs, hold_time=0)
    effects = _comes_again(made, theirs, now)
    assert effects == [Transmit(2, encode_notification(COLLISION)), Close(2)]
    made.receive(1, END_OF_RIB, now)
    assert made.take() == [Updates(1, [(2, b"", b"", b"")])]


def test_a_second_connection_that_says_nothing_goes() -> None:
    """After a while; a third one takes its place at once."""
    made = established()
    made.connected(2, HERE, outgoing=False, now=20)
    made.connected(3, HERE, outgoing=False, now=21)
    assert made.take() == [Transmit(2, encode_notification(COLLISION)), Close(2)]
    assert [effect for _, effect in run(made, 27)] == [Transmit(3, encode_notification(COLLISION)), Close(3)]
    assert made.state is SessionState.ESTABLISHED


def test_a_connection_that_waited_goes_on_when_the_other_one_fails() -> None:
    """It sends OPEN as soon as there is none before it."""
    made = opened()
    made.connected(2, HERE, outgoing=True, now=1)
    assert opens(made.take(), 2) == []
    made.disconnected(1, 2)
    assert opens(made.take(), 2) == [offer(NEIGHBOR, SPEAKER)]


# -- two connections at once


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("theirs_first", [True, False])
def test_of_two_connections_that_of_the_higher_identifier_is_kept(*, higher: bool, theirs_first: bool) -> None:
    """Whichever is opened first (RFC 4271 6.8); the other one is told why it goes."""
    theirs = replace(THEIRS, router_id=IPv4Address("10.0.0.1" if higher else "223.0.0.1"))
    ours, other = 7, 8
    made = peering()
    made.connected(ours, HERE, outgoing=True, now=0)
    made.connected(other, HERE, outgoing=False, now=0)
    made.take()
    for connection in (other, ours) if theirs_first else (ours, other):
        made.receive(connection, encode_open(theirs), 1)
    effects = made.take()
    kept, dumped = (ours, other) if higher else (other, ours)
    assert said(effects, dumped) == [COLLISION]
    assert Close(dumped) in effects
    assert Close(kept) not in effects
    made.receive(kept, KEEPALIVE_MESSAGE, 2)
    assert [effect.connection for effect in made.take() if isinstance(effect, Up)] == [kept]


def _both_open() -> Peering:
    """Make one with two connections, of which the one it made (7) is preferred, and OPEN on the other (8) only."""
    made = peering()
    made.connected(7, HERE, outgoing=True, now=0)
    made.connected(8, HERE, outgoing=False, now=0)
    made.take()
    made.receive(8, encode_open(THEIRS) + KEEPALIVE_MESSAGE, 1)
    assert made.take() == []
    assert made.state is SessionState.OPENSENT
    return made


def test_the_other_connection_waits_for_the_preferred_one() -> None:
    """No session comes up that would be dropped an instant later."""
    made = _both_open()
    made.receive(7, encode_open(THEIRS) + KEEPALIVE_MESSAGE, 1.1)
    effects = made.take()
    assert said(effects, 8) == [COLLISION]
    assert [effect.connection for effect in effects if isinstance(effect, Up)] == [7]
    assert downs(effects) == []


def test_the_other_connection_is_used_when_the_preferred_one_fails() -> None:
    """At once; some close every second connection without a look at it."""
    made = _both_open()
    made.disconnected(7, 1.1)
    assert [effect.connection for effect in made.take() if isinstance(effect, Up)] == [8]


def test_the_other_connection_is_used_when_nothing_comes_over_the_preferred_one() -> None:
    """After a while; but if the neighbour does open it then, so does it on its side, and both keep that one."""
    made = _both_open()
    assert [effect.connection for _, effect in run(made, 3) if isinstance(effect, Up)] == [8]
    made.receive(7, encode_open(THEIRS), 4)
    effects = made.take()
    assert said(effects, 8) == [COLLISION]
    assert downs(effects) == [True]
    made.receive(7, KEEPALIVE_MESSAGE, 4.1)
    assert made.state is SessionState.ESTABLISHED
    made = _both_open()
    run(made, 10)
    assert made.state is SessionState.ESTABLISHED
    made.receive(7, encode_open(THEIRS), 11)
    assert made.take() == []


def test_an_attempt_is_given_up_once_there_is_a_session() -> None:
    """What comes of it later is closed."""
    made = established()
    made.connected(7, HERE, outgoing=True, now=1)
    assert made.take() == [Close(7)]
    assert Connect() not in [effect for _, effect in run(made, 89)]


def test_nobody_connects_while_the_neighbour_is_about_to_be_established() -> None:
    """What is due then is put off."""
    made = opened()
    assert Connect() not in [effect for _, effect in run(made, 60)]


# -- two ends, and a network between them


@dataclass
class End:
    """A peering with its sockets: of each connection the pipe and which of its two sides is ours."""

    local: IPv4Address
    peering: Peering
    numbers: int = 0
    attempt: int = 0
    alarm: float = 0.0
    sockets: dict[int, tuple[Pipe, int]] = field(default_factory=dict)
    session: int | None = None
    downs: list[float] = field(default_factory=list)


@dataclass
class Side:
    """One side of a pipe: what is on its way to it and when the last of that arrives; None is the end of the stream."""

    end: End
    number: int | None = None
    closed: bool = False
    inbox: list[bytes | None] = field(default_factory=list)
    arrives: float = 0.0


@dataclass
class Pipe:
    """A TCP connection, from the side that dialled to the other one."""

    sides: tuple[Side, Side]
    broken: bool = False


class Network:
    """Two ends, simulated time, and until `calm` all that can go wrong."""

    def __init__(self, seed: int, calm: float, ends: tuple[Peering, Peering]) -> None:
        """Put the two together and start them."""
        self.random = Random(seed)
        self.calm = calm
        self.now = 0.0
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.tickets = 0
        self.ends = (End(HERE, ends[0]), End(THERE, ends[1]))
        for end in self.ends:
            self.at(self.soon(), partial(self.start, end))

    def start(self, end: End) -> None:
        """Start one end."""
        end.peering.start(self.now)

    def soon(self) -> float:
        """Draw when something happens that takes a while: mostly little, sometimes much."""
        return self.now + self.random.choice((0.001, 0.01, 0.1, 1.0)) * self.random.random()

    def at(self, when: float, happening: Callable[[], None]) -> None:
        """Let something happen later."""
        self.tickets += 1
        heapq.heappush(self.queue, (when, self.tickets, happening))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self.queue and self.queue[0][0] <= until:
            self.now, _, happening = heapq.heappop(self.queue)
            happening()
            for end in self.ends:
                self.obey(end)
        self.now = until

    def obey(self, end: End) -> None:
        """Do what a peering wants, check that it makes sense, and wake it when it wants."""
        for effect in end.peering.take():
            match effect:
                case Connect():
                    end.attempt += 1
                    self.dial(end)
                case Transmit(connection, data):
                    self.send(*end.sockets[connection], data)
                case Close(connection):
                    self.close(*end.sockets.pop(connection))
                case Up(connection):
                    assert end.session is None
                    assert connection in end.sockets
                    end.session = connection
                case Down():
                    assert end.session is not None
                    end.session = None
                    end.downs.append(self.now)
        due = end.peering.deadline()
        if due is not None and (due < end.alarm or end.alarm <= self.now):
            end.alarm = due
            self.at(due, partial(self.wake, end))

    def wake(self, end: End) -> None:
        """Do what is due at one end."""
        end.peering.tick(self.now)

    def dial(self, end: End) -> None:
        """Connect: nothing may come of it, or a refusal, or a connection that each end sees when it sees it."""
        fate = self.random.random() if self.now < self.calm else 1.0
        if fate < 0.1:
            return
        if fate < 0.2:
            self.at(self.soon(), partial(self.refuse, end, end.attempt))
            return
        pipe = Pipe((Side(end), Side(self.ends[1] if end is self.ends[0] else self.ends[0])))
        self.at(self.soon(), partial(self.attach, pipe, 0, end.attempt))
        self.at(self.soon(), partial(self.attach, pipe, 1, end.attempt))
        if fate < 0.7:
            told = self.random.choice(((0,), (1,), (0, 1)))
            self.at(
                self.now + self.random.random() * self.random.choice((0.1, 1.0, 20.0)), partial(self.cut, pipe, told)
            )

    def refuse(self, end: End, attempt: int) -> None:
        """Let an attempt fail, if it is still the one that is waited for."""
        if attempt == end.attempt:
            end.peering.connect_failed(self.now)

    def attach(self, pipe: Pipe, which: int, attempt: int) -> None:
        """Let one end have the connection; who dialled may have given it up."""
        side = pipe.sides[which]
        end = side.end
        if pipe.broken:
            if which == 0:
                self.refuse(end, attempt)
            return
        if which == 0 and attempt != end.attempt:
            self.close(pipe, which)
            return
        end.numbers += 1
        side.number = end.numbers
        end.sockets[side.number] = (pipe, which)
        end.peering.connected(side.number, end.local, outgoing=which == 0, now=self.now)
        self.obey(end)
        self.drain(pipe, which)

    def send(self, pipe: Pipe, which: int, data: bytes) -> None:
        """Carry octets, in any pieces."""
        while data:
            size = self.random.randint(1, len(data))
            self.carry(pipe, 1 - which, data[:size])
            data = data[size:]

    def carry(self, pipe: Pipe, which: int, item: bytes | None) -> None:
        """Let something arrive behind all that went before."""
        side = pipe.sides[which]
        side.arrives = max(side.arrives, self.soon())
        self.at(side.arrives, partial(self.arrive, pipe, which, item))

    def arrive(self, pipe: Pipe, which: int, item: bytes | None) -> None:
        """Have it there."""
        pipe.sides[which].inbox.append(item)
        self.drain(pipe, which)

    def drain(self, pipe: Pipe, which: int) -> None:
        """Give an end what is there for it, if it has the connection."""
        side = pipe.sides[which]
        while side.inbox and side.number is not None and not side.closed and not pipe.broken:
            item = side.inbox.pop(0)
            if item is None:
                self.lose(side)
            else:
                side.end.peering.receive(side.number, item, self.now)
                self.obey(side.end)

    def close(self, pipe: Pipe, which: int) -> None:
        """Close one side; the other one reads what is on its way and then the end."""
        pipe.sides[which].closed = True
        self.carry(pipe, 1 - which, None)

    def lose(self, side: Side) -> None:
        """Let an end know that its connection is gone."""
        if side.number in side.end.sockets and not side.closed:
            side.closed = True
            del side.end.sockets[side.number]
            side.end.peering.disconnected(side.number, self.now)
            self.obey(side.end)

    def cut(self, pipe: Pipe, told: tuple[int, ...]) -> None:
        """Break a connection; perhaps only one side comes to know."""
        pipe.broken = True
        for which in told:
            self.lose(pipe.sides[which])


@dataclass(frozen=True)
class Setting:
    """What the two ends are."""

    identifiers: tuple[str, str]
    passive: tuple[bool, bool]
    restart_times: tuple[int, int]
    restarting: tuple[bool, bool]
    hold_time: int

    def ends(self) -> tuple[Peering, Peering]:
        """Make them."""
        return self._end(0, THERE), self._end(1, HERE)

    def _end(self, which: int, far: IPv4Address) -> Peering:
        speaker = Speaker("s", Mode.ROUTER, 65000 + which, IPv4Address(self.identifiers[which]), ())
        neighbor = Neighbor(
            "n",
            65001 - which,
            far,
            passive=self.passive[which],
            restart_time=self.restart_times[which],
            hold_time=self.hold_time,
        )
        return Peering(far, neighbor, speaker, 0, restarting=self.restarting[which])


BOOLEANS = st.tuples(st.booleans(), st.booleans())
SETTINGS = st.builds(
    Setting,
    identifiers=st.sampled_from([("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.0.1"), ("10.0.0.1", "10.0.0.1")]),
    passive=st.sampled_from([(False, False), (False, False), (True, False), (False, True)]),
    restart_times=st.tuples(st.sampled_from([0, 120]), st.sampled_from([0, 120])),
    restarting=BOOLEANS,
    hold_time=st.sampled_from([9, 90]),
)


@settings(max_examples=80, deadline=None)
@given(setting=SETTINGS, seed=st.integers(0, 1 << 32), trouble=st.sampled_from([0.0, 0.0, 5.0, 60.0]))
def test_two_ends_always_end_with_one_session_over_one_connection(setting: Setting, seed: int, trouble: float) -> None:
    """Whatever comes late, in pieces, twice, or not at all: when trouble ends, a session comes and stays."""
    network = Network(seed, trouble, setting.ends())
    network.run(trouble + 400)
    settled = [list(end.downs) for end in network.ends]
    network.run(trouble + 600)
    for end in network.ends:
        assert end.peering.state is SessionState.ESTABLISHED
        assert list(end.sockets) == [end.session]
    pipes = [end.sockets[end.session][0] for end in network.ends if end.session is not None]
    assert pipes[0] is pipes[1]
    assert [end.downs for end in network.ends] == settled


@settings(max_examples=200, deadline=None)
@given(setting=SETTINGS, seed=st.integers(0, 1 << 32))
def test_a_session_that_both_begin_at_once_is_soon_there(setting: Setting, seed: int) -> None:
    """Without any trouble nothing has to be tried twice, however the octets of the two connections cross."""
    network = Network(seed, 0.0, setting.ends())
    network.run(15)
    assert [end.peering.state for end in network.ends] == [SessionState.ESTABLISHED] * 2
    assert [end.downs for end in network.ends] == [[], []]


# -- anything at all

MESSAGES = [
    encode_open(THEIRS),
    encode_open(replace(THEIRS, asn=64999)),
    encode_open(replace(THEIRS, restart=Restart(9, restarting=True, notification=False))),
    KEEPALIVE_MESSAGE,
    END_OF_RIB,
    encode_refresh(Family.IPV4),
    encode_notification(Notify(6, 4)),
    message(UPDATE, b"\0\x09\0\0"),
    b"\xff" * 16,
    b"\0",
]
CONFIGURATIONS = [
    NEIGHBOR,
    replace(NEIGHBOR, hold_time=3),
    replace(NEIGHBOR, passive=True),
    replace(NEIGHBOR, asn=64999),
]
WORDS = st.one_of(
    st.tuples(st.just("receive"), st.integers(0, 5), st.lists(st.sampled_from(MESSAGES), max_size=4).map(b"".join)),
    st.tuples(st.just("receive"), st.integers(0, 5), st.binary(max_size=60)),
    st.tuples(st.just("accept")),
    st.tuples(st.just("connect")),
    st.tuples(st.sampled_from(["disconnected", "fail"]), st.integers(0, 5)),
    st.tuples(st.just("written"), st.integers(0, 5), st.integers(0, 2), st.booleans()),
    st.tuples(st.sampled_from(["start", "stop", "connect_failed", "refresh", "due"])),
    st.tuples(st.just("pass"), st.floats(0, 300)),
    st.tuples(st.just("reconfigure"), st.sampled_from(CONFIGURATIONS)),
)


class Anything:
    """A caller that does as it is told and checks that what comes back makes sense."""

    def __init__(self) -> None:
        """Begin at second 0."""
        self.peering = Peering(THERE, NEIGHBOR, SPEAKER, 0, restarting=True)
        self.now = 0.0
        self.numbers: list[int] = []
        self.sockets: set[int] = set()
        self.session: int | None = None

    def do(self, word: str, *more: Any) -> None:
        """Do one thing."""
        getattr(self, f"_{word}")(*more)
        for effect in self.peering.take():
            self._check(effect)
        assert (self.peering.state is SessionState.ESTABLISHED) == (self.session is not None)
        assert self.peering.deadline() is None or self.peering.deadline() >= 0  # type: ignore[operator] # not None

    def _check(self, effect: Effect) -> None:
        match effect:
            case Transmit(connection):
                assert connection in self.sockets
            case Updates(connection):
                assert connection == self.session
            case Close(connection):
                self.sockets.remove(connection)
            case Up(connection):
                assert self.session is None
                assert connection in self.sockets
                self.session = connection
            case Down():
                assert self.session is not None
                self.session = None

    def _number(self, back: int) -> int:
        return self.numbers[-1 - back] if back < len(self.numbers) else -1

    def _receive(self, back: int, data: bytes) -> None:
        self.peering.receive(self._number(back), data, self.now)

    def _accept(self) -> None:
        self._connected(outgoing=False)

    def _connect(self) -> None:
        self._connected(outgoing=True)

    def _connected(self, *, outgoing: bool) -> None:
        self.numbers.append(len(self.numbers))
        self.sockets.add(self.numbers[-1])
        self.peering.connected(self.numbers[-1], HERE, outgoing=outgoing, now=self.now)

    def _disconnected(self, back: int) -> None:
        self.sockets.discard(self._number(back))
        self.peering.disconnected(self._number(back), self.now)

    def _fail(self, back: int) -> None:
        self.peering.fail(self._number(back), Notify(3, 1), self.now)

    def _written(self, back: int, octets: int, waiting: bool) -> None:
        self.peering.written(self._number(back), octets, self.now, waiting=waiting)

    def _start(self) -> None:
        self.peering.start(self.now)

    def _stop(self) -> None:
        self.peering.stop(2, "", self.now)

    def _connect_failed(self) -> None:
        self.peering.connect_failed(self.now)

    def _refresh(self) -> None:
        self.peering.refresh(Family.IPV4)

    def _reconfigure(self, neighbor: Neighbor) -> None:
        self.peering.reconfigure(neighbor, SPEAKER, self.now)

    def _due(self) -> None:
        due = self.peering.deadline()
        if due is not None:
            self.now = max(self.now, due)
            self.peering.tick(self.now)
            later = self.peering.deadline()
            assert later is None or later > self.now

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        self.peering.tick(self.now)


@settings(max_examples=250, deadline=None)
@given(words=st.lists(WORDS, max_size=40))
def test_whatever_happens_it_neither_raises_nor_contradicts_itself(words: list[tuple[Any, ...]]) -> None:
    """Any events in any order: octets go to open connections only, and sessions come and go in turns."""
    caller = Anything()
    caller.do("start")
    for word in words:
        caller.do(*word)
