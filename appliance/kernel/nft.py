"""The port of our nft table, one a namespace: `NftTable` and `NftSet`, and the engines and instructions of flow records.

No packet sees a gap. Where only sets change, elements are added and deleted in one transaction, and rules keep their
counters. Where rules change, they are exchanged at once when all that they lead to is there, and what is left goes
afterwards (`nft_swap`); only a table with somebody else's rules is removed and made again. This goes through libnftables;
where nothing but engines and instructions changes, `nft_records` does it without. An engine whose policy changes together
with sets, and instructions that come with them, follow in a transaction of their own: the kernel shows the elements of
interval sets later than the rules of the same transaction (design 0004).

What the kernel holds is listed only when somebody else changed the namespace's ruleset since this process last looked
or wrote: the kernel counts transactions (NFT_MSG_GETGEN). The table tells which body it was made from; a body
this process was not told about (`attend`, or a plan) is given as a body that differs, so it is replaced. So is a table
whose rules somebody else changed. An empty set is a fact only if it was asked for. Sets that the packet path fills
(flags dynamic or timeout) are not read.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from appliance.kernel import nft_engines, nft_swap, nft_text
from appliance.kernel.exchanges import Netlink
from appliance.kernel.generations import Generations
from appliance.kernel.grace import Grace
from appliance.kernel.libnftables import NftContext, NftError
from appliance.kernel.netlink import NETLINK_NETFILTER, Answer, Message, messages, parse
from appliance.kernel.nft_records import Draft, Records, RefusedError
from appliance.kernel.nft_script import Fact, Held, Script, postponed, prepared, script
from appliance.kernel.port import Failure
from appliance.kernel.watching import Watcher
from appliance.model.errors import KernelError
from appliance.model.facts import Engine, Instruction, Namespace, NftSet, NftTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from appliance.kernel.namespaces import Namespaces
    from appliance.kernel.nft_engines import Advance
    from appliance.kernel.nft_flows import Stamp
    from appliance.state.diff import Change, Plan

NFTA_GEN_ID, NFTA_GEN_PROC_PID = 1, 2
NFT_MSG_NEWGEN, NFT_MSG_GETGEN = 10 << 8 | 15, 10 << 8 | 16
NFNLGRP_NFTABLES: Final = 7
_NFGEN: Final = struct.pack("=BBH", 0, 0, 0)
_QUOTE: Final = 300

#: A transaction that another one came before is put together again, so often.
_ATTEMPTS: Final = 10


class NftPort:
    """Our table in the node's namespace and in every one we made."""

    def __init__(self, namespaces: Namespaces, start: Callable[[], int] | None = None) -> None:
        """Know nothing yet; `start` gives the first generation of an engine that is new, any one if left out."""
        self.namespaces = namespaces
        self._netlink = Netlink(namespaces, NETLINK_NETFILTER, "nft")
        self._grace = Grace()
        self._records = Records(self._netlink, self._grace)
        self._generations = Generations(namespaces, start)
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
            elif isinstance(fact, NftTable) and (name := nft_text.digest(fact.body)) not in self._bodies:
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
            found.update(held.flows.engines(ns), held.flows.instructions(ns))
        return frozenset(found)

    def generations(self, ns: Namespace) -> Mapping[int, int]:
        """Return the generation of every engine of a namespace."""
        return {engine: stamp.generation for engine, stamp in self._live(ns)}

    def policies(self, ns: Namespace) -> Mapping[int, str]:
        """Return the digest of the policy by which each engine's flows are judged."""
        return {engine: stamp.policy for engine, stamp in self._live(ns)}

    def counters(self, ns: Namespace) -> Mapping[str, tuple[int, int]]:
        """Return packets and octets that the named counters of our table have counted."""
        return self._records.counters(ns)

    def _live(self, ns: Namespace) -> Iterator[tuple[int, Stamp]]:
        """Yield the engines that are as they must be."""
        flows = self._look(ns).flows
        return ((engine, stamp) for engine in sorted(flows.stamps) if (stamp := flows.live(engine)) is not None)

    def apply(self, plan: Plan[Fact]) -> tuple[Failure, ...]:
        """Carry the changes out, in one transaction a namespace, or in steps; until rules have changed, a failure undoes them."""
        by_ns: dict[Namespace, list[Change[Fact]]] = {}
        for change in plan.changes:
            by_ns.setdefault(change.fact.ns, []).append(change)
        self._learn(change.new for change in plan.changes if change.new is not None)
        follow: dict[Namespace, Sequence[Change[Fact]]] = {}
        failures = [
            failure
            for ns, changes in by_ns.items()
            for failure in self._tried(ns, changes, partial(self._first, follow))
        ]
        # After all others: the grace periods between the two transactions of each run at the same time.
        for ns, changes in follow.items():
            failures += self._tried(ns, changes, self._second)
        return tuple(failures)

    def watch(self) -> AsyncIterator[str]:
        """Yield when somebody else changes the ruleset of a namespace."""
        return Watcher(self.namespaces, NETLINK_NETFILTER, (NFNLGRP_NFTABLES,), self._foreign).run()

    def close(self) -> None:
        """Close the contexts."""
        self.namespaces.forget(self._forget)
        for ns in tuple(self._contexts):
            self._forget(ns)
        self._generations.close()
        self._grace.close()

    def _forget(self, ns: Namespace) -> None:
        """Let go of a namespace."""
        self._held.pop(ns, None)
        self._generations.forget(ns)
        self._grace.forget(ns)
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
        flows = self._records.read(ns, listing)
        if flows.stamps:
            self._grace.begin(ns)
        return Held(generation, NftTable(ns, body), listing.sets, listing.hash, flows, listing.objects)

    def _run(self, ns: Namespace, script: str) -> str:
        """Run a script in a namespace."""
        with self.namespaces.in_namespace(ns):
            if ns not in self._contexts:
                self._contexts[ns] = NftContext()
            return self._contexts[ns].run(script)

    def _tried(
        self,
        ns: Namespace,
        changes: Sequence[Change[Fact]],
        carry_out: Callable[[Namespace, Sequence[Change[Fact]]], list[Failure]],
    ) -> list[Failure]:
        """Apply changes of one namespace, which may be gone, or go away meanwhile."""
        try:
            return carry_out(ns, changes)
        except KernelError as error:
            self._held.pop(ns, None)
            return [Failure(change.fact, error) for change in changes if change.operation != "delete"]

    def _first(
        self, follow: dict[Namespace, Sequence[Change[Fact]]], ns: Namespace, changes: Sequence[Change[Fact]]
    ) -> list[Failure]:
        """Apply the changes of one namespace in one transaction; put into `follow` what must wait for another."""
        self._prepare(ns, changes)
        if not any(isinstance(change.fact, NftTable | NftSet) for change in changes):
            return self._apply_records(ns, changes)
        ready, failures = self._make_ready(ns, changes)
        if failures:
            return failures
        now, later = postponed(self._look(ns), changes)
        failures, engines = self._apply_text(ns, now)
        if failures and ready:
            with suppress(NftError):  # somebody else removed the table
                self._run(ns, "\n".join(nft_swap.remove(ready)) + "\n")
        later = [*later, *engines, *(change for change in changes if isinstance(change.fact, Instruction))]
        if later and not failures:
            follow[ns] = later
        return failures

    def _make_ready(
        self, ns: Namespace, changes: Sequence[Change[Fact]]
    ) -> tuple[frozenset[nft_text.Name], list[Failure]]:
        """Make what new rules will lead to, which no packet reaches before; return what was made."""
        held = self._look(ns)
        made = prepared(held, changes)
        if made is None:
            return frozenset(), []
        try:
            self._run(ns, _text(made))
        except NftError as error:
            return frozenset(), self._failures(ns, changes, made.statements, str(error))
        if self._generation(ns) == held.generation + 1:
            self._held[ns] = replace(made.after, generation=held.generation + 1)
        return made.after.objects - held.objects, []

    def _second(self, ns: Namespace, changes: Sequence[Change[Fact]]) -> list[Failure]:
        """Bump, and take away what was left for packets that were on their way; then instructions."""
        rest: Sequence[Change[Fact]] = changes
        if any(isinstance(change.fact, NftSet) for change in changes) or self._hold(ns).surplus:
            failures, _ = self._apply_text(ns, changes, last=True)
            rest = [change for change in changes if isinstance(change.fact, Instruction)]
            if failures or not rest:
                return failures
        return self._apply_records(ns, rest)

    def _prepare(self, ns: Namespace, changes: Sequence[Change[Fact]]) -> None:
        """Have no record carry a generation of an engine that has none yet: it could be the one that is given out."""
        wanted = {change.new.number for change in changes if isinstance(change.new, Engine)}
        if wanted:
            flows = self._hold(ns).flows
            known = {engine for engine, stamp in flows.stamps.items() if stamp is not None}
            if wanted - known:
                self._generations.clear(ns, known)

    def _hold(self, ns: Namespace) -> Held:
        """Return what was held last, without asking whether it still is."""
        return self._held.get(ns) or self._look(ns)

    def _apply_text(
        self, ns: Namespace, changes: Sequence[Change[Fact]], *, last: bool = False
    ) -> tuple[list[Failure], Sequence[Change[Fact]]]:
        """Change the table and its sets; return the changes of engines that must follow."""
        held = self._look(ns)
        made = script(ns, held, changes, partial(self._generations.after, ns), last=last)
        if held.flows.stamps:
            self._grace.end(ns)
        try:
            self._run(ns, _text(made))
        except NftError as error:
            return self._failures(ns, changes, made.statements, str(error)), ()
        for change in changes:
            if change.operation == "delete" and isinstance(change.fact, NftSet):
                self._told.discard((ns, change.fact.name))
        if held.flows.stamps or made.bumps:
            self._grace.begin(ns)
        self._settle(ns, held, made)
        return [], made.follow

    def _settle(self, ns: Namespace, held: Held, made: Script) -> None:
        """Remember what was written if nobody else wrote meanwhile; a new table's listing becomes its measure."""
        after = made.after
        if made.looked:
            self._held.pop(ns, None)
            if after.table is not None:
                self._rests.pop((ns, nft_text.digest(after.table.body)), None)
            self._look(ns)
        elif self._generation(ns) == held.generation + 1:
            for bump in made.bumps:
                nft_engines.record(held.flows, bump)
            self._held[ns] = replace(after, generation=held.generation + 1)

    def _apply_records(self, ns: Namespace, changes: Sequence[Change[Fact]]) -> list[Failure]:
        """Apply changes of engines and instructions; put together again while somebody else writes."""
        advance = partial(self._generations.after, ns)
        for _ in range(_ATTEMPTS):
            held = self._hold(ns)
            draft = self._records.draft(ns, held.flows, changes, advance)
            try:
                self._commit(ns, held, draft)
            except RefusedError as refused:
                self._held.pop(ns, None)
                if refused.fact is not None:
                    return self._blame(ns, changes, refused.fact, refused.said.message, refused.said.errno)
                continue
            self._look_again(ns, draft, advance)
            return []
        error = KernelError("nft", f"{ns}: the ruleset changes all the time", errno.EAGAIN)
        return [Failure(change.fact, error) for change in changes]

    def _look_again(self, ns: Namespace, draft: Draft, advance: Advance) -> None:
        """Judge flows again whose first packets were on their way during a transaction."""
        for _ in range(_ATTEMPTS):
            held = self._hold(ns)
            try:
                self._commit(ns, held, self._records.second_look(ns, held.flows, draft.unsettled, advance))
            except RefusedError as refused:
                self._held.pop(ns, None)
                if refused.fact is not None:
                    raise self._netlink.error(f"{ns} {_name(refused.fact)}", refused.said) from refused
            else:
                return

    def _commit(self, ns: Namespace, held: Held, draft: Draft) -> None:
        """Carry a draft out and remember it."""
        if draft.messages:
            self._records.commit(ns, held.generation, draft)
            draft.keep(held.flows)
            self._held[ns] = replace(held, generation=held.generation + 1)

    def _failures(
        self, ns: Namespace, changes: Sequence[Change[Fact]], statements: Sequence[nft_text.Statement], message: str
    ) -> list[Failure]:
        """Blame one fact with libnftables' words; the others of the namespace wait for it."""
        self._held.pop(ns, None)
        guilty, code = nft_text.blame(message, statements)
        return self._blame(ns, changes, guilty or changes[0].fact, message, code)

    def _blame(
        self, ns: Namespace, changes: Sequence[Change[Fact]], guilty: Fact, message: str, code: int
    ) -> list[Failure]:
        """Name the guilty one first."""
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


def _text(made: Script) -> str:
    return "\n".join(statement.text for statement in made.statements) + "\n"


def _name(fact: Fact) -> str:
    """Name an object in errors."""
    if isinstance(fact, NftTable):
        return "table"
    if isinstance(fact, Engine):
        return f"engine {fact.number}"
    return f"set {fact.name}" if isinstance(fact, NftSet) else f"instruction for {fact.flow}"
