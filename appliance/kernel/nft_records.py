"""The part of our nft table that flow records live by, over raw nfnetlink: read it, and change it in one transaction.

Called by `nft` where nothing but engines and instructions changes; the cost depends on neither rows nor records. Each
transaction names the generation of the ruleset that it was made for, so the kernel refuses it if somebody else wrote
meanwhile, and nothing has to be asked before or after.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from appliance.kernel import nft_engines, nft_flows
from appliance.kernel.conntrack import KernelConntrack
from appliance.kernel.exchanges import Netlink
from appliance.kernel.grace import Grace
from appliance.kernel.netlink import NLM_F_ACK, NLMSG_ERROR, Answer, Message, answer, messages, send
from appliance.kernel.nft_engines import Advance, Bump, Flows
from appliance.kernel.nft_flows import DECISION
from appliance.kernel.nft_script import Fact
from appliance.kernel.nft_text import Listing
from appliance.model.facts import Engine, FlowKey, Instruction, Namespace
from appliance.model.marks import Mark
from appliance.state.diff import Change

_RECEIVE: Final = 1 << 16
SO_SNDBUFFORCE: Final = 32
#: Octets of one transaction that a socket takes as it is made, and those of each message besides its payload.
_ROOM, _OVERHEAD = 100_000, 20


@dataclass(slots=True)
class Draft:
    """A transaction in the making: messages with the fact that each is for, and what will be so afterwards."""

    messages: list[Message] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    bumps: list[Bump] = field(default_factory=list)
    rows: dict[FlowKey, int | None] = field(default_factory=dict)
    #: Flows that have no record of the current generation: a first packet on its way may have looked too early.
    unsettled: dict[FlowKey, int | None] = field(default_factory=dict)

    def add(self, fact: Fact, made: Iterable[Message]) -> None:
        """Add messages."""
        for message in made:
            self.messages.append(message)
            self.facts.append(fact)

    def row(self, flows: Flows, given: Instruction, *, gone: bool) -> bool:
        """Add the change of a row; tell whether there is any."""
        old, new = flows.rows.get(given.flow), None if gone else nft_engines.word_of(given)
        if old == new:
            return False
        self.rows[given.flow] = new
        self.add(given, [] if old is None else [nft_flows.uninstruct(given.flow)])
        self.add(given, [] if new is None else [nft_flows.instruct(given.flow, new)])
        return True

    def bump(self, flows: Flows, change: Bump) -> None:
        """Add the change of an engine."""
        self.bumps.append(change)
        self.add(change.engine, nft_engines.messages(flows, change))

    def keep(self, flows: Flows) -> None:
        """Remember what was carried out."""
        for change in self.bumps:
            nft_engines.record(flows, change)
        for flow, word in self.rows.items():
            if word is None:
                flows.rows.pop(flow, None)
            else:
                flows.rows[flow] = word


class RefusedError(Exception):
    """The kernel refused a transaction: which fact, and why; no fact where the ruleset has changed meanwhile."""

    def __init__(self, fact: Fact | None, said: Answer) -> None:
        """Keep both."""
        super().__init__(said.message)
        self.fact, self.said = fact, said


class Records:
    """Engines and instructions in the tables of all namespaces."""

    def __init__(self, netlink: Netlink, grace: Grace) -> None:
        """Share the sockets of `netlink`."""
        self._netlink, self.grace = netlink, grace
        self._conntrack = KernelConntrack(netlink.namespaces)

    def read(self, ns: Namespace, listing: Listing) -> Flows:
        """Read the chains and maps that a listing says are there."""
        flows = Flows()
        for engine in listing.engines:
            if rules := self._netlink.dump(ns, nft_flows.get_rules(engine)):
                flows.stamps[engine] = nft_flows.stamped(engine, rules)
        for element in listing.dispatch:
            word, _, verdict = element.partition(" : ")
            flows.words.setdefault(Mark.of(int(word, 16)).engine, {})[int(word, 16)] = verdict
        for version in listing.families:
            for payload in self._netlink.dump(ns, nft_flows.get_rows(version)):
                flows.rows.update(nft_flows.rows(version, payload))
        return flows

    def counters(self, ns: Namespace) -> Mapping[str, tuple[int, int]]:
        """Return packets and octets of the named counters of our table."""
        return dict(map(nft_flows.counter, self._netlink.dump(ns, nft_flows.get_counters())))

    def draft(self, ns: Namespace, flows: Flows, changes: Sequence[Change[Fact]], advance: Advance) -> Draft:
        """Put a transaction together: rows first, then engines whose policy changes or whose flows are instructed."""
        draft = Draft()
        engines: dict[int, Bump] = {}
        for fact, new in ((change.fact, change.new) for change in changes):
            if isinstance(fact, Engine):
                engines[fact.number] = (nft_engines.end if new is None else nft_engines.bump)(flows, fact, advance)
        for fact, new in ((change.fact, change.new) for change in changes):
            if not isinstance(fact, Instruction) or not draft.row(flows, fact, gone=new is None):
                continue
            judged = self._judged(ns, flows, fact.flow)
            if judged is None:
                draft.unsettled[fact.flow] = draft.rows[fact.flow]
            elif judged.engine not in engines:
                engines[judged.engine] = _again(ns, flows, judged.engine, advance)
        for bump in engines.values():
            draft.bump(flows, bump)
        return draft

    def second_look(
        self, ns: Namespace, flows: Flows, unsettled: Mapping[FlowKey, int | None], advance: Advance
    ) -> Draft:
        """Put the bumps together for flows that were judged by what was so before, while that was changed.

        Such a packet has left once the grace period is over: it is waited for.
        """
        draft = Draft()
        if not unsettled:
            return draft
        self.grace.end(ns)
        engines: set[int] = set()
        for flow, word in unsettled.items():
            judged = self._judged(ns, flows, flow)
            if judged is not None and (word is None or (judged.word ^ word) & DECISION):
                engines.add(judged.engine)
        for engine in sorted(engines):
            draft.bump(flows, _again(ns, flows, engine, advance))
        return draft

    def commit(self, ns: Namespace, generation: int, draft: Draft) -> None:
        """Carry a transaction out if the ruleset is of this generation; the grace period of the one before is over."""
        if not draft.messages:
            return
        self.grace.end(ns)
        *others, last = draft.messages
        last = replace(last, flags=last.flags | NLM_F_ACK)
        link = self._netlink.namespaces.netlink_socket(self._netlink.protocol, ns)
        size = sum(len(message.payload) + _OVERHEAD for message in draft.messages)
        if size > _ROOM:
            link.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * size)
        first = send(link, [nft_flows.begin(generation), *others, last, nft_flows.end()])
        place, said = _verdict(link, first, len(draft.messages))
        if said.errno:
            raise RefusedError(draft.facts[place - 1] if place else None, said)
        self.grace.begin(ns)

    def _judged(self, ns: Namespace, flows: Flows, flow: FlowKey) -> Mark | None:
        """Return the mark of a flow's record if it is of the current generation of a live engine."""
        entry = self._conntrack.get(ns, flow)
        if entry is None:
            return None
        mark = Mark.of(entry.mark)
        live = flows.live(mark.engine)
        return mark if live is not None and live.generation == mark.generation else None


def _again(ns: Namespace, flows: Flows, engine: int, advance: Advance) -> Bump:
    """Bump an engine whose policy stays."""
    live = flows.live(engine)
    assert live is not None  # noqa: S101 - a record of its current generation named it
    return nft_engines.bump(flows, Engine(ns, engine, live.policy), advance)


def _verdict(link: socket.socket, first: int, last: int) -> tuple[int, Answer]:
    """Return the place of the message that was refused, and why; the last one and 0 if none was."""
    while True:
        for kind, flags, sequence, payload in messages(link.recv(_RECEIVE)):
            place = sequence - first
            if kind != NLMSG_ERROR or not 0 <= place <= last + 1:
                continue
            said = answer(flags, payload)
            if said.errno or place == last:
                return place, said
