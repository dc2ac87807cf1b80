"""Real sockets on loopback; the clock is the test's, and a core in the place of the real one writes down what it is told."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from routing.engines.native import loop as module
from routing.engines.native.core import Action, Dial, Hang, Trust, Write
from tests.support.looping import BIG, HERE, Bench, Daemon, ended, out_of_descriptors


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Make a loop."""
    with ExitStack() as stack:
        yield Bench(stack)


# -- connections that come


def test_a_connection_is_taken_with_both_its_addresses(bench: Bench) -> None:
    """And what comes over it, and that it ends."""
    client, number = bench.client(7)
    assert bench.notes.told == [("accepted", number, IPv4Address("127.0.1.7"), HERE, 100.0)]
    client.send(b"one")
    bench.until(lambda: bench.notes.heard.get(number) == b"one")
    client.send(b"two")
    client.shutdown(socket.SHUT_WR)
    bench.until(lambda: bench.notes.of("disconnected"))
    assert bench.notes.heard[number] == b"onetwo"
    assert not bench.open(number)


def test_nobody_who_is_unknown_is_kept(bench: Bench) -> None:
    """The connection is closed, and the core hears no more of it."""
    bench.notes.unwanted.add(IPv4Address("127.0.1.3"))
    client, number = bench.client(3)
    assert not bench.open(number)
    assert ended(client)
    bench.turn()
    assert len(bench.notes.told) == 1


def test_many_come_at_once(bench: Bench) -> None:
    """All of them are taken, whatever is done for the others between."""
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(300)]
        for client in clients:
            client.connect((str(HERE), bench.port))
        bench.until(lambda: len(bench.notes.of("accepted")) == len(clients))
        assert len(bench.loop._numbered) == len(clients)


