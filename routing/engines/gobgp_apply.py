"""Make a running gobgpd what a configuration says, by the difference, leaving all other sessions alone.

Called by the GoBGP engine under its lock. What gobgpd was made is remembered in a file as digests, one per thing that
can change by itself. The digest of a thing is removed before it is changed and written when the change is done: a
daemon that dies in between finds it missing and changes it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from routing.bgp.policy import may_export
from routing.bgp.values import Address, Announcement, ExportPolicy, Family, Network, Speaker
from routing.engines.engine import SessionState
from routing.engines.gobgp_client import Client
from routing.engines.gobgp_codec import PeerView, announcement_of
from routing.engines.gobgp_config import Changes, Config, changes, digest
from routing.engines.gobgp_policy import key_of

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
    client: Client, memory: Memory, config: Config, speakers: tuple[Speaker | None, Speaker], *, restarting: bool
) -> None:
    """Make gobgpd `config`. `speakers` are what it was, if that is known, and what it is to be.

    `restarting` tells neighbours that we had a life before (RFC 4724).
    """
    known = memory.load()
    present = await Present.ask(client)
    plan = changes(known, present.groups | present.sessions.keys(), config)
    plan, ended = await _without_leftovers(client, plan, config, speakers, present)
    touched = _touched(plan)
    if touched:
        memory.save({key: value for key, value in known.items() if key not in touched})
        await _remove(client, plan.remove, ended, present)
        if plan.policies:
            await client.set_policies(config)
        for peer in plan.add:
            await client.add(peer, restarting=restarting)
        await _refresh(client, plan, present)
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


async def _remove(client: Client, keys: Iterable[str], ended: Iterable[Address], present: Present) -> None:
    for key in keys:
        if key in present.groups:
            await client.remove_group(key, [peer.address for peer in present.sessions.get(key, ())])
        else:
            await client.remove_peer(ip_address(key))
    for address in ended:
        await client.remove_peer(address)


async def _refresh(client: Client, plan: Changes, present: Present) -> None:
    for key in plan.reimport:
        for peer in present.sessions.get(key, ()):
            await client.judge_again(peer.address)
    for key in plan.reexport:
        for peer in present.sessions.get(key, ()):
            await client.send_again(peer.address)


async def _without_leftovers(
    client: Client, plan: Changes, config: Config, speakers: tuple[Speaker | None, Speaker], present: Present
) -> tuple[Changes, list[Address]]:
    """End sessions that hold a route which their new export policy forbids: gobgpd would not withdraw it.

    Dynamic ones come back by themselves; they are returned apart.
    """
    before, after = ({} if speaker is None else exports_of(speaker) for speaker in speakers)
    anew: list[str] = []
    ended: list[Address] = []
    for key in plan.reexport:
        if key in before and not narrower(before[key], after[key]):
            continue
        holding = [peer for peer in present.sessions.get(key, ()) if await _holds(client, peer, after[key])]
        if key in present.groups:
            ended += [peer.address for peer in holding]
        elif holding:
            anew.append(key)
    peers = tuple(peer for peer in config.peers if peer.key in anew)
    kept = [key for key in plan.reexport if key not in anew]
    reimport = tuple(key for key in plan.reimport if key not in anew)
    plan = replace(plan, remove=(*plan.remove, *anew), add=(*plan.add, *peers), reimport=reimport, reexport=tuple(kept))
    return plan, ended


async def _holds(client: Client, peer: PeerView, allowed: ExportPolicy) -> bool:
    if peer.state is not SessionState.ESTABLISHED:
        return False
    for family in peer.families:
        async with aclosing(client.sent(peer.address, family)) as paths:
            async for path in paths:
                if not may_export(path.prefix, allowed):
                    return True
    return False


def exports_of(speaker: Speaker) -> dict[str, ExportPolicy]:
    """Return every neighbour's export policy by its key."""
    return {key_of(neighbor): neighbor.exports for neighbor in speaker.neighbors}


def narrower(before: ExportPolicy, after: ExportPolicy) -> bool:
    """Tell whether something that could be sent may be sent no more; in doubt yes."""
    return not (set(before.accept) <= set(after.accept) and set(before.never) >= set(after.never))


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
