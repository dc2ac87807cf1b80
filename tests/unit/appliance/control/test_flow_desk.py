"""Single flows: found from either end, instructed, cleared; with the kernel in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from appliance.control.compile import Known, compile_intent
from appliance.control.flow_desk import FlowDesk
from appliance.control.instructions import Instructions
from appliance.control.reconcile import Reconciler
from appliance.kernel.conntrack_codec import CtEntry, CtTuple, Icmp
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.kernel.fakes.kernel import fake_kernel
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.errors import OperatorError
from appliance.model.facts import Instruction, Namespace
from appliance.model.flow_text import parse_flow
from appliance.model.intent import Intent
from appliance.model.marks import Action, Mark, inline_zone
from services.feature import Runtime
from tests.support.fake_node import OUTSIDE
from tests.support.intents import Tree, changed, intent, two_vpcs

RED = Namespace("vpc-red")
NODES = {
    "ids": {"id": 3, "host": "h1", "interface": "sn3", "link": "10.9.0.0/31"},
    "far": {"id": 4, "host": "h2", "interface": "sn4", "link": "10.9.0.2/31"},
}
WIRES = {
    "id": 2,
    "host": "h1",
    "bridges": {
        "w1": {"north": "n1", "south": "s1", "engine": "one"},
        "w2": {"north": "n2", "south": "s2", "engine": "two"},
    },
    "engines": {"one": {"id": 1}, "two": {"id": 7}},
}


def tree() -> Tree:
    """Give VPC red with service nodes, and an inline edge of two engines, on h1."""
    return changed(changed(two_vpcs(), "vpcs.red.service-nodes", NODES), "inline.edge", WIRES)


@dataclass
class Office:
    """A desk and the kernel behind it."""

    desk: FlowDesk
    conntrack: FakeConntrack

    def play(self, text: str, reply: str, ns: Namespace = RED, zone: int = 1101, mark: int = 0) -> CtEntry:
        """Have a live flow: `10.0.0.1:40000 > 10.0.0.2:80`, TCP, in both directions."""
        entry = CtEntry(6, _tuple(text), _tuple(reply), zone, mark=mark, tcp_state="established")
        self.conntrack.add(ns, entry)
        return entry

    def deny(self, flow: str, name: str = "red") -> dict[str, Any]:
        """Deny a flow."""
        return self.desk.order(name, flow, "deny", "", 0)


def _tuple(text: str) -> CtTuple:
    (one, sport), (other, dport) = (end.split(":") for end in text.split(" > "))
    return CtTuple(ip_address(one), ip_address(other), int(sport), int(dport))


def office(made: Intent, runtime: Runtime | None = None) -> Office:
    """Bring a kernel in memory to an intent, and sit down before it."""
    conntrack = FakeConntrack()
    kernel = fake_kernel(FakeWorld(*OUTSIDE, "sn3", "n1", "s1", "n2", "s2"), conntrack)
    known = Known(runtime or Runtime())
    Reconciler(kernel.ports).apply(compile_intent(made, "h1", known).facts)
    instructions = Instructions(kernel.ports["nft"], conntrack)
    return Office(FlowDesk("h1", made, known.runtime, kernel, instructions), conntrack)


@pytest.fixture
def here() -> Office:
    """Give an office with a live flow that is translated at both ends, judged by the current generation of engine 2."""
    made = office(intent(tree()))
    generation = made.desk.judge.generations(RED)[2]
    made.play(SNATTED, SNAT_REPLY, mark=Mark(generation, 2, Action.ALLOW).word)
    return made


SNATTED, SNAT_REPLY = "172.16.1.13:40000 > 198.51.100.1:80", "198.51.100.1:80 > 203.0.113.1:11264"
ORIGINAL = f"tcp {SNATTED}"


@pytest.mark.parametrize(
    "written",
    [
        "tcp 172.16.1.13:40000 > 198.51.100.1:80",
        "tcp 198.51.100.1:80 > 172.16.1.13:40000",
        "tcp 198.51.100.1:80 > 203.0.113.1:11264",
        "tcp 203.0.113.1:11264 > 198.51.100.1:80",
    ],
)
def test_a_live_flow_is_found_however_it_is_seen(here: Office, written: str) -> None:
    """From the guest or from outside, in either direction: the instruction is for the original tuple."""
    row = here.deny(written)
    assert (row["flow"], row["live"], row["in-force"]) == (ORIGINAL, True, True)
    (key,) = here.desk.instructions.of(RED)
    assert (key.source, key.zone) == (IPv4Address("172.16.1.13"), 1101)


def test_the_answer_says_what_was_before_and_that_the_engine_was_bumped(here: Office) -> None:
    """The record's generation is an old one from now on: its next packet is judged again."""
    row = here.deny(ORIGINAL)
    assert row["record"]["judged"] == "current"
    assert row["record"]["action"] == "allow"
    assert row["record"]["generation"] == row["generation-before"]
    assert row["generation-after"] == row["generation-before"] + 1
    (shown,) = here.desk.held()
    assert shown == {"vpc": "red", "flow": ORIGINAL, "action": "deny", "to": None, "by": None, "live": True}


