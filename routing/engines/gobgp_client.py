"""The conversation with one gobgpd: its API, version 3, over a Unix socket, as calls that take and give our values.

Called by the GoBGP engine, one `Client` per life of the process. Whatever goes wrong is an `EngineError`.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
import structlog

from appliance.model.errors import EngineError
from routing.bgp.values import Address, Announcement, Family, Network
from routing.engines import gobgp_messages as messages
from routing.engines.gobgp_api import gobgp_pb2 as api
from routing.engines.gobgp_api.gobgp_pb2_grpc import GobgpApiStub
from routing.engines.gobgp_codec import PathView, PeerView, announce, path_view, peer_view, withdraw

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
    from pathlib import Path

    from routing.engines.gobgp_config import Config, Peer

_log = structlog.get_logger(__name__)

#: A busy gobgpd answers late, for one of its threads does everything; a dead one is noticed by its process.
_PATIENCE: Final = 120.0
#: More bring no speed (measured), fewer cost it.
_PATHS_PER_MESSAGE: Final = 500
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),  # the first event of a watch is the whole table
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True)
class Paths:
    """Best paths that changed; the first of a watch are the table, and `whole` marks the last of those."""

    paths: tuple[PathView, ...]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class PeersListed:
    """Every peer has been named once since the watch began."""


WatchedEvent = PeerView | PeersListed | Paths


@contextmanager
def _engine_errors(what: str) -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise EngineError(f"gobgpd: {what}: {error.code().name}: {error.details()}") from error
    except grpc.aio.UsageError as error:  # the channel was closed before
        raise EngineError(f"gobgpd: {what}: {error}") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Not the task but the call was cancelled: the channel was closed meanwhile.
        raise EngineError(f"gobgpd: {what}: the connection was closed") from error


def _views(paths: Iterable[api.Path]) -> Iterator[PathView]:
    """Decode paths; one that we cannot read must not hide all others, for any neighbour could send it."""
    for path in paths:
        try:
            yield path_view(path)
        except ValueError as error:
            _log.warning("gobgpd-path-not-understood", neighbor=path.neighbor_ip, error=str(error))


async def _parts(paths: Sequence[api.Path], *, whole: bool) -> AsyncGenerator[Paths, None]:
    """Decode a table in parts, so that others get their turn."""
    for first in range(0, len(paths), _PATHS_PER_MESSAGE):
        part = tuple(_views(paths[first : first + _PATHS_PER_MESSAGE]))
        yield Paths(part, whole and first + _PATHS_PER_MESSAGE >= len(paths))
        await asyncio.sleep(0)
    if not paths:
        yield Paths((), whole)


class Client:
    """One connection to one gobgpd."""

    def __init__(self, socket: Path) -> None:
        """Connect in the background; `ready` waits for it."""
        self._channel = grpc.aio.insecure_channel(f"unix:{socket}", options=_OPTIONS)
        self._stub = GobgpApiStub(self._channel)

    async def ready(self) -> None:
        """Return when gobgpd answers."""
        await self._channel.channel_ready()

    async def close(self) -> None:
        """End the conversation and every watch."""
        await self._channel.close()

    async def start(self, config: Config) -> None:
        """Make an empty gobgpd the speaker, with its policies in force before there is any neighbour."""
        # `--log-level warn` means info to gobgpd 3.10.
        await self._ask("SetLogLevel", api.SetLogLevelRequest(level=api.SetLogLevelRequest.WARN))
        await self._ask("StartBgp", messages.start(config))
        await self.set_policies(config)
        for request in messages.assignments(config):
            await self._ask("SetPolicyAssignment", request)

    async def set_policies(self, config: Config) -> None:
        """Replace all policies in one transaction; who has which of them by name stays as it is."""
        await self._ask("SetPolicies", messages.policies(config))

    async def add(self, peer: Peer, *, restarting: bool) -> None:
        """Add a neighbour, or a group with its range."""
        if peer.range is None:
            await self._ask("AddPeer", messages.peer(peer, restarting=restarting))
            return
        group, dynamic = messages.group(peer)
        await self._ask("AddPeerGroup", group)
        # Only now: gobgpd 3.10 crashes when the group is not there.
        await self._ask("AddDynamicNeighbor", dynamic)

    async def remove_peer(self, address: Address) -> None:
        """End a session and forget the neighbour."""
        await self._ask("DeletePeer", api.DeletePeerRequest(address=str(address)))

    async def remove_group(self, name: str, members: Iterable[Address]) -> None:
        """Remove a group: first its ranges, so that nobody joins, then its sessions."""
        async for answer in self._list("ListDynamicNeighbor", api.ListDynamicNeighborRequest(peer_group=name)):
            gone = api.DeleteDynamicNeighborRequest(prefix=answer.dynamic_neighbor.prefix, peer_group=name)
            await self._ask("DeleteDynamicNeighbor", gone)
        for address in members:
            await self.remove_peer(address)
        await self._ask("DeletePeerGroup", api.DeletePeerGroupRequest(name=name))

    async def send_again(self, address: Address) -> None:
        """Send a neighbour all that it may have."""
        await self._reset(address, api.ResetPeerRequest.OUT)

    async def judge_again(self, address: Address) -> None:
        """Pass what a neighbour said through its policy again."""
        await self._reset(address, api.ResetPeerRequest.IN)

    async def enable(self, address: Address) -> None:
        """Let a neighbour come again that was shut down for too many prefixes."""
        await self._ask("EnablePeer", api.EnablePeerRequest(address=str(address)))

    async def originate(self, announcements: Iterable[Announcement], gone: Iterable[Network]) -> None:
        """Announce and withdraw; an announcement replaces the one of the same prefix."""
        paths = [withdraw(prefix) for prefix in gone] + [announce(item) for item in announcements]

        async def requests() -> AsyncIterator[api.AddPathStreamRequest]:
            for first in range(0, len(paths), _PATHS_PER_MESSAGE):
                part = paths[first : first + _PATHS_PER_MESSAGE]
                yield api.AddPathStreamRequest(table_type=api.GLOBAL, paths=part)

        if paths:
            with _engine_errors("AddPathStream"):
                await self._stub.AddPathStream(requests(), timeout=_PATIENCE)

    async def peers(self, *, advertised: bool = False) -> list[PeerView]:
        """List neighbours and dynamic sessions; `advertised` counts what each is sent, which costs a policy run."""
        request = api.ListPeerRequest(enableAdvertised=advertised)
        return [peer_view(answer.peer) async for answer in self._list("ListPeer", request)]

    async def groups(self) -> list[str]:
        """List the names of groups."""
        request = api.ListPeerGroupRequest()
        return [answer.peer_group.conf.peer_group_name async for answer in self._list("ListPeerGroup", request)]

    async def table(self, family: Family, prefix: Network | None = None) -> AsyncGenerator[PathView, None]:
        """Yield every path of the global table."""
        request = api.ListPathRequest(table_type=api.GLOBAL, family=messages.family(family))
        async for path in self._paths(request, prefix):
            yield path

    async def received(
        self, address: Address, family: Family, prefix: Network | None = None
    ) -> AsyncGenerator[PathView, None]:
        """Yield what a neighbour said, each marked if its policy refuses it."""
        request = api.ListPathRequest(
            table_type=api.ADJ_IN, name=str(address), family=messages.family(family), enable_filtered=True
        )
        async for path in self._paths(request, prefix):
            yield path

    async def refused(self, address: Address, family: Family) -> int:
        """Count what a neighbour said and its policy refuses."""
        request = api.ListPathRequest(
            table_type=api.ADJ_IN,
            name=str(address),
            family=messages.family(family),
            enable_filtered=True,
            enable_only_binary=True,
        )
        count = 0
        async for answer in self._list("ListPath", request):
            count += sum(path.filtered for path in answer.destination.paths)
        return count

    async def watch(self, *, best: bool) -> AsyncGenerator[WatchedEvent, None]:
        """Yield every peer, `PeersListed`, with `best` the table, and then what changes."""
        request = api.WatchEventRequest(peer=api.WatchEventRequest.Peer())
        if best:
            chosen = api.WatchEventRequest.Table.Filter
            request.table.filters.append(chosen(type=chosen.BEST, init=True))
        whole = True
        async for event in self._list("WatchEvent", request, timeout=None):
            if event.HasField("table"):
                async for paths in _parts(event.table.paths, whole=whole):
                    yield paths
                whole = False
            elif event.peer.type == api.WatchEventResponse.PeerEvent.END_OF_INIT:
                yield PeersListed()
            else:
                yield peer_view(event.peer.peer)

    async def _paths(self, request: api.ListPathRequest, prefix: Network | None) -> AsyncGenerator[PathView, None]:
        if prefix is not None:
            request.prefixes.append(api.TableLookupPrefix(prefix=str(prefix), type=api.TableLookupPrefix.EXACT))
        async for answer in self._list("ListPath", request):
            for view in _views(answer.destination.paths):
                yield view

    async def _reset(self, address: Address, direction: api.ResetPeerRequest.SoftResetDirection) -> None:
        await self._ask("ResetPeer", api.ResetPeerRequest(address=str(address), soft=True, direction=direction))

    async def _ask(self, call: str, request: Any) -> Any:
        with _engine_errors(call):
            return await getattr(self._stub, call)(request, timeout=_PATIENCE)

    async def _list(self, call: str, request: Any, timeout: float | None = _PATIENCE) -> AsyncGenerator[Any, None]:  # noqa: ASYNC109 - the library's own
        with _engine_errors(call):
            async for answer in getattr(self._stub, call)(request, timeout=timeout):
                yield answer
