"""The port of `NftTable` and `NftSet` facts: one table of ours a namespace, through libnftables.

Each namespace's changes are one transaction, so no packet sees a gap: a changed table is removed and made again with
all its elements at once; when only sets change, elements are added and deleted and rules keep their counters.

What the kernel holds is listed only when somebody else changed the namespace's ruleset since this process last looked
or wrote: the kernel counts transactions (NFT_MSG_GETGEN). The table's comment tells which body it was made from; a body
this process was not told about (`attend`, or a plan) is given as a body that differs, so it is replaced. So is a table
whose rules somebody else changed. An empty set is a fact only if it was asked for. Sets that the packet path fills
(flags dynamic or timeout) are not read.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from appliance.kernel import nft_text
from appliance.kernel.libnftables import NftContext, NftError
from appliance.kernel.netlink import NETLINK_NETFILTER, Answer, Message, Netlink, messages, parse
from appliance.kernel.port import Failure
from appliance.kernel.watching import Watcher
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace, NftSet, NftTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from appliance.kernel.namespaces import Namespaces
    from appliance.state.diff import Change, Plan

NFTA_GEN_ID, NFTA_GEN_PROC_PID = 1, 2
NFT_MSG_NEWGEN, NFT_MSG_GETGEN = 10 << 8 | 15, 10 << 8 | 16
NFNLGRP_NFTABLES: Final = 7
_NFGEN: Final = struct.pack("=BBH", 0, 0, 0)
_QUOTE: Final = 300

Fact = NftTable | NftSet


@dataclass(frozen=True, slots=True)
class Held:
    """What a namespace holds at a generation of its ruleset; no table: no comment, no sets."""

    generation: int
    table: NftTable | None
    sets: Mapping[str, nft_text.Elements]
    hash: str = ""


class NftPort:
    """Our table in the node's namespace and in every one we made."""

    def __init__(self, namespaces: Namespaces) -> None:
        """Know nothing yet."""
        self.namespaces = namespaces
        self._netlink = Netlink(namespaces, NETLINK_NETFILTER, "nft")
        self._contexts: dict[Namespace, NftContext] = {}
        self._held: dict[Namespace, Held] = {}
        self._bodies: dict[str, str] = {}
        self._rests: dict[tuple[Namespace, str], str] = {}
        self._told: set[tuple[Namespace, str]] = set()
        namespaces.on_gone(self._forget)

    def attend(self, desired: Iterable[Fact]) -> None:
        """Be told what is wanted, all of it, so that a table made by an earlier process is recognised."""
        held = [held.table.body for held in self._held.values() if held.table is not None]
        self._bodies = {nft_text.digest(body): body for body in held if nft_text.digest(body) in self._bodies}
        self._told.clear()
        self._learn(desired)

    def _learn(self, facts: Iterable[Fact]) -> None:
        """Know these bodies and empty sets; look again if a table may be recognised now."""
        for fact in facts:
            if isinstance(fact, NftSet):
                self._told.add((fact.ns, fact.name))
            elif (name := nft_text.digest(fact.body)) not in self._bodies:
                self._bodies[name] = fact.body
                self._held = {ns: held for ns, held in self._held.items() if held.hash != name}

    def read(self) -> frozenset[Fact]:
        """Return our tables and the elements of their sets."""
        found: set[Fact] = set()
        for ns, held in self.namespaces.each(self._look).items():
            if held.table is None:
                continue
            found.add(held.table)
            found |= {
                NftSet(ns, name, elements)
                for name, elements in held.sets.items()
                if elements or (ns, name) in self._told
            }
        return frozenset(found)

    def apply(self, plan: Plan[Fact]) -> tuple[Failure, ...]:
        """Carry the changes out, one transaction a namespace; one that fails leaves that namespace as it was."""
        by_ns: dict[Namespace, list[Change[Fact]]] = {}
        for change in plan.changes:
            by_ns.setdefault(change.fact.ns, []).append(change)
        self._learn(change.new for change in plan.changes if change.new is not None)
        return tuple(failure for ns, changes in by_ns.items() for failure in self._tried(ns, changes))

    def watch(self) -> AsyncIterator[str]:
        """Yield when somebody else changes the ruleset of a namespace."""
        return Watcher(self.namespaces, NETLINK_NETFILTER, (NFNLGRP_NFTABLES,), self._foreign).run()

    def close(self) -> None:
        """Close the contexts."""
        self.namespaces.forget(self._forget)
        for ns in tuple(self._contexts):
            self._forget(ns)

    def _forget(self, ns: Namespace) -> None:
        """Let go of a namespace."""
        self._held.pop(ns, None)
        self._rests = {key: rest for key, rest in self._rests.items() if key[0] != ns}
        context = self._contexts.pop(ns, None)
        if context is not None:
            context.close()

    def _look(self, ns: Namespace) -> Held:
        """Return what a namespace holds; list it only if it changed since."""
        generation = self._generation(ns)
        held = self._held.get(ns)
        if held is None or held.generation != generation:
            held = self._held[ns] = self._list(ns, generation)
        return held

    def _generation(self, ns: Namespace) -> int:
        """Return the number of the namespace's last transaction."""
        found = self._netlink.get(ns, Message(NFT_MSG_GETGEN, _NFGEN))
        if isinstance(found, Answer):
            raise self._netlink.error(f"{ns} generation", found)
        return int.from_bytes(parse(found[4:])[NFTA_GEN_ID], "big")

    def _list(self, ns: Namespace, generation: int) -> Held:
        """List our table; its rules count as right the first time they are seen."""
        try:
            listing = nft_text.parse(self._run(ns, f"list table {nft_text.TABLE}"))
        except NftError as error:
            if nft_text.blame(str(error), ())[1] == errno.ENOENT:
                return Held(generation, None, {})
            raise KernelError("nft", f"{ns} list: {error}", errno.EIO) from error
        body = self._bodies.get(listing.hash)
        known = self._rests.setdefault((ns, listing.hash), listing.rest)
        if body is None or known != listing.rest:
            body = f"# not ours any more: {listing.hash} {listing.rest}"
        return Held(generation, NftTable(ns, body), listing.sets, listing.hash)

    def _run(self, ns: Namespace, script: str) -> str:
        """Run a script in a namespace."""
        with self.namespaces.in_namespace(ns):
            if ns not in self._contexts:
                self._contexts[ns] = NftContext()
            return self._contexts[ns].run(script)

    def _tried(self, ns: Namespace, changes: Sequence[Change[Fact]]) -> list[Failure]:
        """Apply the changes of one namespace, which may be gone, or go away meanwhile."""
        try:
            return self._apply_one(ns, changes)
        except KernelError as error:
            self._held.pop(ns, None)
            return [Failure(change.fact, error) for change in changes if change.operation != "delete"]

    def _apply_one(self, ns: Namespace, changes: Sequence[Change[Fact]]) -> list[Failure]:
        """Apply the changes of one namespace in one transaction."""
        held = self._look(ns)
        after, statements = _script(ns, held, changes)
        try:
            self._run(ns, "\n".join(statement.text for statement in statements) + "\n")
        except NftError as error:
            return self._failures(ns, changes, statements, str(error))
        for change in changes:
            if change.operation == "delete" and isinstance(change.fact, NftSet):
                self._told.discard((ns, change.fact.name))
        self._settle(ns, held, after)
        return []

    def _settle(self, ns: Namespace, held: Held, after: Held) -> None:
        """Remember what was written if nobody else wrote meanwhile; a new table's listing becomes its measure."""
        if after.table != held.table:
            self._held.pop(ns, None)
            if after.table is not None:
                self._rests.pop((ns, nft_text.digest(after.table.body)), None)
            self._look(ns)
        elif self._generation(ns) == held.generation + 1:
            self._held[ns] = replace(after, generation=held.generation + 1)

    def _failures(
        self, ns: Namespace, changes: Sequence[Change[Fact]], statements: Sequence[nft_text.Statement], message: str
    ) -> list[Failure]:
        """Blame one fact with libnftables' words; the others of the namespace wait for it."""
        self._held.pop(ns, None)
        guilty, code = nft_text.blame(message, statements)
        guilty = guilty or changes[0].fact
        error = KernelError("nft", f"{ns} {_name(guilty)}: {message[:_QUOTE]}", code)
        others = KernelError("nft", f"{ns}: waits for {_name(guilty)}", code)
        first = [Failure(guilty, error)]
        return first + [Failure(change.fact, others) for change in changes if change.fact != guilty]

    def _foreign(self, ns: Namespace, datagram: bytes) -> str | None:
        """Tell whether an event ends a transaction of another process."""
        for kind, _, _, payload in messages(datagram):
            if kind == NFT_MSG_NEWGEN:
                author = parse(payload[4:]).get(NFTA_GEN_PROC_PID)
                if author is None or int.from_bytes(author, "big") != os.getpid():
                    return f"nft {ns}".rstrip()
        return None


def _script(ns: Namespace, held: Held, changes: Sequence[Change[Fact]]) -> tuple[Held, list[nft_text.Statement]]:
    """Return what a namespace will hold after the changes, and the script that leads there."""
    table, sets = held.table, dict(held.sets)
    statements: list[nft_text.Statement] = []
    for change in changes:
        fact = change.fact
        if isinstance(fact, NftTable):
            table = change.new if isinstance(change.new, NftTable) else None
            continue
        old = sets.pop(fact.name, frozenset())
        new = fact.elements if change.new is not None else frozenset()
        statements += nft_text.subtract(fact, old - new) + nft_text.add(fact, new - old)
        sets[fact.name] = new
    if table == held.table:
        return replace(held, sets=sets), statements
    if table is None:
        assert held.table is not None  # noqa: S101 - it differs from None
        return Held(held.generation, None, {}), [nft_text.Statement(nft_text.remove(), held.table)]
    anew = [nft_text.table(table)]
    for name, elements in sets.items():
        anew += nft_text.add(NftSet(ns, name, elements), elements)
    return Held(held.generation, table, sets), anew


def _name(fact: Fact) -> str:
    """Name an object in errors."""
    return f"set {fact.name}" if isinstance(fact, NftSet) else "table"
