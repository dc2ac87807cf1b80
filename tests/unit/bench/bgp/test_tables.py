from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from bench.bgp import exchange as at
from bench.bgp import tables
from bench.bgp.exchange import FORBIDDEN, Client, client, exchange
from bench.bgp.messages import network
from bench.bgp.tables import Space, Table
from routing.bgp.policy import judge
from routing.bgp.values import Attributes, Family, Segment, SegmentType


@pytest.mark.parametrize(("family", "mixed"), [(Family.IPV4, False), (Family.IPV4, True), (Family.IPV6, False)])
def test_prefixes_ascend_and_do_not_overlap(family: Family, mixed: bool) -> None:
    """Nobody announces what another one does."""
    space = Space(family, mixed=mixed)
    found = [network(family, prefix) for prefix in space.take(500) + space.take(500)]
    for one, other in pairwise(found):
        assert int(one.broadcast_address) < int(other.network_address)


def test_a_space_that_is_used_up_says_so() -> None:
    """It does not begin again."""
    with pytest.raises(ValueError, match="left"):
        Space(Family.IPV4, first=125 << 24).take(70_000)


@pytest.mark.parametrize("kind", [tables.plain, tables.realistic])
@pytest.mark.parametrize("family", Family)
def test_the_policy_takes_everything_that_tables_announce(
    kind: Callable[[Client, list[bytes]], Table], family: Family
) -> None:
    """Otherwise a server would be measured that refuses."""
    everybody = exchange(2, family)
    speaker = at.speaker(everybody)
    table: Table = kind(everybody.clients[0], Space(family, mixed=family is Family.IPV4).take(3000))
    for path, prefixes in table.groups:
        segment = Segment(SegmentType.SEQUENCE, path.asns)
        for prefix in prefixes:
            attributes = Attributes(path.next_hop, as_path=(segment,))
            assert judge(network(family, prefix), attributes, speaker.neighbors[0], speaker) is None


def test_no_path_leads_through_a_client() -> None:
    """A server may not send a client what has been there."""
    table = tables.realistic(client(0, Family.IPV4), Space(Family.IPV4, mixed=True).take(20_000))
    beyond = {asn for path, _ in table.groups for asn in path.asns[1:]}
    assert not any(at.FIRST_AS <= asn < at.FIRST_AS + 2000 for asn in beyond)
    assert not any(low <= asn <= high for asn in beyond for low, high in FORBIDDEN)


def test_a_realistic_table_is_the_same_every_time() -> None:
    """Rounds are compared."""
    one, other = (tables.realistic(client(0, Family.IPV4), Space(Family.IPV4, mixed=True).take(500)) for _ in range(2))
    assert one == other
    assert one.octets == sum(map(len, one.prefixes))


def test_a_detour_makes_every_path_longer_and_changes_no_prefix() -> None:
    """So that the other one is the better way."""
    some = Space(Family.IPV4).take(300)
    near, far = (tables.plain(client(0, Family.IPV4), some, detour=detour) for detour in (0, 1))
    assert near.prefixes == far.prefixes
    assert [len(path.asns) for path, _ in far.groups] == [len(path.asns) + 1 for path, _ in near.groups]
