"""gobgpd is changed in the right order, by the difference, and a crash in between is noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import pytest

from appliance.model.errors import EngineError
from routing.bgp.values import (
    Address,
    Announcement,
    Attributes,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Speaker,
)
from routing.engines.engine import SessionState
from routing.engines.gobgp_apply import Memory, configure, originate
from routing.engines.gobgp_codec import PathView, PeerView
from routing.engines.gobgp_config import Config, Peer, compile_speaker

ONE, TWO = ip_network("198.51.100.0/24"), ip_network("203.0.113.0/24")
BOTH = ExportPolicy(accept=(PrefixRule.exact(ONE), PrefixRule.exact(TWO)))
NARROW = ExportPolicy(accept=(PrefixRule.exact(TWO),))
A = Neighbor("a", 65001, ip_address("192.0.2.2"), exports=BOTH)
B = Neighbor("b", 65002, ip_address("192.0.2.3"), exports=BOTH)
MANY = Neighbor("many", 65003, range=ip_network("10.0.0.0/8"), exports=BOTH)
RS = Speaker("rs", Mode.TRANSPARENT, 65000, IPv4Address("192.0.2.1"), (), neighbors=(A, B, MANY))


class FakeGobgp:
    """The calls of `Client` on a gobgpd that remembers them in order; every session is up."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.keys: dict[Address, str] = {}
        self.ranges: dict[str, Network] = {}
        self.own: dict[Network, Announcement] = {}
        self.fails = ""

    def _note(self, call: str, what: object = "") -> None:
        if call == self.fails:
            raise EngineError(f"gobgpd: {call}")
        self.calls.append(f"{call} {what}".strip())

    async def peers(self) -> list[PeerView]:
        """List the sessions."""
        return [
            PeerView(
                address=address,
                asn=1,
                router_id=IPv4Address(0),
                group=group,
                state=SessionState.ESTABLISHED,
                over_limit=False,
                detail="",
                families=(Family.IPV4,),
                complete=frozenset(),
                promised=frozenset(),
                up_since=0.0,
                received=0,
                accepted=0,
                advertised=0,
            )
            for address, group in self.keys.items()
        ]

    async def groups(self) -> list[str]:
        """List the groups."""
        return list(self.ranges)

    async def set_policies(self, config: Config) -> None:
        """Replace the policies; say if they take something back."""
        takes = any(statement.take_back for policy in config.policies for statement in policy.statements)
        self._note("taking-back" if takes else "policies")

    async def add(self, peer: Peer, *, restarting: bool) -> None:
        """Add a neighbour or a group."""
        self._note("add", peer.key)
        if peer.range is not None:
            self.ranges[peer.key] = peer.range
        elif peer.address is not None:
            self.keys[peer.address] = ""

    async def remove_peer(self, address: Address) -> None:
        """End a session."""
        self._note("remove", address)
        del self.keys[address]

    async def remove_group(self, name: str, members: Iterable[Address]) -> None:
        """Remove a group with its sessions."""
        for address in members:
            await self.remove_peer(address)
        self._note("remove", name)
        del self.ranges[name]

    async def send_again(self, address: Address) -> None:
        """Send everything."""
        self._note("send", address)

    async def judge_again(self, address: Address) -> None:
        """Judge everything."""
        self._note("judge", address)

    async def table(self, family: Family) -> AsyncIterator[PathView]:
        """Yield the global table."""
        self._note("table")
        if family is Family.IPV4:
            yield path(ONE, None)
            yield path(TWO, ip_address("192.0.2.2"))

    async def originate(self, announcements: Iterable[Announcement], gone: Iterable[Network]) -> None:
        """Announce and withdraw."""
        for item in announcements:
            self._note("announce", item.prefix)
        for prefix in gone:
            self._note("withdraw", prefix)


def path(prefix: Network, neighbor: Address | None) -> PathView:
    """Return a path."""
    attributes = Attributes(IPv4Address(0))
    return PathView(prefix, neighbor, IPv4Address(0), attributes, best=True, stale=False, refused=False)


