"""UPDATE messages of one session into the tables: the short way for the ordinary, the complete one for all else.

Called by an engine's process for each message that `hot.split` cut out. Pure. The short way takes attributes that are known
by their octets, or that `hot.scan` finds ordinary, and prefixes of well-formed NLRI; whatever else comes is read by
`routing.bgp.update`, which knows what RFC 7606 wants of it and alone raises `Notify`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from routing.bgp.hot import lift, normal
from routing.bgp.nlri import WIDTHS
from routing.bgp.notify import Notify
from routing.bgp.paths import Path
from routing.bgp.peers import Peer
from routing.bgp.routeserver import RouteServer
from routing.bgp.update import Format, read
from routing.bgp.values import Family

_MP_REACH = b"\x0e"
_CODES = {family: family.value[0] << 8 | family.value[1] for family in Family}


class Intake:
    """What one session says. `detail` tells what was wrong last with a message that did not end the session."""

    __slots__ = ("_families", "_format", "_ipv4", "_peer", "_server", "_short", "detail")

    def __init__(self, server: RouteServer, peer: Peer, format_: Format) -> None:
        """Read for this neighbour in this format."""
        self._server, self._peer, self._format = server, peer, format_
        self._short = format_.four_octet
        self._ipv4 = Family.IPV4 in format_.families
        self._families = {_CODES[family]: family for family in format_.families}
        self.detail = ""

    def take(self, messages: Iterable[tuple[Any, ...]], now: float) -> None:
        """Take in messages of `hot.split`. Raises Notify if the session must be reset."""
        if not self._server.is_up(self._peer):  # the neighbour was removed, which its session may not know yet
            return
        for message in messages:
            if len(message) != 4:  # noqa: PLR2004 - type, withdrawn, attributes, NLRI
                raise Notify(3, 1, text="the lengths within an UPDATE do not agree")
            _, withdrawn, attributes, nlri = message
            if not self._briefly(withdrawn, attributes, nlri):
                self._closely(withdrawn, attributes, nlri, now)

    def _briefly(self, withdrawn: bytes, attributes: bytes, nlri: bytes) -> bool:
        """Take in an ordinary message; False, with nothing done, if it is not."""
        if not self._short:
            return False
        try:
            if nlri or not attributes:
                return self._ipv4 and self._plain(withdrawn, attributes, nlri)
            return not withdrawn and self._multiprotocol(attributes)
        except ValueError:
            return False

    def _plain(self, withdrawn: bytes, attributes: bytes, nlri: bytes) -> bool:
        """IPv4 as in RFC 4271: no multiprotocol attribute."""
        tables, peer = self._server.tables, self._peer
        if nlri:
            # Of octets in a path of the tables, MP_REACH_NLRI would be the first.
            if attributes[1:2] == _MP_REACH or (path := peer.ordinary(attributes, tables.ours)) is None:
                return False
            nlri = normal(nlri, 32)
            if withdrawn:
                tables.withdraw(peer, Family.IPV4, normal(withdrawn, 32))
            tables.announce(peer, Family.IPV4, path, nlri)
        elif withdrawn:
            tables.withdraw(peer, Family.IPV4, normal(withdrawn, 32))
        else:
            return False
        return True

    def _multiprotocol(self, attributes: bytes) -> bool:
        """RFC 4760: the prefixes are in the attributes."""
        lifted = lift(attributes)
        if lifted is None:
            return False
        octets, reach, nlri, unreach, withdrawn = lifted
        if not (nlri or withdrawn):
            return False
        to, of = self._families.get(reach), self._families.get(unreach)
        if (reach and to is None) or (unreach and of is None):
            return False
        # RFC 7606 5.2: attributes that belong to no NLRI can end the session.
        if to is None and octets:
            return False
        # Both are checked before anything is taken in.
        gone = normal(withdrawn, WIDTHS[of]) if of is not None else b""
        path = None
        if to is not None:
            nlri = normal(nlri, WIDTHS[to])
            path = self._reached(octets, to)
            if path is None:
                return False
        tables, peer = self._server.tables, self._peer
        if of is not None:
            tables.withdraw(peer, of, gone)
        if to is not None and path is not None:
            tables.announce(peer, to, path, nlri)
        return True

    def _reached(self, octets: bytes, family: Family) -> Path | None:
        """Return the path of lifted octets if its next hop may stand for this family."""
        path = self._peer.ordinary(octets, self._server.tables.ours)
        if path is None or (len(path.next_hop) == 4) != (family is Family.IPV4):  # noqa: PLR2004 - IPv4
            allowed = path is not None and family is Family.IPV4 and self._format.extended_next_hop
            return path if allowed else None
        return path

    def _closely(self, withdrawn: bytes, attributes: bytes, nlri: bytes, now: float) -> None:
        server, peer = self._server, self._peer
        update = read(withdrawn, attributes, nlri, self._format)
        self.detail = update.detail or self.detail
        for family, gone in update.withdrawn:
            server.tables.withdraw(peer, family, gone)
        for family, octets, prefixes in update.announced:
            server.tables.announce(peer, family, peer.path(octets, server.tables.ours), prefixes)
        for family, bad in update.malformed:
            server.tables.refuse(peer, family, bad)
        if update.end_of_rib is not None:
            server.end_of_rib(peer, update.end_of_rib, now)
