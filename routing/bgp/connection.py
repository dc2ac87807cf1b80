"""One connection with a neighbour: octets become the events of its machine.

Made and kept by `routing.bgp.peering`, which says what several connections are to each other. No I/O. UPDATEs of an
established session pass through in bulk: nothing is done for a single one.
"""

from __future__ import annotations

from routing.bgp import messages
from routing.bgp.effects import RefreshAsked, Updates
from routing.bgp.fsm import Event
from routing.bgp.hot import split
from routing.bgp.machine import Admission, Common, Machine
from routing.bgp.negotiation import LONG_LIMIT, agree
from routing.bgp.notify import MESSAGE_HEADER_ERROR, OPEN_ERROR, UPDATE_ERROR, Notify
from routing.bgp.scan import Message
from routing.bgp.values import Address
from routing.engines.engine import SessionState

#: Messages of hot.split that are whole UPDATEs; all others have two parts.
_UPDATE_PARTS = 4
_ONLY_UPDATES = {_UPDATE_PARTS}

_UNSUPPORTED_VERSION = 1
_MALFORMED_LIST = 1


class Connection(Machine):
    """A machine that reads what comes over its connection."""

    __slots__ = ("_rest",)

    def __init__(self, common: Common, *, outgoing: bool) -> None:
        """Begin idle and without TCP."""
        super().__init__(common, outgoing=outgoing)
        self._rest = b""

    def attach(self, number: int, local: Address) -> None:
        """TCP is up; the caller knows the connection by `number`, our end of it is `local`."""
        self.number = number
        self.local = local
        self._rest = b""

    def receive(self, data: bytes, now: float) -> None:
        """Take octets of the neighbour."""
        data = self._rest + data if self._rest else data
        fault = None
        while not self._waits():
            limit = self._limit
            found, consumed, fault = split(data, limit)
            read = self._take(found, now)
            if self.number is None:
                return
            if self._waits():
                consumed, fault = sum(map(_size, found[:read])), None
            data = data[consumed:]
            # Behind an OPEN messages may be longer.
            if fault is None or limit == self._limit:
                break
        self._rest = data
        if self._waits() and len(data) > LONG_LIMIT:
            self.resume(now)  # who says so much wants no other connection
        if fault is not None:
            self.fire(Event.HEADER_ERROR, now, Notify(MESSAGE_HEADER_ERROR, *fault))

    def resume(self, now: float) -> None:
        """Answer the OPEN that was postponed, and read on."""
        self.agreement, self.postponed = self.postponed, None
        self.fire(Event.OPEN, now)
        self.receive(b"", now)

    def _waits(self) -> bool:
        return self.postponed is not None

    @property
    def _limit(self) -> int:
        return messages.SHORT_LIMIT if self.agreement is None else self.agreement.limit

    def _take(self, found: list[Message], now: float) -> int:
        """Act on messages; return how many were read. Those behind an OPEN may have to wait with it."""
        if found and self.state is SessionState.ESTABLISHED:
            self.restart_hold(now)
            if set(map(len, found)) == _ONLY_UPDATES:
                self._deliver(found)
                return len(found)
        run: list[Message] = []
        for place, message in enumerate(found):
            if len(message) == _UPDATE_PARTS and self.state is SessionState.ESTABLISHED:
                run.append(message)
                continue
            self._deliver(run)
            run = []
            self._read(message[0], message[1], now)
            if self.number is None or self._waits():
                return place + 1
        self._deliver(run)
        return len(found)

    def _deliver(self, found: list[Message]) -> None:
        if found and self.number is not None:
            self.common.effects.append(Updates(self.number, found))

    def _read(self, kind: int, body: bytes, now: float) -> None:
        if kind == messages.KEEPALIVE:
            self.fire(Event.KEEPALIVE, now)
        elif kind == messages.OPEN:
            self._read_open(body, now)
        elif kind == messages.NOTIFICATION:
            notify = messages.decode_notification(body)
            version = (notify.code, notify.subcode) == (OPEN_ERROR, _UNSUPPORTED_VERSION)
            self.fire(Event.VERSION_ERROR if version else Event.NOTIFICATION, now, notify)
        elif self.state is not SessionState.ESTABLISHED:
            self.fire(Event.UPDATE, now)  # too early, as a ROUTE-REFRESH is
        elif kind == messages.UPDATE:
            # A whole one was delivered: this one's lengths do not agree.
            self.fire(Event.UPDATE_ERROR, now, Notify(UPDATE_ERROR, _MALFORMED_LIST))
        else:
            self._read_refresh(body, now)

    def _read_open(self, body: bytes, now: float) -> None:
        delayed = Event.DELAY_OPEN_EXPIRES in self.timers
        if self.local is None or not (delayed or self.state is SessionState.OPENSENT):
            self.fire(Event.OPEN, now)
            return
        try:
            agreement = agree(self.common.ours, messages.decode_open(body), self.common.asn, self.local)
        except Notify as notify:
            self.fire(Event.OPEN_ERROR, now, notify)
            return
        admission = self.common.admit(self, agreement, now)
        if admission is Admission.NOW:
            self.agreement = agreement
            self.fire(Event.DELAYED_OPEN if delayed else Event.OPEN, now)
        elif admission is Admission.LATER:
            self.postponed = agreement

    def _read_refresh(self, body: bytes, now: float) -> None:
        try:
            family, subtype = messages.decode_refresh(body)
        except Notify as notify:
            self.fire(Event.REFRESH_ERROR, now, notify)
            return
        self.fire(Event.REFRESH, now)
        # Beginning and end of an enhanced refresh (RFC 7313) are for those who offer that.
        agreed = self.agreement.format.families if self.agreement is not None else frozenset()
        if family is not None and family in agreed and subtype == 0:
            self.common.effects.append(RefreshAsked(family, subtype))


def _size(message: Message) -> int:
    """Return how many octets a message was."""
    return messages.HEADER + sum(map(len, message[1:])) + 2 * (len(message) - 2)
