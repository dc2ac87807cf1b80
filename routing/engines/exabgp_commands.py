# ruff: noqa: SLF001 - inside another program, whose parts have no types
"""Our own commands inside ExaBGP's process: what the API process asks for, done at once and for many neighbours.

Runs in ExaBGP's process (see `routing.engines.exabgp_wrapper`). ExaBGP's own `announce attributes` formats two log lines per
route and neighbour, matches neighbours by one regular expression per pair, and never reaches the sessions of a range.
The text of attributes is still parsed and encoded by ExaBGP. Sessions go by the number they got when they came up. Each
command is answered by `done` or `error`, in order::

    @announce SESSION,SESSION next-hop ... ; PREFIX PREFIX ...
    @withdraw SESSION,SESSION ; PREFIX PREFIX ...
    @eor SESSION 4|6
    @reload                    read the configuration again
    @reset SESSION             end it; it comes back as after a restart of ours
    @reset                     do so with all that the API process has not seen come up
    @cease SUBCODE             end every session with a NOTIFICATION, for good
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

from exabgp.bgp.fsm import FSM
from exabgp.bgp.message import Action
from exabgp.bgp.message.update import Update
from exabgp.bgp.message.update.attribute import Attributes
from exabgp.bgp.message.update.nlri import CIDR, INET
from exabgp.protocol.family import AFI, SAFI, Family
from exabgp.protocol.ip import NoNextHop

_FAMILIES = {4: (AFI.ipv4, socket.AF_INET), 6: (AFI.ipv6, socket.AF_INET6)}


class Batch:
    """Prefixes with one attribute set, or withdrawn: encoded once for all sessions that agreed on the same."""

    def __init__(self, nlris: list[Any], attributes: Any) -> None:
        """Take what ExaBGP encodes."""
        self._update = Update(nlris, attributes)
        self._encoded: dict[tuple[Any, ...], bytes] = {}

    def messages(self, negotiated: Any, include_withdraw: bool = True) -> list[bytes]:  # noqa: ARG002, FBT001, FBT002 - ExaBGP's signature
        """Return the UPDATE messages, one behind the other, for a session; withdrawals are never left out."""
        kind = (
            negotiated.asn4,
            negotiated.msg_size,
            negotiated.local_as == negotiated.peer_as,
            tuple(negotiated.families),
        )
        found = self._encoded.get(kind)
        if found is None:
            found = self._encoded[kind] = b"".join(self._update.messages(negotiated))
        return [found] if found else []


class Commands:
    """The commands, by name, on one reactor."""

    def __init__(self, api: Any, reactor: Any) -> None:
        """Take ExaBGP's parser of routes and its reactor."""
        self._api, self._reactor = api, reactor
        self._commands: dict[str, Callable[[str, str], None]] = {
            "@announce": self._announce,
            "@withdraw": self._withdraw,
            "@eor": self._end_of_rib,
            "@reload": self._reload,
            "@reset": self._reset,
            "@cease": self._cease,
        }

    def run(self, service: str, line: str) -> None:
        """Do what a line says and answer."""
        name, _, rest = line.partition(" ")
        try:
            self._commands[name](service, rest)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end ExaBGP and every session with it
            self._reactor.processes.write(
                service, json.dumps({"type": "refused", "command": line[:500], "error": repr(error)})
            )
            self._reactor.processes.answer_error(service)
        else:
            self._reactor.processes.answer_done(service)

    def _peers(self, numbers: str) -> Iterator[Any]:
        """Return the peers whose sessions these are; a session that is over is nobody's."""
        wanted = set(map(int, numbers.split(",")))
        for peer in self._reactor._peers.values():
            if peer.fsm == FSM.ESTABLISHED and _number(peer) in wanted:
                yield peer

    def _announce(self, _service: str, rest: str) -> None:
        sessions, _, rest = rest.partition(" ")
        text, _, prefixes = rest.partition(" ; ")
        changes = self._api.api_route(f"announce route {'::/0' if ':' in prefixes else '0.0.0.0/0'} {text}")
        if not changes:
            raise ValueError(str(self._api.configuration.error))
        next_hop = changes[0].nlri.nexthop
        self._queue(sessions, Batch(_nlris(prefixes, Action.ANNOUNCE, next_hop), changes[0].attributes))

    def _withdraw(self, _service: str, rest: str) -> None:
        sessions, _, prefixes = rest.partition(" ; ")
        self._queue(sessions, Batch(_nlris(prefixes, Action.WITHDRAW, NoNextHop), Attributes()))

    def _queue(self, sessions: str, batch: Batch) -> None:
        for peer in self._peers(sessions):
            peer.neighbor.rib.outgoing.add(batch)

    def _end_of_rib(self, _service: str, rest: str) -> None:
        session, family = rest.split()
        for peer in self._peers(session):
            peer.neighbor.eor.append(Family(_FAMILIES[int(family)][0], SAFI.unicast))

    def _reset(self, _service: str, rest: str) -> None:
        older = self._reactor.processes.older_sessions
        for peer in self._peers(rest) if rest else self._reactor._peers.values():
            number = _number(peer)
            if peer.established() and number is not None and (rest or number <= older):
                peer.reestablish()

    def _cease(self, _service: str, rest: str) -> None:
        for peer in self._reactor._peers.values():
            part(peer, int(rest))

    def _reload(self, service: str, _rest: str) -> None:
        done = self._reactor.reload()
        error = "" if done else str(self._reactor.configuration.error)
        self._reactor.processes.write(service, json.dumps({"type": "reloaded", "error": error}))


def _number(peer: Any) -> int | None:
    """Return the number of a peer's session, None until it has one."""
    number: int | None = getattr(peer.neighbor, "session", None)
    return number


def part(peer: Any, subcode: int) -> None:
    """Cease (RFC 4486 3). By itself ExaBGP closes a session with graceful restart in silence: its routes would stay."""
    if peer.established():
        peer.neighbor["capability"]["graceful-restart"] = False
        peer.teardown(subcode, restart=False)
    else:
        peer.remove()


def _nlris(prefixes: str, action: Any, next_hop: Any) -> list[Any]:
    afi, kind = _FAMILIES[6 if ":" in prefixes else 4]
    nlris = []
    for prefix in prefixes.split():
        address, _, length = prefix.partition("/")
        nlri = INET(afi, SAFI.unicast, action)
        nlri.cidr = CIDR(socket.inet_pton(kind, address), int(length))
        nlri.nexthop = next_hop
        nlris.append(nlri)
    return nlris
