"""Laws that hold for every valid intent; unit tests and mutations hold them for many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from appliance.control.compile import Desired, Known, compile_intent
from appliance.model.facts import Advertisement
from appliance.model.intent import Intent
from routing.bgp.policy import judge, may_export
from routing.bgp.values import Announcement, Attributes, Neighbor, Reason, Segment, SegmentType, Speaker
from services.edge import carried
from services.feature import Runtime
from services.nat import own_blocks
from services.place import Place

#: Kinds that one node alone may announce, whatever its role; a gateway may bring any other prefix from outside.
OWNED_BY_ONE = frozenset({"loopback", "snat", "vip-member", "guest"})


def every_block(intent: Intent, node: str) -> Known:
    """Return a runtime in which a host has taken every block of ports it owns."""
    blocks: dict[str, tuple[int, ...]] = {}
    for vpc in carried(intent, node):
        nat, place = intent.vpcs[vpc].snat, Place.of(intent, node, vpc)
        blocks[vpc] = tuple(range(len(own_blocks(nat, place.slot, place.slots)))) if nat is not None else ()
    return Known(Runtime(blocks))


def compile_all(intent: Intent) -> dict[str, Desired]:
    """Compile every node with every block of ports taken."""
    return {name: compile_intent(intent, name, every_block(intent, name)) for name in intent.nodes}


@dataclass(frozen=True, slots=True)
class Sent:
    """One announcement as a route server would hear it from one node, and what it says."""

    sender: str
    neighbor: str
    prefix: str
    kind: str
    reason: Reason | None


def heard(intent: Intent, desired: dict[str, Desired]) -> Iterator[Sent]:
    """Let every node send all its announcements on every session to a route server, and let the server judge."""
    for sender, state in desired.items():
        kinds = {a.prefix: a for a in state.advertisements}
        for speaker in state.speakers if sender not in intent.with_role("route-server") else ():
            for session in speaker.neighbors:
                server, other = _other_end(intent, desired, speaker, session)
                for announcement in speaker.announcements:
                    if announcement.prefix.version == other_version(other) and may_export(
                        announcement.prefix, session.exports
                    ):
                        reason = _judge(intent, announcement, session, other, server)
                        yield Sent(
                            sender, other.name, str(announcement.prefix), kinds[announcement.prefix].kind, reason
                        )


def stolen(intent: Intent, desired: dict[str, Desired]) -> Iterator[Sent]:
    """Let every node announce what belongs to another one; yield what a route server accepts."""
    servers = [speaker for state in desired.values() for speaker in state.speakers if speaker.name == "zone"]
    for owner, state in desired.items():
        for advertisement in state.advertisements:
            for server in servers:
                for neighbor in server.neighbors:
                    thief = neighbor.name.partition("/")[0]
                    if thief != owner and thief in intent.nodes and _guarded(intent, advertisement, thief):
                        attributes = Attributes(neighbor.address or server.listen[0])
                        if judge(advertisement.prefix, attributes, neighbor, server) is None:
                            yield Sent(thief, neighbor.name, str(advertisement.prefix), advertisement.kind, None)


def _guarded(intent: Intent, advertisement: Advertisement, thief: str) -> bool:
    if "gateway" in intent.nodes[thief].roles:
        return advertisement.kind in OWNED_BY_ONE
    if advertisement.kind == "vip":  # anycast: every host with a backend announces it
        vpc = intent.vpcs[advertisement.owner]
        vips = [vip for vip in vpc.vips.values() if vip.address == advertisement.prefix.network_address]
        return not any(vpc.guests[name].host == thief for vip in vips for name in vip.backends)
    return True


def other_version(neighbor: Neighbor) -> int:
    """Return the IP version whose prefixes a session carries."""
    return 4 if neighbor.families[0].name == "IPV4" else 6


def _other_end(
    intent: Intent, desired: dict[str, Desired], speaker: Speaker, session: Neighbor
) -> tuple[Speaker, Neighbor]:
    """Find the route server's side of a session by its addresses, as TCP would."""
    name = session.name.partition("/")[0]
    assert "route-server" in intent.nodes[name].roles
    for server in desired[name].speakers:
        for neighbor in server.neighbors:
            if neighbor.address == session.local_address and neighbor.local_address == session.address:
                assert (session.asn, neighbor.asn) == (server.asn, speaker.asn)
                assert session.families == neighbor.families
                assert session.address in server.listen
                return server, neighbor
    raise AssertionError(f"{session.name}: the route server expects nobody there")


def _judge(
    intent: Intent, announcement: Announcement, session: Neighbor, other: Neighbor, server: Speaker
) -> Reason | None:
    external = server.asn != intent.zone.as_
    path = (Segment(SegmentType.SEQUENCE, (intent.zone.as_,)),) if external else ()
    next_hop = announcement.next_hop if announcement.next_hop is not None and not external else session.local_address
    assert next_hop is not None
    return judge(announcement.prefix, Attributes(next_hop, as_path=path), other, server)


def clashes(desired: Desired) -> list[object]:
    """Return facts, announcements and sessions of one node that claim the same name."""
    names: list[object] = [(type(fact), fact.key) for fact in desired.facts]
    names += [
        (speaker.name, announcement.prefix) for speaker in desired.speakers for announcement in speaker.announcements
    ]
    names += [(speaker.name, neighbor.name) for speaker in desired.speakers for neighbor in speaker.neighbors]
    return [name for name in set(names) if names.count(name) > 1]