def test_a_flow_that_is_not_live_is_taken_as_written(here: Office) -> None:
    """The first packet will find the instruction."""
    row = here.deny("udp 172.16.1.13:5 > 198.51.100.1:53")
    assert (row["live"], row["record"], row["generation-before"], row["in-force"]) == (False, None, None, True)
    assert [shown["live"] for shown in here.desk.held("red")] == [False]


def test_an_echo_is_found_from_the_end_that_answered(here: Office) -> None:
    """Whoever writes it does not know who asked."""
    one, other = ip_address("172.16.1.13"), ip_address("172.16.1.11")
    there, back = CtTuple(one, other, icmp=Icmp(8, 0, 77)), CtTuple(other, one, icmp=Icmp(0, 0, 77))
    here.conntrack.add(RED, CtEntry(1, there, back, 1101))
    assert here.deny("icmp 172.16.1.11:77 > 172.16.1.13")["flow"] == "icmp 172.16.1.13:77 > 172.16.1.11:2048"


@pytest.mark.parametrize(("word", "action"), [("deny", Action.DENY), ("reset", Action.REJECT), ("allow", Action.ALLOW)])
def test_each_word_is_an_action(here: Office, word: str, action: Action) -> None:
    """The last one wins."""
    here.deny(ORIGINAL)
    here.desk.order("red", ORIGINAL, word, "", 0)
    assert [given.action for given in here.desk.instructions.of(RED).values()] == [action]


def test_a_redirect_goes_to_a_service_node_of_this_host(here: Office) -> None:
    """Between two guests only: what is translated would not come back the same."""
    row = here.desk.order("red", "tcp 172.16.1.11:1 > 172.16.1.13:2", "redirect", "ids", 0)
    assert row["in-force"]
    (shown,) = here.desk.held("red")
    assert (shown["action"], shown["to"]) == ("redirect", "ids")
    for flow, to, said in (
        ("tcp 172.16.1.11:1 > 172.16.1.13:2", "far", "far is no service node of red here"),
        ("tcp 172.16.1.11:1 > 172.16.1.13:2", "", "nothing is no service node"),
        (ORIGINAL, "ids", "what is translated cannot go through"),
    ):
        with pytest.raises(OperatorError, match=said):
            here.desk.order("red", flow, "redirect", to, 0)


def test_what_a_service_node_ordered_is_shown_with_its_name(here: Office) -> None:
    """Its instructions keep its number."""
    key = parse_flow("tcp 172.16.1.11:1 > 172.16.1.13:2", 1101)
    here.desk.instructions.give((Instruction(RED, key, Action.ALLOW, 3),), 0)
    (shown,) = here.desk.held("red")
    assert (shown["action"], shown["to"], shown["by"]) == ("allow", None, "ids")


def test_who_redirects_to_a_node_that_is_down_is_told() -> None:
    """It is done all the same: the node may be on its way back."""
    down = office(intent(tree()), Runtime(nodes_down=frozenset({("red", "ids")})))
    row = down.desk.order("red", "tcp 172.16.1.11:1 > 172.16.1.13:2", "redirect", "ids", 0)
    assert row["note"] == "service node ids does not answer now"


@pytest.mark.parametrize(
    ("name", "flow", "word", "to", "said"),
    [
        ("green", ORIGINAL, "deny", "", "there is no VPC or inline edge green on this node"),
        ("inline/x", ORIGINAL, "deny", "", "here: blue, red, inline/edge"),
        ("red", "everything", "deny", "", "is no flow"),
        ("red", ORIGINAL, "kill", "", "one of deny, reset, allow, redirect"),
        ("red", ORIGINAL, "deny", "ids", "--to stands with redirect"),
    ],
)
def test_what_cannot_be_done_is_said(here: Office, name: str, flow: str, word: str, to: str, said: str) -> None:
    """With what can be done instead; nothing is changed."""
    with pytest.raises(OperatorError, match=said):
        here.desk.order(name, flow, word, to, 0)
    assert not here.desk.held()


