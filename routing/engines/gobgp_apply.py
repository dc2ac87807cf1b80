"""Make a running gobgpd what a configuration says, by the difference, leaving all other sessions alone.

Called by the GoBGP engine under its lock. What gobgpd was made is remembered in a file as digests, one per thing that
can change by itself. The digest of a thing is removed before it is changed and written when the change is done: a
daemon that dies in between finds it missing and changes it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from routing.bgp.values import Address, Announcement, Family, Neighbor, Network, Speaker
from routing.engines.gobgp_client import Client
from routing.engines.gobgp_codec import PeerView, announcement_of
from routing.engines.gobgp_config import Changes, Config, changes, digest
from routing.engines.gobgp_names import key_of

_ANNOUNCEMENTS: Final = "announcements"


class Memory:
    """The digests of what was applied, in a file that lives as long as the process."""

    def __init__(self, path: Path) -> None:
        """Remember where; nothing is read."""
        self._path = path

    def load(self) -> dict[str, str]:
        """Return the digests, none if there is no file or it is damaged."""
        try:
            held = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return held if isinstance(held, dict) else {}

    def save(self, digests: Mapping[str, str]) -> None:
        """Replace the file in one step."""
        new = self._path.with_suffix(".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123 - a mode
            json.dump(dict(digests), file)
        new.replace(self._path)

    def forget(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Present:
    """What gobgpd has: its groups, and the sessions by the key of the neighbour or group that they belong to."""

    groups: frozenset[str]
    sessions: Mapping[str, tuple[PeerView, ...]]

    @classmethod
    async def ask(cls, client: Client) -> Present:
        """Ask gobgpd."""
        sessions: dict[str, tuple[PeerView, ...]] = {}
        for peer in await client.peers():
            key = peer.group or str(peer.address)
            sessions[key] = (*sessions.get(key, ()), peer)
        return cls(frozenset(await client.groups()), sessions)


async def configure(
    client: Client, memory: Memory, before: Speaker | None, config: Config, *, restarting: bool
) -> None:
    """Make gobgpd `config`. `before` is what it was, if that is known.

    `restarting` tells neighbours that we had a life before (RFC 4724).
    """
    known = memory.load()
    present = await Present.ask(client)
    plan = changes(known, present.groups | present.sessions.keys(), config)
    touched = _touched(plan)
    if touched:
        memory.save({key: value for key, value in known.items() if key not in touched})
        await _remove(client, plan.remove, present)
        narrowed = [key for key in plan.reexport if _narrower(key, before, config.speaker)]
        if plan.policies and narrowed:
            # gobgpd withdraws nothing when a policy becomes narrower, so another one does it first.
            await client.set_policies(config.taking_back(narrowed))
            await _each(client.send_again, narrowed, present)
        if plan.policies:
            await client.set_policies(config)
        for peer in plan.add:
            await client.add(peer, restarting=restarting)
        await _each(client.judge_again, plan.reimport, present)
        await _each(client.send_again, [key for key in plan.reexport if key not in narrowed], present)
    wanted = {**config.digests, **{key: known[key] for key in known if key == _ANNOUNCEMENTS}}
    if known != wanted:
        memory.save(wanted)


def _touched(plan: Changes) -> set[str]:
    """Return the names of the digests that a plan puts in doubt."""
    touched = {"policies"} if plan.policies else set()
    for key in (*plan.remove, *(peer.key for peer in plan.add)):
        touched.update((f"peer {key}", f"import {key}", f"export {key}"))
    touched.update(f"import {key}" for key in plan.reimport)
    touched.update(f"export {key}" for key in plan.reexport)
    return touched


async def _remove(client: Client, keys: Iterable[str], present: Present) -> None:
    for key in keys:
        if key in present.groups:
            await client.remove_group(key, [peer.address for peer in present.sessions.get(key, ())])
        else:
            await client.remove_peer(ip_address(key))


async def _each(call: Callable[[Address], Awaitable[None]], keys: Iterable[str], present: Present) -> None:
    for key in keys:
        for peer in present.sessions.get(key, ()):
            await call(peer.address)


def _narrower(key: str, before: Speaker | None, after: Speaker) -> bool:
    """Tell whether a neighbour may hold a route that it may have no more; in doubt yes."""
    was, now = (None if speaker is None else _sent(key, speaker) for speaker in (before, after))
    if was is None or now is None or (was.extended_next_hop and not now.extended_next_hop):
        return True
    return not (set(was.exports.accept) <= set(now.exports.accept) and set(was.exports.never) >= set(now.exports.never))


def _sent(key: str, speaker: Speaker) -> Neighbor | None:
    return next((neighbor for neighbor in speaker.neighbors if key_of(neighbor) == key), None)


async def originate(
    client: Client, memory: Memory, wanted: Iterable[Announcement], known: Mapping[Network, Announcement] | None
) -> dict[Network, Announcement]:
    """Announce and withdraw the difference to what is `known` to be announced; return what is announced now.

    None means an adopted gobgpd. Its table is read only if it was not left announcing just what is wanted.
    """
    desired = {item.prefix: item for item in wanted}
    fingerprint = _fingerprint(desired.values())
    digests = memory.load()
    if known is None:
        known = desired if digests.get(_ANNOUNCEMENTS) == fingerprint else await _originated(client)
    changed = [item for prefix, item in desired.items() if known.get(prefix) != item]
    gone = known.keys() - desired.keys()
    if changed or gone:
        memory.save({key: value for key, value in digests.items() if key != _ANNOUNCEMENTS})
        await client.originate(changed, gone)
    if changed or gone or digests.get(_ANNOUNCEMENTS) != fingerprint:
        memory.save({**digests, _ANNOUNCEMENTS: fingerprint})
    return desired


def _fingerprint(announcements: Iterable[Announcement]) -> str:
    """Return a digest that does not depend on the order; that of one announcement is computed once."""
    return f"{sum(map(_number, announcements)) % (1 << 96):x}"


@lru_cache(maxsize=1 << 17)
def _number(announcement: Announcement) -> int:
    return int(digest(announcement), 16)


async def _originated(client: Client) -> dict[Network, Announcement]:
    found = [announcement_of(path) for family in Family async for path in client.table(family)]
    return {item.prefix: item for item in found if item is not None}
