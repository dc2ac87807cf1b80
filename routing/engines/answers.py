"""What the process answers the daemon, as lines of JSON (`wire`) that are written a little at a time.

Called by those who have the socket, `native.control` and `exabgp_server`. Pure. Everything long is an iterator of steps: a step
is a line to be sent, or empty if it was only a part of the work. For each prefix no more is done than to write it down before a
text that all prefixes of a label share.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, Protocol

from routing.bgp.hot import cut
from routing.bgp.routeserver import Bests, RouteServer
from routing.bgp.values import Address, Network
from routing.engines import views, wire
from routing.engines.engine import Best, RouteView, SessionView, Synced
from routing.engines.prefix_text import unpacked
from routing.engines.views import News, Shown

#: A line is closed when it has so many items, or characters.
PART, LONG = 500, 1 << 18
#: Octets of packed prefixes that are texts at once.
_PIECE: Final = 2000
#: Octets of packed prefixes and attributes that may wait for a watcher; anything else that waits counts as a few.
BEHIND: Final = 32 << 20
_FEW: Final = 100
_EVENTS: Final = '{"events": ['


class Shows(Protocol):
    """What is asked of the engine's core."""

    @property
    def server(self) -> RouteServer:
        """The tables."""
        ...

    @property
    def peerings(self) -> Mapping[Address, views.Peering]:
        """Every neighbour with an address, and who came from a range."""
        ...

    @property
    def since(self) -> Mapping[Address, float]:
        """When each session came up."""
        ...


def end(request: int, error: str = "") -> bytes:
    """Return the last line of an answer."""
    return _line({"id": request, "error": error} if error else {"id": request, "result": True})


def patience(request: int) -> bytes:
    """Return a line that says that the answer takes time."""
    return _line({"id": request, "part": []})


def sessions(core: Shows, request: int, now: float) -> Iterator[bytes]:
    """Answer with all sessions."""
    yield from _lines(_part(request), views.sessions(core.server, core.peerings, core.since, now))
    yield end(request)


def routes(core: Shows, request: int, prefix: Network | None, neighbor: str | None) -> Iterator[bytes]:
    """Answer with paths."""
    yield from _lines(_part(request), views.routes(core.server, prefix, neighbor))
    yield end(request)


class Watcher:
    """One who is told what happens; best paths only with `routes`. What waits for it stays packed."""

    def __init__(self, *, routes: bool) -> None:
        """Nothing has happened yet."""
        self.routes = routes
        self._waiting: deque[News] = deque()
        self._size = 0

    def __bool__(self) -> bool:
        """Tell whether anything waits."""
        return bool(self._waiting)

    def put(self, news: Iterable[News]) -> bool:
        """Let news wait; False if too much does."""
        for one in news:
            if self.routes or not isinstance(one, Best | Bests):
                self._waiting.append(one)
                self._size += _size(one)
        return self._size <= BEHIND

    def begin(self, core: Shows) -> Iterator[bytes]:
        """Tell how everything is, then what happened meanwhile, and then that this is all."""
        # If not, it will be news.
        synced = core.server.converged
        known = views.bests(core.server) if self.routes else ()
        yield from _lines(_EVENTS, chain(views.up(core.server, core.peerings), known))
        if synced:
            self.put((Synced(),))
        yield from self.news()

    def news(self) -> Iterator[bytes]:
        """Tell what waits."""
        return _lines(_EVENTS, self._take())

    def _take(self) -> Iterator[News]:
        while self._waiting:
            one = self._waiting.popleft()
            self._size -= _size(one)
            yield one


def _size(news: News) -> int:
    if not isinstance(news, Bests):
        return _FEW
    # Nobody else may hold the path any more, and a neighbour may make attributes as long as it likes.
    return len(news.nlri) + (0 if news.path is None else len(news.path.octets)) + _FEW


def _lines(head: str, items: Iterable[SessionView | Shown | News | None]) -> Iterator[bytes]:
    """Write items into lines, as many as fit."""
    texts: list[str] = []
    size = 0
    for item in items:
        for some in _texts(item):
            texts += some
            size += sum(map(len, some))
            if len(texts) >= PART or size >= LONG:
                yield _close(head, texts)
                texts, size = [], 0
        yield b""
    if texts:
        yield _close(head, texts)


def _close(head: str, texts: list[str]) -> bytes:
    return f"{head}{', '.join(texts)}]}}\n".encode()


def _texts(item: SessionView | Shown | News | None) -> Iterator[list[str]]:
    if isinstance(item, Bests):
        item = views.best(item)
    if isinstance(item, Shown):
        yield from _shown(item)
    elif isinstance(item, SessionView):
        yield [json.dumps(wire.session_to_json(item))]
    elif item is not None:
        yield [json.dumps(wire.event_to_json(item))]


def _shown(shown: Shown) -> Iterator[list[str]]:
    """Write the view of every prefix, those of a piece at once."""
    view = shown.view
    data = wire.route_to_json(view) if isinstance(view, RouteView) else wire.event_to_json(view)
    del data["prefix"]
    rest = json.dumps(data)[1:]
    for piece in cut(shown.nlri, _PIECE):
        yield [f'{{"prefix": "{prefix}", {rest}' for prefix in unpacked(piece, shown.family)]


def _part(request: int) -> str:
    return f'{{"id": {json.dumps(request)}, "part": ['


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode() + b"\n"
