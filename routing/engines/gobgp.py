"""The GoBGP engine: one gobgpd process per speaker, kept what it must be through its API (design 0001).

gobgpd gets no configuration file. Its reload on SIGHUP applies only the first of several changed neighbours, forgets no
dynamic neighbour and reports no error, so everything goes over the API, which says what failed. What was applied is
remembered beside the socket: a new daemon adopts a running gobgpd and changes only what differs.

What gobgpd 3.10 cannot do, and what is done instead:
- It withdraws nothing when an export policy becomes narrower: another policy is put in between that makes it do so.
- It can only close a session that announces too many prefixes, and keeps it closed: it does so far above the limit and
  lets the neighbour come again within two minutes. What is above `max_prefixes` is refused by policy, a second later.
- A transparent speaker cannot originate routes; `apply` refuses that.
- It accepts a route with our cluster id in its CLUSTER_LIST and reflects it to nobody.
- It offers RFC 8950 (IPv4 routes with IPv6 next hops) to every neighbour with IPv4, and sends such routes to those
  that did not accept the offer: a policy keeps them from neighbours without `extended_next_hop`.
- It counts what it accepts and advertises by running the policies again: sessions have these counts while tables are
  small, and above that `accepted` is what does not loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from appliance.model.errors import EngineError
from routing.bgp.values import Address, Announcement, Mode, Network, Speaker
from routing.engines.engine import Event, Lost, RouteView, Session, SessionState, SessionView
from routing.engines.gobgp_apply import Memory, configure, originate
from routing.engines.gobgp_client import Client
from routing.engines.gobgp_config import Config, compile_speaker
from routing.engines.gobgp_limits import Limits
from routing.engines.gobgp_lists import list_routes, list_sessions
from routing.engines.gobgp_names import Names
from routing.engines.gobgp_watch import follow, settle
from routing.engines.process import Backoff, Process

_log = structlog.get_logger(__name__)

#: How long a gobgpd may take from its start to its first answer.
_START: Final = 20.0
#: How often the log is trimmed and neighbours over their limit are let in again.
_CARE: Final = 60.0
#: How often neighbours with a limit are looked at.
_LIMITS: Final = 1.0
#: After a restart: how long neighbours are waited for at least.
_SETTLE: Final = 30.0


@dataclass(eq=False)
class _Life:
    """One life of the process. `awaited` are the neighbours whose routes must be back before `Synced`."""

    client: Client
    awaited: frozenset[Address]
    originated: dict[Network, Announcement] | None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class GoBgpEngine:
    """One gobgpd; its files (socket, pid, log, digests) are in `directory`, which belongs to it alone."""

    def __init__(self, directory: Path, command: tuple[str, ...] = ("gobgpd",)) -> None:
        """`command` may enter a namespace first."""
        self._directory = directory
        self._socket = directory / "state" / "gobgpd.sock"
        self._memory = Memory(directory / "gobgpd.digests")
        api = ("--api-hosts", f"unix://{self._socket}", "--pprof-disable", "--log-level", "warn", "--log-plain")
        self._process = Process("gobgpd", (*command, *api), {"GOGC": "400"}, directory)
        self._lock = asyncio.Lock()
        self._applied: Speaker | None = None
        self._whole = False  # nothing of a later speaker was begun
        self._wanted: Speaker | None = None
        self._life: _Life | None = None
        self._alive = asyncio.Event()
        self._names = Names(())
        self._limits = Limits()
        self._up: set[Address] = set()
        self._watched = False
        self._supervisor: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    async def apply(self, speaker: Speaker) -> None:
        """Start or adopt gobgpd and make it `speaker`; the second call with an equal value does nothing."""
        async with self._lock:
            if self._closed.is_set():
                raise EngineError(f"{speaker.name}: the engine was closed")
            if self._whole and speaker == self._applied and self._process.alive():
                return
            await self._make(speaker)
            if self._supervisor is None:
                self._supervisor = asyncio.create_task(self._supervise(), name=f"gobgpd-{speaker.name}")

    async def sessions(self) -> tuple[SessionView, ...]:
        """Return one view per neighbour with an address and per dynamic session."""
        speaker, client = self._use()
        return await list_sessions(client, speaker, time.time())

    async def routes(self, prefix: Network | None = None, neighbor: str | None = None) -> tuple[RouteView, ...]:
        """Return paths received (refused ones too) and originated, of one prefix or of one neighbour, or all."""
        speaker, client = self._use()
        views = await list_routes(client, speaker, self._limits.excess, prefix)
        return tuple(view for view in views if neighbor is None or view.neighbor == neighbor)

    async def watch(self, *, routes: bool = True) -> AsyncIterator[tuple[Event, ...]]:
        """Yield batches of events until the engine is closed. Never best paths if it is transparent."""
        while True:
            await self._alive.wait()
            life = self._life
            if self._closed.is_set() or life is None:
                return
            try:
                async with aclosing(self._follow(life, routes=routes)) as batches:
                    async for batch in batches:
                        yield batch
            except EngineError as error:
                if self._closed.is_set():
                    return
                _log.warning("gobgpd-lost", error=str(error))
                yield (Lost(str(error)),)
            # The stream may break before the process is known to be gone, or although it is not.
            try:
                async with asyncio.timeout(1.0):
                    await life.ended.wait()
            except TimeoutError:
                continue

    async def close(self, *, stop: bool) -> None:
        """Let go of gobgpd; `stop` ends it and its sessions, otherwise it serves on until it is adopted."""
        self._closed.set()
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
        async with self._lock:
            if stop:
                await self._process.stop()
                self._memory.forget()
            if self._life is not None:
                await self._life.client.close()
                self._life.ended.set()
            self._process.release()
            self._alive.set()

    def _use(self) -> tuple[Speaker, Client]:
        if self._life is None or self._applied is None or not self._alive.is_set() or self._closed.is_set():
            raise EngineError("gobgpd does not run")
        return self._applied, self._life.client

    async def _make(self, speaker: Speaker) -> None:
        """Make gobgpd run and be `speaker`; a failed first configuration leaves no half-made gobgpd behind."""
        config = compile_speaker(speaker, {})
        self._wanted = speaker
        known = self._memory.load()
        running = await self._process.adopt()
        same = known.get("global") == config.digests["global"]
        if running and not same:
            _log.info("gobgpd-replaced", speaker=speaker.name)
            await self._process.stop()
            running = False
        before, self._whole = (self._applied if self._whole else None), False
        try:
            life = await self._adopted() if running else await self._started(config, former=bool(known))
            # Not before: what an adopted gobgpd refuses for a limit must go on to be refused.
            await self._limits.look(life.client, speaker)
            if self._limits.excess:
                config = compile_speaker(speaker, dict(self._limits.excess))
            await configure(life.client, self._memory, before, config, restarting=same and not running)
            life.originated = await originate(life.client, self._memory, speaker.announcements, life.originated)
        except EngineError:
            if not running:
                await self._end_life()
                await self._process.stop()
            raise
        self._applied, self._names, self._whole = speaker, Names(speaker.neighbors), True
        self._alive.set()

    async def _adopted(self) -> _Life:
        if self._life is None:
            self._life = _Life(await self._connect(), frozenset(), None)
        return self._life

    async def _started(self, config: Config, *, former: bool) -> _Life:
        """Start a gobgpd; after a `former` one, its neighbours' routes are waited for."""
        await self._end_life()
        awaited = (
            frozenset(self._up if self._watched else Names(config.speaker.neighbors).addresses)
            if former
            else frozenset()
        )
        self._up.clear()
        self._limits.forget()
        for directory in (self._directory, self._socket.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        await self._process.ensure()
        life = self._life = _Life(await self._connect(), awaited, {})
        await life.client.start(config)
        self._memory.save({key: config.digests[key] for key in ("global", "policies")})
        return life

    async def _connect(self) -> Client:
        client = Client(self._socket)
        answers = asyncio.create_task(client.ready(), name="gobgpd-ready")
        ends = asyncio.create_task(self._process.wait(), name="gobgpd-ends")
        try:
            await asyncio.wait({answers, ends}, timeout=_START, return_when=asyncio.FIRST_COMPLETED)
            if answers.done():
                return client
        finally:
            ends.cancel()
            answers.cancel()
        await client.close()
        raise EngineError(f"gobgpd does not answer; see {self._process.log}")

    async def _end_life(self) -> None:
        self._alive.clear()
        if self._life is not None:
            life, self._life = self._life, None
            life.ended.set()
            await life.client.close()

    async def _supervise(self) -> None:
        """Start gobgpd again whenever it ends, soon at first and then more rarely; look after it while it runs."""
        backoff = Backoff()
        begun = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(_LIMITS):
                    status = await self._process.wait()
            except TimeoutError:
                await self._try(self._keep_limits)
                if time.monotonic() - begun > _CARE:
                    backoff.reset()
                    begun = time.monotonic()
                    await self._try(self._care)
                continue
            async with self._lock:
                if self._process.alive():
                    continue
                _log.warning("gobgpd-ended", status=status)
                await self._end_life()
            await asyncio.sleep(backoff.next())
            await self._try(self._revive)
            begun = time.monotonic()

    async def _try(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do a part of the supervision, which must go on whatever comes of it."""
        try:
            async with self._lock:
                await work()
        except EngineError as error:
            self._limits.forget()
            _log.warning("gobgpd-failed", error=str(error))
        except Exception:  # noqa: BLE001 - a bug of ours is no reason to leave gobgpd alone
            self._limits.forget()
            _log.exception("gobgpd-supervision-failed")

    async def _keep_limits(self) -> None:
        """Refuse what has come above a limit, and accept again what is no longer."""
        speaker, life = self._applied, self._life
        if self._whole and speaker and life and await self._limits.look(life.client, speaker):
            _log.info("gobgpd-limits", above={str(a): len(p) for a, p in self._limits.excess.items()})
            config = compile_speaker(speaker, dict(self._limits.excess))
            await configure(life.client, self._memory, speaker, config, restarting=False)

    async def _revive(self) -> None:
        if self._wanted is not None:
            await self._make(self._wanted)

    async def _care(self) -> None:
        self._process.trim_log()
        if self._life is None:
            return
        for peer in await self._life.client.peers():
            if peer.over_limit:
                _log.info("gobgpd-neighbor-enabled", address=str(peer.address))
                await self._life.client.enable(peer.address)

    async def _follow(self, life: _Life, *, routes: bool) -> AsyncGenerator[tuple[Event, ...], None]:
        self._watched = True
        best = routes and self._wanted is not None and self._wanted.mode is not Mode.TRANSPARENT
        wait = partial(self._settle, life) if life.awaited else None
        async with aclosing(follow(life.client, self._name, best=best, settle=wait)) as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, Session) and event.state is SessionState.ESTABLISHED:
                        self._up.add(event.address)
                    elif isinstance(event, Session):
                        self._up.discard(event.address)
                yield batch

    async def _settle(self, life: _Life) -> None:
        times = [neighbor.restart_time for neighbor in self._wanted.neighbors] if self._wanted else []
        await settle(life.client, life.awaited, max(_SETTLE, *times, 0))
        life.awaited = frozenset()

    def _name(self, address: Address) -> str:
        return self._names.name(address)
