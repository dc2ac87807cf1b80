"""Cases of the interop harness without sockets and clock: our own engine in this process as the device, and devices that err.

Each `Mutant` is that engine with one fault between it and the members. A case that no mutant makes fail proves nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from routing.bgp.attributes import Attribute, Code, join, split
from routing.bgp.hot import split as split_messages
from routing.bgp.messages import KEEPALIVE, NOTIFICATION, OPEN, UPDATE, encode_notification, message
from routing.bgp.notify import Notify
from routing.engines.native.core import Core, Hang, Write
from routing.interop.cases import world
from routing.interop.dialects import edgeway
from routing.interop.play import Play
from routing.interop.script import WITNESSES, Case, Result, Verdict
from routing.interop.speaker import Speaker

_STEP = 0.05
_ROLE = bytes.fromhex("0203090101")


class Mutant:
    """A device without fault. What is said to it is `hears`, what it says `says`; both get kind and body of a message."""

    hangs = True
    #: Whether it knows who its clients are.
    roles = True

    def says(self, kind: int, body: bytes) -> bytes:
        """Return what comes instead of a message."""
        return message(kind, body)

    def answers(self, kind: int, body: bytes) -> Notify | None:
        """Return a NOTIFICATION that the device answers a message with, by itself."""
        return None

    def echoes(self, kind: int, body: bytes) -> bool:
        """Tell whether what comes in goes out to everybody as it is."""
        return False


class Silent(Mutant):
    """It passes nothing on."""

    def says(self, kind: int, body: bytes) -> bytes:
        """Drop UPDATEs."""
        return b"" if kind == UPDATE else message(kind, body)


class Patient(Mutant):
    """It never ends a session, nor says that anything is wrong."""

    hangs = False

    def says(self, kind: int, body: bytes) -> bytes:
        """Drop NOTIFICATIONs."""
        return b"" if kind == NOTIFICATION else message(kind, body)


class Vague(Mutant):
    """It ends sessions with a NOTIFICATION that says nothing."""

    def says(self, kind: int, body: bytes) -> bytes:
        """Say another NOTIFICATION."""
        return encode_notification(Notify(6, 0)) if kind == NOTIFICATION else message(kind, body)


class Harsh(Mutant):
    """It ends a session at the first UPDATE with attributes."""

    def answers(self, kind: int, body: bytes) -> Notify | None:
        """End the session."""
        return Notify(3, 1) if kind == UPDATE and len(body) > 4 else None


class Picky(Mutant):
    """It takes no OPEN."""

    def answers(self, kind: int, body: bytes) -> Notify | None:
        """Refuse."""
        return Notify(2, 0) if kind == OPEN else None


class Sticky(Mutant):
    """It withdraws nothing."""

    def says(self, kind: int, body: bytes) -> bytes:
        """Drop withdrawals."""
        if kind != UPDATE:
            return message(kind, body)
        found = struct.unpack_from("!H", body)[0]
        withdraws = found or (body[4:6] in (b"\x80\x0f", b"\x90\x0f") and len(body) > 10)
        return b"" if withdraws else message(kind, body)


class Repeating(Mutant):
    """What it hears it tells everybody as it is, also who said it."""

    def echoes(self, kind: int, body: bytes) -> bool:
        """Repeat it."""
        return kind == UPDATE and len(body) > 4


class Nameless(Mutant):
    """Its OPEN says another AS, and no capability but its role, which is that of a client."""

    def says(self, kind: int, body: bytes) -> bytes:
        """Say another OPEN."""
        if kind != OPEN:
            return message(kind, body)
        return message(
            OPEN, body[:1] + struct.pack("!HH", 64999, 1) + body[5:9] + bytes((5,)) + bytes.fromhex("0203090102")
        )


class Role(Mutant):
    """It says that it is a route server (RFC 9234), and does nothing about it."""

    roles = False

    def says(self, kind: int, body: bytes) -> bytes:
        """Add a capability."""
        if kind != OPEN:
            return message(kind, body)
        return message(OPEN, body[:9] + bytes((body[9] + len(_ROLE),)) + body[10:] + _ROLE)


class Breathless(Mutant):
    """It says KEEPALIVE once."""

    def __init__(self) -> None:
        self.said = 0

    def says(self, kind: int, body: bytes) -> bytes:
        """Drop KEEPALIVEs."""
        self.said += kind == KEEPALIVE
        return b"" if kind == KEEPALIVE and self.said > 3 else message(kind, body)


class Changing(Mutant):
    """It changes an attribute of every route, drops it, or adds one."""

    def __init__(self, code: int, value: bytes | None) -> None:
        self.code, self.value = code, value

    def says(self, kind: int, body: bytes) -> bytes:
        """Change attributes."""
        if kind != UPDATE:
            return message(kind, body)
        gone = 2 + struct.unpack_from("!H", body)[0]
        end = gone + 2 + struct.unpack_from("!H", body, gone)[0]
        found, _ = split(body[gone + 2 : end])
        if not found or found[0].code == Code.MP_UNREACH_NLRI:
            return message(kind, body)
        changed = join(self._changed(found))
        return message(UPDATE, body[:gone] + struct.pack("!H", len(changed)) + changed + body[end:])

    def _changed(self, found: list[Attribute]) -> Iterator[Attribute]:
        for attribute in found:
            if attribute.code != self.code:
                yield attribute
            elif self.value is not None:
                yield attribute._replace(value=self.value + attribute.value)
        if self.value is not None and all(attribute.code != self.code for attribute in found):
            yield Attribute(0xC0, self.code, self.value or b"\0\0\0\0")


MUTANTS: dict[str, Callable[[], Mutant]] = {
    "silent": Silent,
    "patient": Patient,
    "vague": Vague,
    "harsh": Harsh,
    "picky": Picky,
    "sticky": Sticky,
    "repeating": Repeating,
    "nameless": Nameless,
    "role": Role,
    "breathless": Breathless,
    # Its own AS in front, as any router would.
    "prepending": lambda: Changing(Code.AS_PATH, bytes.fromhex("02010000fbf4")),
    "adding": lambda: Changing(214, b"\1"),
    **{f"without {code}": partial(Changing, code, None) for code in (1, 2, 3, 4, 6, 7, 8, 14, 16, 17, 32, 213)},
    **{f"with {code}": partial(Changing, code, bytes(4)) for code in (5, 6, 7, 9, 10, 17, 213)},
}


class Device:
    """The engine, its members' connections, and time that passes when nothing else happens."""

    def __init__(self, mutant: Mutant) -> None:
        self.now = 1000.0
        self.mutant = mutant
        self.world = world()
        speaker = edgeway.speaker(self.world)
        neighbors = tuple(replace(one, client=one.client and mutant.roles) for one in speaker.neighbors)
        self.core = Core(replace(speaker, neighbors=neighbors), self.now)
        self.witnesses = {part: Speaker(member) for part, member in self.world.cast(WITNESSES).items()}
        self._lines: dict[int, Speaker] = {}
        self._next = 0

    def play(self, case: Case, patience: float = 10.0) -> Verdict:
        """Play a case to its end."""
        cast = {part: Speaker(member) for part, member in self.world.cast(case.name).items()}
        cast |= {name: Speaker(cast[part].me) for name, part in case.twins.items()}
        speakers = cast | self.witnesses
        play = Play(case, speakers, patience)
        while (verdict := play.turn(self.now)) is None:
            if play.stops:
                self._stop()
            if not self._turn(speakers.values()):
                self.now += _STEP
                self._tick()
        return verdict

    def _turn(self, speakers: Iterable[Speaker]) -> bool:
        before = sum(speaker.heard for speaker in speakers), self._next
        for speaker in speakers:
            speaker.tick(self.now)
            if speaker.wants:
                self._connect(speaker)
            self._send(speaker)
        self._settle()
        return before != (sum(speaker.heard for speaker in speakers), self._next)

    def _connect(self, speaker: Speaker) -> None:
        self._next += 1
        for line in [line for line, other in self._lines.items() if other is speaker]:
            self._break(line)
        self._lines[self._next] = speaker
        speaker.connected()
        if not self.core.accepted(self._next, speaker.me.address, self.world.addresses[speaker.me.family], self.now):
            self._hang(self._next)

    def _send(self, speaker: Speaker) -> None:
        line = next((line for line, other in self._lines.items() if other is speaker), None)
        if line is None or not speaker.open:
            return
        data, speaker.outbox = bytes(speaker.outbox), bytearray()
        if data:
            self._hear(line, speaker, data)
        if speaker.hangs and line in self._lines:
            self._break(line)
            speaker.lost()

    def _hear(self, line: int, speaker: Speaker, data: bytes) -> None:
        at = 0
        while at + 19 <= len(data):
            size, kind = int.from_bytes(data[at + 16 : at + 18], "big"), data[at + 18]
            body = data[at + 19 : at + size]
            if (notify := self.mutant.answers(kind, body)) is not None:
                speaker.received(encode_notification(notify), self.now)
                self._break(line)
                speaker.lost()
                return
            if self.mutant.echoes(kind, body):
                for other in set(self._lines.values()):
                    if other.established:
                        other.received(message(kind, body), self.now)
            at += max(size, 19)
        self.core.received(line, data, self.now)

    def _settle(self) -> None:
        while actions := self.core.settle():
            for action in actions:
                if isinstance(action, Write) and action.connection in self._lines:
                    self._said(self._lines[action.connection], bytes(action.data))
                elif isinstance(action, Hang) and self.mutant.hangs:
                    self._hang(action.connection)
        self.core.take_events()

    def _said(self, speaker: Speaker, data: bytes) -> None:
        found, consumed, fault = split_messages(data, 65535)
        assert (consumed, fault) == (len(data), None)
        at = 0
        for _ in found:
            size = int.from_bytes(data[at + 16 : at + 18], "big")
            speaker.received(self.mutant.says(data[at + 18], data[at + 19 : at + size]), self.now)
            at += size

    def _hang(self, line: int) -> None:
        speaker = self._lines.pop(line, None)
        if speaker is not None:
            speaker.lost()

    def _break(self, line: int) -> None:
        self._lines.pop(line, None)
        self.core.disconnected(line, self.now)

    def _tick(self) -> None:
        due = self.core.deadline()
        if due is not None and due <= self.now:
            self.core.tick(self.now)

    def _stop(self) -> None:
        for line, speaker in list(self._lines.items()):
            speaker.received(self.mutant.says(NOTIFICATION, bytes((6, 2))), self.now)
            if self.mutant.hangs:
                self._break(line)
                speaker.lost()


def started(mutant: Mutant) -> Device:
    """Return a device whose witnesses are up, if it lets them."""
    from routing.interop.run import _WITNESSES  # noqa: PLC0415 - the case that brings them up

    device = Device(mutant)
    device.play(_WITNESSES, 2.0)
    return device


def verdict(case: Case) -> Verdict:
    """Return what our own engine gets."""
    return started(Mutant()).play(case)


def caught(case: Case, mutants: str) -> list[str]:
    """Return those of the mutants, given by name and with commas, that a case is content with."""
    missed = []
    for name in mutants.split(","):
        found = started(MUTANTS[name]()).play(case, 3.0)
        if found.result not in (Result.FAIL, Result.DIFFERS):
            missed.append(f"{name}: {found.result.value}")
    return missed


def parameters(cases: Iterable[Case], table: dict[str, str]) -> list[Any]:
    """Return each case with the mutants that it must catch; every case must have some."""
    cases = tuple(cases)
    assert {case.name.partition("/")[2] for case in cases} == set(table)
    return [pytest.param(case, table[case.name.partition("/")[2]], id=case.name) for case in cases]
