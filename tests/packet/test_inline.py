"""Inline edges with real packets between two rows of routers (design 0006)."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from appliance.model.facts import Namespace
from appliance.model.marks import Mark
from tests.packet.rows import FORMS, Mirroring, Rows, exchange, rows, tree
from tests.support.intents import Tree
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.worlds import World
    from tests.support.namespaces import Namespaces as Factory

pytestmark = pytest.mark.kernel

#: North may open connections to south's web; nothing else.
WEB: Tree = {"id": 1, "rules": [{"action": "allow", "toward": "south", "protocol": "tcp", "ports": [8080]}]}
PING: Tree = {"id": 1, "rules": [{"action": "allow", "toward": "south", "protocol": "icmp"}]}
ANY: Tree = {"id": 1, "northward": "allow", "southward": "allow"}


@pytest.fixture
def edge(world: World, netns_factory: Factory) -> Iterator[Rows]:
    """Give two rows of routers."""
    with rows(world, netns_factory) as made:
        yield made


@pytest.mark.parametrize("form", FORMS)
def test_a_flow_that_uses_two_links_is_one_flow(edge: Rows, form: str) -> None:
    """SYN on link a, SYN-ACK on link b, data on either: one record; each frame leaves by its partner."""
    for name in "ab":
        edge.wire(name)
    edge.start(tree(form, {"a": "web", "b": "web"}, web=WEB))
    client, server = edge.pair("a")
    edge.road("south", client, "wb", "north")
    taps = {(side, name): edge.tap(side, f"w{name}") for side in ("north", "south") for name in "ab"}
    listener = edge.listen("south", server, 8080)
    one = edge.connect("north", (client, 40000), (server, 8080))
    assert one is not None
    other, _ = listener.accept()
    for number in range(6):
        edge.road("north", server, "wab"[:1] + "ab"[number % 2], "south")
        edge.road("south", client, "w" + "ab"[number // 2 % 2], "north")
        exchange(one, other, b"%d" % number * 60_000)
    ns = "inl-dmz" if form == "inside" else "inl-dmz-web"
    assert len(edge.entries(ns)) == 1
    for name in "ab":
        assert taps["south", name].senders() == {edge.mac("north", f"w{name}")}
        assert taps["north", name].senders() == {edge.mac("south", f"w{name}")}


@pytest.mark.parametrize("form", FORMS)
def test_two_engines_are_two_trackers(edge: Rows, form: str) -> None:
    """The same cables with an engine each: the answer on link b belongs to no flow, and is dropped."""
    for name in "ab":
        edge.wire(name)
    edge.start(tree(form, {"a": "web", "b": "other"}, web=WEB, other=WEB | {"id": 2}))
    client, server = edge.pair("a")
    edge.listen("south", server, 8080)
    edge.road("south", client, "wb", "north")
    assert edge.connect("north", (client, 40000), (server, 8080), patience=1.5) is None
    edge.road("south", client, "wa", "north")
    assert edge.connect("north", (client, 40001), (server, 8080)) is not None


@pytest.mark.parametrize("form", FORMS)
def test_equal_flows_of_two_networks_are_two_flows(edge: Rows, form: str) -> None:
    """One is allowed, its twin in the other network is not; then both are."""
    edge.wire("a")
    edge.wire("b", "north2", "south2")
    deny = {"id": 2, "rules": []}
    edge.start(tree(form, {"a": "web", "b": "other"}, web=WEB, other=deny))
    for north, south, wire in (("north", "south", "a"), ("north2", "south2", "b")):
        edge.pair(wire, north=north, south=south)
    listeners = [edge.listen(router, "10.1.0.2", 8080) for router in ("south", "south2")]
    flow = (("10.1.0.1", 40000), ("10.1.0.2", 8080))
    one = edge.connect("north", *flow)
    assert one is not None
    assert edge.connect("north2", *flow, patience=1.5) is None
    edge.apply(tree(form, {"a": "web", "b": "other"}, web=WEB, other=WEB | {"id": 2}))
    two = edge.connect("north2", *flow)
    assert two is not None
    for sender, listener in zip((one, two), listeners, strict=True):
        exchange(sender, listener.accept()[0], b"hello")
    namespaces = ("inl-dmz",) if form == "inside" else ("inl-dmz-web", "inl-dmz-other")
    entries = [entry for ns in namespaces for entry in edge.entries(ns)]
    assert len({entry.zone for entry in entries}) == 2
    assert len({entry.orig for entry in entries}) == 1
    assert len(entries) == 2


@pytest.mark.parametrize("form", FORMS)
def test_what_nobody_asked_for_is_dropped_on_every_link(edge: Rows, form: str) -> None:
    """A new connection from south, a SYN-ACK and an ACK out of nothing, from either side where it is not allowed."""
    for name in "ab":
        edge.wire(name)
    edge.start(tree(form, {"a": "web", "b": "web"}, web=WEB))
    north, south = edge.pair("a", "b")
    for name in "ab":
        tap, source = edge.tap("north", f"w{name}"), edge.tap("south", f"w{name}")
        ethernet = Ether(src=edge.mac("south", f"w{name}"), dst=edge.mac("north", f"w{name}"))
        ip = IP(src=south, dst=north)
        for flags in ("S", "SA", "A", "FA", "R"):
            source.send(bytes(ethernet / ip / TCP(sport=8080, dport=40000, flags=flags) / flags.encode()))
        source.send(bytes(ethernet / ip / UDP(sport=53, dport=5353) / b"unasked"))
        source.send(bytes(ethernet / ip / ICMP() / b"echo"))
        marker = Ether(src=ethernet.src, dst=ethernet.dst, type=0x88B5) / Raw(b"the end of it")
        source.send(bytes(marker))
        tap.wait(b"the end of it")
        assert [frame for frame in tap.frames() if frame[12:14] == b"\x08\x00"] == []
        back, ethernet = source, Ether(src=ethernet.dst, dst=ethernet.src)
        tap.send(bytes(ethernet / IP(src=north, dst=south) / TCP(sport=41000, dport=8080, flags="SA") / b"SA"))
        tap.send(bytes(Ether(src=ethernet.src, dst=ethernet.dst, type=0x88B5) / Raw(b"the other end")))
        back.wait(b"the other end")
        assert [frame for frame in back.frames() if frame[12:14] == b"\x08\x00"] == []
    assert edge.entries("inl-dmz" if form == "inside" else "inl-dmz-web") == []


@pytest.mark.parametrize("form", FORMS)
def test_a_lost_link_is_mirrored_and_flows_go_on_by_the_other(edge: Rows, form: str) -> None:
    """Link a of north goes down, so does that of south; the connection lives on link b, and the link comes back."""
    for name in "ab":
        edge.wire(name)
    made = tree(form, {"a": "web", "b": "web"}, web=WEB)
    edge.start(made)
    client, server = edge.pair("a")
    listener = edge.listen("south", server, 8080)
    one = edge.connect("north", (client, 40000), (server, 8080))
    assert one is not None
    other = listener.accept()[0]
    exchange(one, other, b"on link a")
    mirrored = Mirroring(edge, made)
    mirrored.until(lambda: edge.carrier("south", "wa") and edge.carrier("south", "wb"))
    edge.run("north", "ip", "link", "set", "wa", "down")
    mirrored.until(lambda: not edge.carrier("south", "wa"))
    assert edge.carrier("south", "wb")
    for router, address, far in (("north", server, "south"), ("south", client, "north")):
        edge.road(router, address, "wb", far)
    exchange(one, other, b"on link b")
    edge.run("north", "ip", "link", "set", "wa", "up")
    mirrored.until(lambda: edge.carrier("south", "wa") and edge.carrier("north", "wa"))
    for router, address, far in (("north", server, "south"), ("south", client, "north")):
        edge.road(router, address, "wa", far)
    exchange(one, other, b"on link a again")
    assert len(edge.entries("inl-dmz" if form == "inside" else "inl-dmz-web")) == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [3000, 9000])
@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
def test_fragments_pass(edge: Rows, form: str, size: int, v6: bool) -> None:
    """The tracker sees the whole datagram, the routers see fragments no larger than they sent."""
    edge.wire("a")
    edge.start(tree(form, {"a": "ping"}, ping=PING))
    _, south = edge.pair("a", v6=v6)
    tap = edge.tap("south", "wa")
    assert " 0% packet loss" in edge.run("north", "ping", "-c", "2", "-W", "5", "-i", "0.2", "-s", str(size), south)
    assert max(map(len, tap.frames())) <= 1514
    assert len(edge.entries("inl-dmz" if form == "inside" else "inl-dmz-ping")) == 1


def test_fragments_of_two_networks_are_never_put_together(edge: Rows) -> None:
    """Equal addresses, protocol and identification: half a datagram here and half there are no datagram."""
    edge.wire("a")
    edge.wire("b", "north2", "south2")
    edge.start(tree("inside", {"a": "web", "b": "other"}, web=ANY, other=ANY | {"id": 2}))
    datagram = IP(src="10.1.0.1", dst="10.1.0.2", id=77) / UDP(sport=7, dport=9) / Raw(bytes(range(256)) * 8)
    taps = {name: edge.tap(f"south{more}", f"w{name}") for name, more in (("a", ""), ("b", "2"))}
    senders = {name: edge.tap(f"north{more}", f"w{name}") for name, more in (("a", ""), ("b", "2"))}
    first, second = datagram.fragment(1400)
    ethernet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    for name, part in (("a", first), ("b", second)):
        senders[name].send(bytes(ethernet / part))
    for name, sender in senders.items():
        sender.send(bytes(Ether(src=ethernet.src, dst=ethernet.dst, type=0x88B5) / Raw(b"the end of it")))
        taps[name].wait(b"the end of it")
        assert [frame for frame in taps[name].frames() if frame[12:14] == b"\x08\x00"] == []
    for name, part in (("a", second), ("b", first)):
        senders[name].send(bytes(ethernet / part))
    for tap in taps.values():
        tap.wait(bytes(range(256)))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_ip_passes_and_learns_nothing(edge: Rows, form: str) -> None:
    """ARP, LLDP, LACP, IS-IS; a MAC that moves from one wire to the other, and to the other side, is no news."""
    for name in "ab":
        edge.wire(name)
    edge.start(tree(form, {"a": "web", "b": "web"}, web=WEB))
    taps = {(side, name): edge.tap(side, f"w{name}") for side in ("north", "south") for name in "ab"}
    mac, far = "02:00:00:00:00:77", "02:00:00:00:00:78"
    kinds: tuple[tuple[str, int], ...] = (
        ("ff:ff:ff:ff:ff:ff", 0x0806),
        ("01:80:c2:00:00:0e", 0x88CC),
        ("01:80:c2:00:00:02", 0x8809),
        ("09:00:2b:00:00:05", 46),
        (far, 0x88B5),
    )
    number = 0
    for side, other in (("north", "south"), ("south", "north"), ("north", "south")):
        for name in "ab":
            for group, kind in kinds:
                number += 1
                text = b"frame %d." % number
                taps[side, name].send(bytes(Ether(src=mac, dst=group, type=kind) / Raw(text.ljust(46, b"\0"))))
                taps[other, name].wait(text)
    for (side, name), tap in taps.items():
        mine = {frame for frame in tap.frames() if b"frame " in frame}
        assert len(mine) == len(kinds) * (2 if side == "south" else 1), f"{side} {name}"


@pytest.mark.parametrize("form", FORMS)
def test_what_hides_ip_is_dropped(edge: Rows, form: str) -> None:
    """Behind a tag or a label no engine looks, so nothing passes there."""
    edge.wire("a")
    edge.start(tree(form, {"a": "web"}, web=WEB))
    north, south = edge.tap("north", "wa"), edge.tap("south", "wa")
    inner = bytes(IP(src="10.1.0.1", dst="10.1.0.2") / UDP(dport=9) / b"hidden")
    ethernet = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02"))[:12]
    behind = (
        "8100000a0800", "8100000088b5", "88a8000a8100000b0800", "884700001140", "886411000001001a0021", "894f0fc60101",
        "88e52000000000010000", "002aaaaa030000000800",
    )  # fmt: skip
    for header in behind:
        north.send(ethernet + bytes.fromhex(header) + inner)
    north.send(ethernet + bytes.fromhex("88b5") + b"the end of it".ljust(46, b"\0"))
    south.wait(b"the end of it")
    assert not [frame for frame in south.frames() if b"hidden" in frame]


@pytest.mark.parametrize("form", FORMS)
def test_ipv6_is_judged_too(edge: Rows, form: str) -> None:
    """Neighbours are found through the edge; a connection is allowed one way."""
    edge.wire("a")
    edge.start(tree(form, {"a": "web"}, web=WEB))
    for router, address in (("north", "fd00:2::1"), ("south", "fd00:2::2")):
        edge.run(router, "ip", "address", "add", f"{address}/64", "dev", "wa", "nodad")
    listeners = {side: edge.listen(side, f"fd00:2::{number}", 8080) for side, number in (("north", 1), ("south", 2))}
    one = edge.connect("north", ("fd00:2::1", 40000), ("fd00:2::2", 8080))
    assert one is not None
    exchange(one, listeners["south"].accept()[0], b"hello")
    assert edge.connect("south", ("fd00:2::2", 40000), ("fd00:2::1", 8080), patience=1.5) is None
    assert edge.run("south", "ip", "-6", "neigh", "show", "fd00:2::1")


def test_flows_of_another_engine_see_nothing_of_a_change(edge: Rows) -> None:
    """Their records keep their generation, and so does the other engine, whoever else has one."""
    edge.wire("a")
    edge.wire("b", "north2", "south2")

    def policies(port: int) -> Tree:
        rule = {**WEB["rules"][0], "ports": [8080, port]}
        return tree("inside", {"a": "web", "b": "other"}, web={"id": 1, "rules": [rule]}, other=WEB | {"id": 2})

    edge.start(policies(9090))
    flows = []
    for wire, more in (("a", ""), ("b", "2")):
        client, server = edge.pair(wire, north=f"north{more}", south=f"south{more}")
        listener = edge.listen(f"south{more}", server, 8080)
        one = edge.connect(f"north{more}", (client, 40000), (server, 8080))
        assert one is not None
        flows.append((one, listener.accept()[0]))

    def generations() -> dict[int, int]:
        for flow in flows:
            exchange(*flow, b"hello")
        return {entry.zone & 0xFF: Mark.of(entry.mark).generation for entry in edge.entries()}

    before = generations()
    edge.apply(policies(9091))
    after = generations()
    assert after[1] != before[1]
    assert after[2] == before[2]


@pytest.mark.parametrize("form", FORMS)
def test_a_policy_is_changed_for_running_flows(edge: Rows, form: str) -> None:
    """What was allowed and is not any more stops; another flow goes on."""
    edge.wire("a")
    both = {"id": 1, "rules": [{**WEB["rules"][0], "ports": [8080, 9090]}]}
    edge.start(tree(form, {"a": "web"}, web=both))
    client, server = edge.pair("a")
    flows = []
    for port in (8080, 9090):
        listener = edge.listen("south", server, port)
        one = edge.connect("north", (client, 40000 + port), (server, port))
        assert one is not None
        flows.append((one, listener.accept()[0]))
    edge.apply(tree(form, {"a": "web"}, web=WEB))
    exchange(*flows[0], b"still here")
    flows[1][0].sendall(b"not any more")
    flows[1][1].settimeout(1.5)
    with pytest.raises(TimeoutError):
        flows[1][1].recv(100)


def test_a_lost_tracker_takes_flows_up_in_the_direction_that_is_allowed(edge: Rows) -> None:
    """The next packet from north makes the record anew; one from south alone does not."""
    edge.wire("a")
    edge.start(tree("inside", {"a": "web"}, web=WEB))
    client, server = edge.pair("a")
    listener = edge.listen("south", server, 8080)
    one = edge.connect("north", (client, 40000), (server, 8080))
    assert one is not None
    other = listener.accept()[0]
    ns = Namespace("inl-dmz")
    assert edge.kernel.conntrack.delete(ns, edge.entries()) == 1
    other.sendall(b"early")
    one.settimeout(0.5)
    with pytest.raises(TimeoutError):
        one.recv(100)
    assert edge.entries() == []
    one.settimeout(10)
    one.sendall(b"late")
    assert other.recv(100) == b"late"
    assert one.recv(100) == b"early"
    assert len(edge.entries()) == 1


BIRD = """
router id {own};
log "{log}" all;
debug protocols {{ states, events }};
protocol device {{}}
protocol bfd {{ interface "*" {{ interval 100 ms; multiplier 20; }}; }}
protocol static {{ ipv4; route {prefix} blackhole; }}
protocol bgp far {{ local {own} as {asn}; neighbor {far} as {far_asn}; direct; bfd; hold time 9; keepalive time 3;
 connect delay time 1; connect retry time 1; error wait time 1, 2;
 ipv4 {{ import all; export all; }}; }}