@pytest.fixture
async def gobgp(tmp_path: Path) -> FakeGobgp:
    """Give a gobgpd that is RS, with one session of the range."""
    made = FakeGobgp()
    await become(made, tmp_path, RS, None)
    made.keys[ip_address("10.0.0.1")] = "many"
    made.calls.clear()
    return made


async def become(gobgp: FakeGobgp, directory: Path, speaker: Speaker, before: Speaker | None = RS) -> list[str]:
    """Make it a speaker; return the calls that took."""
    memory = Memory(directory / "digests")
    config = compile_speaker(speaker, {})
    await configure(gobgp, memory, before, config, restarting=False)  # type: ignore[arg-type] # a fake
    assert memory.load() == config.digests
    return gobgp.calls


async def test_policies_come_before_the_neighbours_that_use_them(tmp_path: Path) -> None:
    """A neighbour whose policy is unknown gets none, and gobgpd would later take that for accept."""
    made = FakeGobgp()
    assert await become(made, tmp_path, RS, None) == ["policies", "add 192.0.2.2", "add 192.0.2.3", "add many"]


async def test_neighbours_go_before_their_policies(gobgp: FakeGobgp, tmp_path: Path) -> None:
    """For the same reason; a group goes with all its sessions."""
    wanted = replace(RS, neighbors=(A,))
    assert await become(gobgp, tmp_path, wanted) == ["remove 192.0.2.3", "remove 10.0.0.1", "remove many", "policies"]


async def test_an_equal_configuration_needs_no_call(gobgp: FakeGobgp, tmp_path: Path) -> None:
    """Also when the daemon is new and knows only the digests."""
    assert await become(gobgp, tmp_path, RS, None) == []


async def test_a_new_import_policy_judges_again(gobgp: FakeGobgp, tmp_path: Path) -> None:
    """One neighbour, or every session of a range."""
    accept = ImportPolicy(accept=(PrefixRule.exact(ONE),))
    wanted = replace(RS, neighbors=(A, replace(B, imports=accept), replace(MANY, imports=accept)))
    assert await become(gobgp, tmp_path, wanted) == ["policies", "judge 192.0.2.3", "judge 10.0.0.1"]


async def test_a_wider_export_policy_sends_again(gobgp: FakeGobgp, tmp_path: Path) -> None:
    """Nothing has to be taken back, so what is held is not asked for."""
    wider = ExportPolicy(accept=(*BOTH.accept, PrefixRule.exact(ip_network("10.0.0.0/8"))))
    wanted = replace(RS, neighbors=(A, replace(B, exports=wider), MANY))
    assert await become(gobgp, tmp_path, wanted) == ["policies", "send 192.0.2.3"]


async def test_a_narrower_export_policy_takes_back_first(gobgp: FakeGobgp, tmp_path: Path) -> None:
    """Gobgpd would withdraw nothing; who has a wider one is only sent more."""
    wider = ExportPolicy(accept=(*BOTH.accept, PrefixRule.exact(ip_network("10.0.0.0/8"))))
    wanted = replace(RS, neighbors=(replace(A, exports=wider), *(replace(n, exports=NARROW) for n in (B, MANY))))
    assert await become(gobgp, tmp_path, wanted) == [
        "taking-back",
        "send 192.0.2.3",
        "send 10.0.0.1",
        "policies",
        "send 192.0.2.2",
    ]


async def test_a_new_daemon_takes_back_in_doubt(gobgp: FakeGobgp, tmp_path: Path) -> None:
    """It does not know what was allowed."""
    wider = ExportPolicy(accept=(*BOTH.accept, PrefixRule.exact(ip_network("10.0.0.0/8"))))
    wanted = replace(RS, neighbors=(A, replace(B, exports=wider), MANY))
    assert await become(gobgp, tmp_path, wanted, None) == ["taking-back", "send 192.0.2.3", "policies"]


