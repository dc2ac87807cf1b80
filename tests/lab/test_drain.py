"""A gateway is taken out of service on purpose: no packet is lost, and what cannot go elsewhere is named."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress

import pytest

from tests.lab.zone import Zone, inside
from tests.support.waiting import eventually

SERVER, PORT = "198.51.100.10", 7300


class Stream:
    """Datagrams from a guest to the server that sends each back; what did not return was lost."""

    def __init__(self, zone: Zone, guest: str) -> None:
        """Begin, and go on until stopped."""
        with inside(zone.pid(guest)):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((SERVER, PORT))
        self._socket.settimeout(2)
        self._on = True
        self.sent, self.back = 0, set[int]()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while self._on:
            self._socket.send(str(self.sent).encode())
            self.sent += 1
            time.sleep(0.005)  # the pace of the stream

    def _receive(self) -> None:
        with suppress(TimeoutError, OSError):
            while True:
                self.back.add(int(self._socket.recv(64)))

    def lost(self) -> int:
        """Stop, wait for the last to come back, and count."""
        self._on = False
        for thread in self._threads:
            thread.join()
        self._socket.close()
        return self.sent - len(self.back)


@pytest.fixture
def whole(zone: Zone) -> Zone:
    """The zone, which the test damages."""
    zone.mend()
    zone.green()
    return zone


def _echo(zone: Zone) -> socket.socket:
    with inside(zone.pid("server")):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", PORT))

    def serve() -> None:
        with suppress(OSError):
            while True:
                data, whom = server.recvfrom(64)
                server.sendto(data, whom)

    threading.Thread(target=serve, daemon=True).start()
    return server


def test_a_drained_host_names_the_flows_that_end_with_it(whole: Zone) -> None:
    """The state of a guest's translated flow is on its host alone; nothing of the host's own is withdrawn."""
    zone = whole
    echo = zone.serve("server", 7301)
    flow = zone.connect("r1", SERVER, 7301)
    try:
        said = zone.out("h1", "edgeway", "drain", "--wait", "2", "--json")
        assert f'"{SERVER}:7301"' in said
        assert '"drained": true' in said
        assert flow.echo("goes on") == "goes on"
    finally:
        zone.out("h1", "edgeway", "drain", "--undo")
        flow.close()
        echo.close()
    assert not zone.show("h1", "drain")["drained"]
    zone.green()


def test_a_drained_gateway_ends_without_losing_a_packet(whole: Zone) -> None:
    """Streams from both hosts go on through the other gateway, whichever carried them; then this one vanishes."""
    zone, server, gateway, other = whole, _echo(whole), "gw2", "gw1"
    streams = [Stream(zone, guest) for guest in ("r1", "r2")]
    eventually(lambda: all(len(s.back) > 100 for s in streams), within=60, what="the streams flow")
    said = zone.out(gateway, "edgeway", "drain", "--wait", "60")
    assert f"{gateway} is drained" in said
    assert "nobody sends through it any more" in said
    assert "0 flows have their state only here" in said
    Zone.damaged = True
    os.kill(zone.pid(gateway), signal.SIGKILL)
    reached = [len(s.back) for s in streams]
    eventually(
        lambda: all(len(s.back) > n + 200 for s, n in zip(streams, reached, strict=True)), within=60, what="they go on"
    )
    assert [stream.lost() for stream in streams] == [0, 0]
    assert not zone.show(other, "drain")["drained"]
    server.close()