def test_one_turn_takes_a_bounded_number_of_connections(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects without end does not keep the others waiting."""
    monkeypatch.setattr(module, "ACCEPTS", 3)
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(socket.create_connection((str(HERE), bench.port)))
        counts = []
        for _ in range(3):
            bench.turn()
            counts.append(len(bench.notes.of("accepted")))
        assert counts == [3, 6, 8]


def test_ipv6_is_served_beside_ipv4(bench: Bench) -> None:
    """By a socket of its own: who comes by IPv4 does not come as a mapped address."""
    port = bench.listen(IPv6Address("::"))
    bench.loop.listen(IPv4Address("0.0.0.0"), port)
    for count, address in enumerate(("::1", "127.0.0.1")):
        with socket.create_connection((address, port)):
            bench.until(lambda count=count: len(bench.notes.of("accepted")) > count)  # type: ignore[misc]
    assert [note[2:4] for note in bench.notes.of("accepted")] == [
        (IPv6Address("::1"), IPv6Address("::1")),
        (HERE, HERE),
    ]


def test_an_address_that_is_not_there_yet_can_be_listened_on(bench: Bench) -> None:
    """It may come later, with an interface; `tests/engines/test_native.py` sees it come."""
    assert bench.listen(IPv4Address("198.51.100.7")) > 0
    assert bench.listen(IPv6Address("2001:db8::7")) > 0


def test_without_descriptors_the_others_are_served_on(bench: Bench) -> None:
    """EMFILE: who waits to be accepted neither ends the process nor keeps it busy, and is accepted when there is room."""
    client, number = bench.client(1)
    waiting = bench._stack.enter_context(socket.socket())
    with out_of_descriptors():
        waiting.connect((str(HERE), bench.port))
        bench.turn()
        # Nothing is ready any more, so a turn that may wait does wait, and not for ever.
        assert bench.loop._epoll.poll(0) == []
        assert 0 < bench.loop._patience() <= module.PAUSE
        client.send(b"still here")
        bench.until(lambda: bench.notes.heard.get(number) == b"still here")
        bench.now += module.PAUSE
        bench.turn()
        bench.turn()
        assert bench.loop._epoll.poll(0) == []
    assert len(bench.notes.of("accepted")) == 1
    bench.now += module.PAUSE
    bench.until(lambda: len(bench.notes.of("accepted")) == 2)
    assert bench.loop._patience() == -1


# -- connections that we make


@pytest.fixture
def elsewhere(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """Listen as a neighbour does."""
    listener = bench._stack.enter_context(socket.create_server(("127.0.2.1", 0)))
    monkeypatch.setattr(module, "BGP_PORT", listener.getsockname()[1])
    return listener


def test_a_neighbour_is_dialled_from_the_address_it_knows(bench: Bench, elsewhere: socket.socket) -> None:
    """Or from whichever the way to it has."""
    for local in (IPv4Address("127.0.3.3"), None):
        bench.notes.told.clear()
        bench.do(Dial(IPv4Address("127.0.2.1"), local))
        bench.until(lambda: bench.notes.of("connected"))
        peer, (address, _) = elsewhere.accept()
        with peer:
            ((_, number, *rest),) = bench.notes.of("connected")
            assert rest == [IPv4Address("127.0.2.1"), ip_address(address), 100.0]
            assert isinstance(number, int)
            assert local is None or address == "127.0.3.3"
            bench.do(Write(number, b"hello"))
            assert peer.recv(10) == b"hello"
            peer.send(b"hi")
            bench.until(lambda number=number: bench.notes.heard.get(number) == b"hi")  # type: ignore[misc]


def test_a_neighbour_that_refuses_is_reported(bench: Bench, elsewhere: socket.socket) -> None:
    """With the kernel's reason; no socket stays."""
    elsewhere.close()
    bench.do(Dial(IPv4Address("127.0.2.1"), None))
    bench.until(lambda: bench.notes.told)
    assert bench.notes.told == [("failed", IPv4Address("127.0.2.1"), "Connection refused", 100.0)]
    assert bench.loop._wires == {}


def test_a_neighbour_that_no_way_leads_to_is_reported(bench: Bench) -> None:
    """At once, and the turn goes on with what follows of that."""
    bench.do(Dial(IPv4Address("255.255.255.255"), None))
    ((kind, address, why, _),) = bench.notes.told
    assert (kind, address) == ("failed", IPv4Address("255.255.255.255"))
    assert why in {os.strerror(code) for code in (errno.EACCES, errno.ENETUNREACH, errno.EINVAL)}
    assert bench.loop._wires == {}


def test_without_descriptors_nobody_is_dialled(bench: Bench) -> None:
    """It is a failure like others, not the end of the process."""
    with out_of_descriptors():
        bench.do(Dial(IPv4Address("127.0.2.1"), None))
    assert bench.notes.told == [("failed", IPv4Address("127.0.2.1"), "Too many open files", 100.0)]


def test_a_dialled_connection_that_nobody_wants_any_more_is_closed(bench: Bench, elsewhere: socket.socket) -> None:
    """The neighbour was removed meanwhile."""
    bench.notes.unwanted.add(IPv4Address("127.0.2.1"))
    bench.do(Dial(IPv4Address("127.0.2.1"), None))
    bench.until(lambda: bench.notes.told)
    peer, _ = elsewhere.accept()
    with peer:
        assert peer.recv(1) == b""
    assert bench.loop._wires == {}


def test_a_second_attempt_gives_up_the_first(bench: Bench, elsewhere: socket.socket) -> None:
    """It would fail, or succeed, long after that in the place of the second."""
    # Who does not accept lets a few wait, and does not answer those who come then.
    elsewhere.listen(0)
    with ExitStack() as stack:
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(elsewhere.getsockname())
        for _ in range(5):
            bench.do(Dial(IPv4Address("127.0.2.1"), None))
            assert len(bench.loop._wires) == 1
        (wire,) = bench.loop._wires.values()
        assert wire.dialling
        assert bench.notes.told == []
        wire.socket.shutdown(socket.SHUT_RDWR)
        bench.until(lambda: bench.notes.told)
        assert bench.loop._wires == {}
        bench.do(Dial(IPv4Address("127.0.2.1"), None))
        assert len(bench.loop._wires) == 1


# -- reading


def test_a_neighbour_that_makes_the_core_fail_is_dropped_alone(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log has the address and what happened; the others are served."""
    first, one = bench.client(1)
    second, two = bench.client(2)
    bench.notes.failure = ValueError("poison")
    first.send(b"poison")
    bench.until(lambda: bench.notes.of("disconnected"))
    bench.notes.failure = None
    assert bench.notes.of("disconnected") == [("disconnected", one)]
    assert ended(first)
    said = capsys.readouterr().err
    assert "neighbor-dropped address='127.0.1.1'" in said
    assert "poison" in said
    second.send(b"fine")
    bench.until(lambda: bench.notes.heard.get(two) == b"fine")


def test_who_sends_without_end_does_not_keep_others_waiting(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn reads a bounded amount; who had to wait is first in the next."""
    monkeypatch.setattr(module, "READ", 100)
    monkeypatch.setattr(module, "TURN", 200)
    clients = [bench.client(last) for last in range(1, 6)]
    for client, _ in clients:
        client.send(BIG[:1000])
    turns = []
    for _ in range(25):
        before = len(bench.notes.order)
        bench.turn()
        turns.append(len(bench.notes.order) - before)
    numbers = [number for _, number in clients]
    assert turns == [2] * 25
    for start in range(30):
        assert set(bench.notes.order[start : start + 10]) == set(numbers)


def test_the_last_words_of_a_neighbour_are_heard_although_it_reads_no_more(bench: Bench) -> None:
    """Its NOTIFICATION says whether its routes may be kept; the connection is reset right behind it."""
    client, number = bench.client(1, buffer=4096)
    bench.do(*(Write(number, BIG) for _ in range(50)))
    assert bench.loop._numbered[number].armed
    client.send(b"farewell")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    bench.until(lambda: bench.notes.of("disconnected"))
    assert bench.notes.heard == {number: b"farewell"}
    assert bench.notes.of("disconnected") == [("disconnected", number)]


def test_last_words_may_be_what_the_core_hangs_up_on(bench: Bench) -> None:
    """The connection is closed once, whoever is first."""
    client, number = bench.client(1, buffer=4096)
    bench.do(*(Write(number, BIG) for _ in range(50)))
    received = bench.notes.received

    def hang(connection: int, data: bytes, now: float) -> None:
        received(connection, data, now)
        bench.notes.actions.append(Hang(connection))

    bench.notes.received = hang  # type: ignore[method-assign]
    client.send(b"farewell")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    bench.until(lambda: not bench.open(number))
    assert bench.notes.heard == {number: b"farewell"}


# -- writing


def test_buffers_go_out_in_order(bench: Bench) -> None:
    """However many there are, of whatever kind; nobody is watched for what has gone."""
    client, number = bench.client(1)
    whole = os.urandom(3000)
    pieces: list[bytes | memoryview] = [memoryview(whole)[at : at + 10] for at in range(0, 3000, 10)]
    pieces[5] = bytes(pieces[5])
    bench.do(*(Write(number, piece) for piece in pieces))
    assert bench.read(client, 3000) == whole
    assert bench.notes.of("written") == []
    assert not bench.loop._numbered[number].armed


def test_what_does_not_go_at_once_goes_when_there_is_room(bench: Bench) -> None:
    """Whole, however it was cut; the core is told how much went, which together is all of it."""
    client, number = bench.client(1, buffer=4096)
    pieces = [os.urandom(size) for size in (1, 70_000, 5, 100_000, 3, 3, 50_000) * 4]
    bench.do(*(Write(number, piece) for piece in pieces))
    assert bench.loop._numbered[number].armed
    whole = b"".join(pieces)
    assert bench.read(client, len(whole)) == whole
    bench.until(lambda: not bench.loop._numbered[number].armed)
    notes = bench.notes.of("written")
    assert sum(octets for _, _, octets, _ in notes if isinstance(octets, int)) == len(whole)
    assert [waiting for *_, waiting in notes[:-1]] == [True] * (len(notes) - 1)
    assert notes[-1][-1] is False
    wire = bench.loop._numbered[number]
    assert (wire.size, wire.sent, len(wire.waiting)) == (0, 0, 0)


def test_a_buffer_for_many_is_kept_once(bench: Bench) -> None:
    """What waits for a thousand neighbours is one object."""
    clients = [bench.client(last, buffer=4096) for last in range(1, 4)]
    shared = BIG * 4
    bench.do(*(Write(number, shared) for _, number in clients))
    for _, number in clients:
        assert bench.loop._numbered[number].waiting[0] is shared


def test_a_slow_neighbour_falls_behind_and_catches_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """When too much waits for it the core is told, once; and again when all of that is read. Others notice nothing."""
    monkeypatch.setattr(module, "HIGH", len(BIG) * 2)
    slow, one = bench.client(1, buffer=4096)
    quick, two = bench.client(2)
    sent = 0
    while not bench.notes.of("behind"):
        bench.do(Write(one, BIG), Write(two, b"news"))
        sent += len(BIG)
        assert bench.read(quick, 4) == b"news"
        assert sent < 100 * len(BIG)
    assert bench.notes.of("behind") == [("behind", one)]
    bench.do(Write(one, b"keepalive"), Write(two, b"news"))
    assert bench.notes.of("behind", "caught up") == [("behind", one)]
    assert bench.read(slow, len(BIG)) == BIG
    assert bench.loop._numbered[one].waiting
    assert bench.notes.of("caught up") == []
    assert bench.read(slow, sent - len(BIG) + 9) == BIG * (sent // len(BIG) - 1) + b"keepalive"
    bench.until(lambda: bench.notes.of("caught up"))
    bench.do(Write(one, b"missed"))
    assert bench.read(slow, 6) == b"missed"
    assert bench.notes.of("behind", "caught up") == [("behind", one), ("caught up", one)]
    while len(bench.notes.of("behind")) < 2:
        bench.do(Write(one, BIG))


def test_a_big_table_makes_nobody_fall_behind_who_takes_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is more than may wait, but it was not tried yet."""
    monkeypatch.setattr(module, "HIGH", 10)
    client, number = bench.client(1)
    bench.do(*(Write(number, b"0123456789") for _ in range(50)))
    assert bench.read(client, 500) == b"0123456789" * 50
    assert bench.notes.of("behind") == []


def test_a_connection_that_hangs_takes_its_last_words_with_it(bench: Bench) -> None:
    """What was said to it goes, the rest of what comes is nobody's."""
    client, number = bench.client(1)
    bench.do(Write(number, b"NOTI"), Write(number, b"FICATION"), Hang(number), Write(number, b"not this"))
    assert client.recv(100) == b"NOTIFICATION"
    assert client.recv(100) == b""
    client.send(b"more")
    bench.turn()
    bench.do(Hang(number), Trust(number))
    assert (bench.notes.heard, bench.notes.of("disconnected")) == ({}, [])


def test_a_connection_that_hangs_waits_for_nobody(bench: Bench) -> None:
    """Who does not read will not hear the last words."""
    client, number = bench.client(1, buffer=4096)
    bench.do(*(Write(number, BIG) for _ in range(20)))
    bench.do(Write(number, b"last"), Hang(number))
    assert not bench.open(number)
    bench.until(lambda: ended(client))


def test_silence_is_suspicious_until_a_session_stands(bench: Bench) -> None:
    """The kernel gives up a connection whose other end acknowledges nothing; later that is for BGP to say."""
    _, number = bench.client(1)
    made = bench.loop._numbered[number].socket
    timeout = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert made.getsockopt(*timeout) == module.SILENCE
    assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    bench.do(Trust(number))
    assert made.getsockopt(*timeout) == 0


def test_what_follows_from_actions_is_done_in_the_same_turn(bench: Bench) -> None:
    """Until nothing follows any more."""
    client, number = bench.client(1)
    rounds: Iterator[list[Action]] = iter([[Write(number, b"a")], [Write(number, b"b")], [Write(number, b"c")]])
    bench.notes.settle = lambda: next(rounds, [])  # type: ignore[method-assign]
    bench.turn()
    assert next(rounds, None) is None
    assert bench.read(client, 3) == b"abc"


# -- time


def test_the_core_is_woken_when_something_is_due(bench: Bench) -> None:
    """Not before that, and the loop sleeps until then."""
    assert bench.loop._patience() == -1
    bench.notes.due = 100.5
    assert bench.loop._patience() == 0.5
    bench.turn()
    assert bench.notes.told == []
    bench.now = 100.5
    bench.turn()
    assert bench.notes.told == [("tick", 100.5)]
    bench.notes.due = 90.0
    assert bench.loop._patience() == 0.0


def test_a_loop_that_sleeps_can_be_stopped(bench: Bench) -> None:
    """From a signal handler or, as here, another thread."""
    running = threading.Thread(target=bench.loop.run)
    running.start()
    bench.loop.stop()
    running.join(30)
    assert not running.is_alive()


def test_who_is_told_goodbye_hears_it(bench: Bench) -> None:
    """It is written before the loop ends."""
    client, number = bench.client(1)
    bench.notes.last = [number]
    bench.loop.stop()
    bench.loop.run()
    assert bench.notes.of("leave") == [("leave", bench.now)]
    assert client.recv(100) == b"farewell"
    assert client.recv(100) == b""


@pytest.mark.parametrize("failing", ["settle", "tick"])
def test_what_fails_for_all_ends_the_process_and_is_in_the_log(
    failing: str, bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what happened and where, and without another word to neighbours: those that can keep our routes."""
    client, number = bench.client(1)
    bench.notes.due = bench.now

    def fail(*_: object) -> None:
        bench.notes.actions.append(Write(number, b"too late"))
        raise KeyError("the missing one")

    monkeypatch.setattr(bench.notes, failing, fail)
    with pytest.raises(SystemExit) as end:
        bench.loop.run()
    assert end.value.code == module.FAILED
    said = capsys.readouterr().err
    assert "engine-failed" in said
    assert "the missing one" in said
    assert "in fail" in said
    with pytest.raises(BlockingIOError):
        client.recv(1)


def test_when_little_happens_there_is_time_for_other_things(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after a turn in which much was read."""
    monkeypatch.setattr(module, "QUIET", module.TURN - 5)
    client, number = bench.client(1)
    for said, quiet in ((b"four", 1), (b"fives", 0), (b"six", 1)):
        client.send(said)
        select.select([bench.loop._numbered[number].socket], [], [], 30)
        bench.quiet.clear()
        bench.turn()
        assert len(bench.quiet) == quiet


# -- the daemon's side


@pytest.fixture
def daemon(bench: Bench) -> Iterator[Daemon]:
    """Serve another side."""
    made = Daemon(bench.loop)
    bench.loop.serve(made)
    yield made
    made.far.close()
    made.near.close()


def test_the_daemon_is_served_as_it_wants_to_be_watched(bench: Bench, daemon: Daemon) -> None:
    """For what it says after each turn: reading, writing too, or not at all."""
    fileno = daemon.near.fileno()
    daemon.far.send(b"a")
    daemon.events = select.EPOLLIN | select.EPOLLOUT
    bench.turn()
    daemon.far.send(b"b")
    daemon.events = 0
    bench.turn()
    daemon.far.send(b"c")
    bench.turn()
    daemon.events = select.EPOLLIN
    bench.turn()
    bench.turn()
    both = select.EPOLLIN | select.EPOLLOUT
    assert [call[1:] for call in daemon.calls if call[0] == "ready"] == [
        (fileno, select.EPOLLIN),
        (fileno, both),
        (fileno, select.EPOLLIN),
    ]


def test_a_descriptor_that_is_closed_and_comes_again_is_watched_again(bench: Bench, daemon: Daemon) -> None:
    """Its number may be another socket's at once."""
    daemon.events = 0
    bench.turn()
    daemon.near.close()
    daemon.far.close()
    daemon.far, daemon.near = socket.socketpair()
    daemon.events = select.EPOLLIN
    bench.turn()
    daemon.far.send(b"a")
    bench.turn()
    assert [call[0] for call in daemon.calls if call[0] == "ready"] == ["ready"]


def test_what_is_left_to_do_is_done_between_turns(bench: Bench, daemon: Daemon) -> None:
    """The loop does not sleep before; neighbours are served meanwhile, and after each turn the side is told."""
    client, number = bench.client(1)
    client.send(b"meanwhile")
    daemon.calls.clear()
    daemon.left = 5
    bench.loop._stopped = False
    bench.loop.run()
    assert [call for call in daemon.calls if call[0] == "settled"] == [("settled", 100.0)] * 5
    assert bench.notes.heard == {number: b"meanwhile"}


def test_the_side_is_woken_when_it_has_something_to_do(bench: Bench, daemon: Daemon) -> None:
    """Whichever is first, it or the core."""
    daemon.due, bench.notes.due = 103.0, 105.0
    assert bench.loop._patience() == 3.0
    bench.notes.due = 101.0
    assert bench.loop._patience() == 1.0