@pytest.mark.parametrize(
    ("before", "after", "takes_back"),
    [
        ({"exports": BOTH}, {"exports": NARROW}, True),
        ({"exports": NARROW}, {"exports": BOTH}, False),
        ({"exports": BOTH}, {"exports": replace(BOTH, never=(PrefixRule.exact(ONE),))}, True),
        ({"exports": BOTH, "extended_next_hop": True}, {"exports": BOTH, "extended_next_hop": False}, True),
        ({"exports": BOTH, "extended_next_hop": False}, {"exports": BOTH, "extended_next_hop": True}, False),
    ],
)
async def test_taking_back_is_for_what_is_forbidden_now(
    tmp_path: Path, before: dict[str, object], after: dict[str, object], takes_back: bool
) -> None:
    """Nothing else needs it."""
    made = FakeGobgp()
    was, wanted = (replace(RS, neighbors=(replace(A, **changed),)) for changed in (before, after))  # type: ignore[arg-type]
    await become(made, tmp_path, was, None)
    made.calls.clear()
    assert ("taking-back" in await become(made, tmp_path, wanted, was)) is takes_back


async def test_a_failure_leaves_what_was_touched_in_doubt(gobgp: FakeGobgp, tmp_path: Path) -> None:
    """So the next attempt does it again; what was not touched keeps its digest."""
    wanted = replace(RS, neighbors=(A, replace(B, imports=ImportPolicy(accept=(PrefixRule.exact(ONE),))), MANY))
    gobgp.fails = "policies"
    with pytest.raises(EngineError):
        await become(gobgp, tmp_path, wanted)
    known = Memory(tmp_path / "digests").load()
    assert "policies" not in known
    assert "import 192.0.2.3" not in known
    assert {"peer 192.0.2.3", "import 192.0.2.2"} <= known.keys()
    gobgp.fails = ""
    assert await become(gobgp, tmp_path, wanted) == ["policies", "judge 192.0.2.3"]


async def test_announcements_change_by_the_difference(tmp_path: Path) -> None:
    """An announcement with other attributes replaces the one of its prefix."""
    made, memory = FakeGobgp(), Memory(tmp_path / "digests")
    known = {ONE: Announcement(ONE), TWO: Announcement(TWO)}
    wanted = (Announcement(ONE), Announcement(TWO, med=1))
    now = await originate(made, memory, wanted, known)  # type: ignore[arg-type] # a fake
    assert (made.calls, now) == ([f"announce {TWO}"], {ONE: wanted[0], TWO: wanted[1]})
    made.calls.clear()
    await originate(made, memory, (), now)  # type: ignore[arg-type] # a fake
    assert sorted(made.calls) == [f"withdraw {ONE}", f"withdraw {TWO}"]


async def test_an_adopted_gobgpd_is_asked_what_it_announces(tmp_path: Path) -> None:
    """If it may be something else than what is wanted. What neighbours said is not ours to withdraw."""
    made, memory = FakeGobgp(), Memory(tmp_path / "digests")
    await originate(made, memory, (Announcement(ONE), Announcement(TWO)), {})  # type: ignore[arg-type] # a fake
    made.calls.clear()
    await originate(made, memory, (Announcement(TWO), Announcement(ONE)), None)  # type: ignore[arg-type] # a fake
    assert made.calls == []
    await originate(made, memory, (), None)  # type: ignore[arg-type] # a fake
    assert made.calls == ["table", "table", f"withdraw {ONE}"]


async def test_announcements_that_may_have_failed_are_in_doubt(tmp_path: Path) -> None:
    """The next daemon looks at the table."""
    made, memory = FakeGobgp(), Memory(tmp_path / "digests")
    wanted = (Announcement(ONE),)
    await originate(made, memory, (), {})  # type: ignore[arg-type] # a fake
    made.fails = "announce"
    with pytest.raises(EngineError):
        await originate(made, memory, wanted, {})  # type: ignore[arg-type] # a fake
    made.fails = ""
    await originate(made, memory, (), None)  # type: ignore[arg-type] # a fake
    assert made.calls == ["table", "table", f"withdraw {ONE}"]


def test_a_damaged_memory_is_empty(tmp_path: Path) -> None:
    """Then everything is in doubt."""
    memory = Memory(tmp_path / "digests")
    assert memory.load() == {}
    for text in ("", "{", "[1]"):
        (tmp_path / "digests").write_text(text)
        assert memory.load() == {}
    memory.save({"a": "b"})
    assert memory.load() == {"a": "b"}
    assert (tmp_path / "digests").stat().st_mode & 0o077 == 0
    memory.forget()
    memory.forget()
    assert memory.load() == {}