def test_an_instruction_is_taken_back_from_either_end(here: Office) -> None:
    """Once the flow was judged by it, the engine is bumped again, for the rules to decide."""
    before = here.deny(ORIGINAL)["generation-after"]
    here.conntrack.set_mark(RED, tuple(here.conntrack.dump(RED)), Mark(before, 2, Action.DENY).word)
    row = here.desk.clear("red", "tcp 198.51.100.1:80 > 203.0.113.1:11264")
    assert (row["cleared"], row["generation-after"]) == (1, before + 1)
    assert here.desk.clear("red", ORIGINAL)["cleared"] == 0
    here.deny("udp 172.16.1.13:5 > 198.51.100.1:53")
    assert here.desk.clear("red", "udp 198.51.100.1:53 > 172.16.1.13:5")["cleared"] == 1
    assert not here.desk.held()


def test_every_instruction_of_a_vpc_is_taken_back(here: Office) -> None:
    """Those of others stay."""
    here.deny(ORIGINAL)
    here.deny("udp 172.16.1.13:5 > 198.51.100.1:53")
    here.deny("tcp 172.16.1.21:5 > 198.51.100.1:53", "blue")
    assert here.desk.clear_all("red") == {"vpc": "red", "cleared": 2}
    assert [row["vpc"] for row in here.desk.held()] == ["blue"]


def test_a_flow_of_an_inline_edge_is_found_in_the_zone_of_its_engine(here: Office) -> None:
    """The same tuple may live in two engines: the first one is meant, or the one that is named."""
    text, back, ns = "10.1.1.1:1 > 10.2.2.2:2", "10.2.2.2:2 > 10.1.1.1:1", Namespace("inl-edge")
    here.play(text, back, ns, inline_zone(2, 7))
    assert here.desk.find("inline/edge", f"tcp {text}").scope.engine == "two"
    here.play(text, back, ns, inline_zone(2, 1))
    assert here.desk.find("inline/edge", f"tcp {back}").key.zone == inline_zone(2, 1)
    assert here.desk.find("inline/edge/two", f"tcp {back}").key.zone == inline_zone(2, 7)
    with pytest.raises(OperatorError, match="name one of inline/edge/one, inline/edge/two"):
        here.desk.find("inline/edge", "tcp 10.3.3.3:1 > 10.2.2.2:2")
    assert here.desk.find("inline/edge/two", "tcp 10.3.3.3:1 > 10.2.2.2:2").entry is None


def test_a_name_means_what_it_says(here: Office) -> None:
    """Not what begins like it."""
    assert [scope.name for scope in here.desk.scopes()] == ["blue", "red", "inline/edge/one", "inline/edge/two"]
    assert [scope.name for scope in here.desk.scopes("inline/edge")] == ["inline/edge/one", "inline/edge/two"]
    for name in ("re", "inline", "inline/ed", "inline/edge/o", "red/x"):
        with pytest.raises(OperatorError):
            here.desk.scopes(name)
    elsewhere = FlowDesk("gw1", here.desk.intent, Runtime(), here.desk.kernel, here.desk.instructions)
    assert elsewhere.scopes() == ()


def test_a_mark_is_read_beside_the_generations(here: Office) -> None:
    """Current, stale or never judged."""
    word = Mark(4, 2, Action.REDIRECT, 3).word
    row = {"engine": 2, "generation": 4, "judged": "current", "action": "redirect"}
    assert here.desk.record(word, {2: 4}) == row
    assert here.desk.record(word, {2: 5}) == row | {"judged": "stale"}
    assert here.desk.record(word, {}) == row | {"judged": "stale"}
    never = {"engine": None, "generation": None, "judged": "never", "action": None}
    assert here.desk.record(0, {2: 4}) == never
    assert here.desk.object_name(here.desk.scopes("red")[0], Action.REDIRECT, 3) == "ids"
    assert here.desk.object_name(here.desk.scopes("red")[0], Action.LIMIT, 3) == "3"
    assert here.desk.object_name(here.desk.scopes("red")[0], Action.ALLOW, 0) is None


def test_a_namespace_that_is_not_there_yet_has_no_live_flows(here: Office) -> None:
    """Instructions stand in memory before the kernel can take them."""
    gone = replace(here.desk.kernel, conntrack=FakeConntrack())
    desk = FlowDesk("h1", here.desk.intent, Runtime(), gone, here.desk.instructions)
    here.deny(ORIGINAL)
    assert [row["live"] for row in desk.held()] == [False]