protocol ospf v2 {{ ipv4 {{ import none; export none; }};
 area 0 {{ interface "wa" {{ hello 1; dead 10; type broadcast; }}; }}; }}
protocol ospf v3 {{ ipv6 {{ import none; export none; }};
 area 0 {{ interface "wa" {{ hello 1; dead 10; type broadcast; }}; }}; }}
"""


@pytest.mark.parametrize("form", FORMS)
def test_routers_hold_their_sessions_while_the_policy_changes(edge: Rows, tmp_path: Path, form: str) -> None:
    """BGP with BFD, OSPF for both families: twenty policies, none of which allows any of it."""
    edge.wire("a")
    policies = [{"id": 1, "rules": [{**WEB["rules"][0], "ports": [1000 + number]}]} for number in range(20)]
    edge.start(tree(form, {"a": "web"}, web=policies[0]))
    for side, number in (("north", 1), ("south", 2)):
        edge.run(side, "ip", "address", "add", f"10.9.0.{number}/30", "dev", "wa")
        text = BIRD.format(
            own=f"10.9.0.{number}", far=f"10.9.0.{3 - number}", asn=65000 + number, far_asn=65003 - number,
            prefix=f"198.51.{number}.0/24", log=tmp_path / f"{side}.log",
        )  # fmt: skip
        edge.bird(side, text, tmp_path)

    def told(side: str, *words: str) -> str:
        return edge.run(side, "birdc", "-s", str(tmp_path / f"{side}.ctl"), *words)

    def up() -> bool:
        for side in ("north", "south"):
            assert "Established" in told(side, "show", "protocols", "far")
            assert "  Up  " in told(side, "show", "bfd", "sessions")
            for ospf in ("ospf1", "ospf2"):
                assert "Full/" in told(side, "show", "ospf", "neighbors", ospf)
        return True

    eventually(up, within=60)
    since = {side: told(side, "show", "protocols", "far") for side in ("north", "south")}
    for policy in policies[1:] + policies[:1]:
        edge.apply(tree(form, {"a": "web"}, web=policy))
    assert up()
    assert {side: told(side, "show", "protocols", "far") for side in since} == since
    for side in since:
        assert (tmp_path / f"{side}.log").read_text().count("BGP session established") == 1
        assert "Neighbor dead" not in (tmp_path / f"{side}.log").read_text()
    assert edge.entries("inl-dmz" if form == "inside" else "inl-dmz-web") == []


@pytest.mark.parametrize("form", FORMS)
def test_no_word_of_routers_is_lost_while_the_policy_changes(edge: Rows, form: str) -> None:
    """BFD's packets, one a millisecond: the table is replaced in one step, again and again."""
    edge.wire("a")
    engines = [{"id": 1, "northward": verdict} for verdict in ("allow", "deny")]
    edge.start(tree(form, {"a": "web"}, web=engines[0]))
    sender, receiver = edge.tap("north", "wa"), edge.tap("south", "wa")
    packet = IP(src="10.9.0.1", dst="10.9.0.2", ttl=255) / UDP(sport=49152, dport=3784, chksum=0)
    frame = bytes(Ether(src=edge.mac("north", "wa"), dst=edge.mac("south", "wa")) / packet / Raw(bytes(24)))
    over, sent = threading.Event(), 0

    def send() -> None:
        nonlocal sent
        while not over.wait(0.001):
            sender.send(frame[:-4] + sent.to_bytes(4))
            sent += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        for number in range(20):
            edge.apply(tree(form, {"a": "web"}, web=engines[(number + 1) % 2]))
    finally:
        over.set()
        thread.join()
    receiver.wait(frame[14:-4] + (sent - 1).to_bytes(4))
    numbers = [int.from_bytes(got[-4:]) for got in receiver.frames() if frame[14:-4] in got]
    assert numbers == list(range(sent))
    assert sent > 100


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
def test_a_rejected_connection_is_refused_in_the_name_of_the_other_end(edge: Rows, form: str, v6: bool) -> None:
    """At once, with the addresses and the MAC that an answer would have; so is one that was allowed before."""
    edge.wire("a")
    edge.start(tree(form, {"a": "web"}, web=WEB))
    client, server = edge.pair("a", v6=v6)
    listener = edge.listen("south", server, 8080)
    one = edge.connect("north", (client, 40000), (server, 8080))
    assert one is not None
    other = listener.accept()[0]
    reject = {"id": 1, "rules": [{"action": "reject", "protocol": "tcp"}]}
    edge.apply(tree(form, {"a": "web"}, web=reject))
    tap = edge.tap("north", "wa")
    two = edge.opened("north", socket.AF_INET6 if v6 else socket.AF_INET)
    two.bind((client, 40001))
    with pytest.raises(ConnectionRefusedError):
        two.connect((server, 8080))
    answers = [frame for frame in tap.frames() if frame[12:14] in (b"\x08\x00", b"\x86\xdd") and b"\x9c\x41" in frame]
    assert [frame[6:12].hex(":") for frame in answers] == [edge.mac("south", "wa")]
    one.sendall(b"refused too")
    with pytest.raises(ConnectionResetError):
        one.recv(100)
    other.close()
