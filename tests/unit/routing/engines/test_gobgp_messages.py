"""A configuration in the words of gobgpd's API."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

from routing.bgp.values import ExportPolicy, Family, ImportPolicy, Mode, Neighbor, PrefixRule, Speaker
from routing.engines import gobgp_messages as messages
from routing.engines.gobgp_api import gobgp_pb2 as api
from routing.engines.gobgp_config import Config, compile_speaker

RULES = (PrefixRule(ip_network("198.51.100.0/24"), 24, 28), PrefixRule(ip_network("2001:db8::/32"), 48, 48))
A = Neighbor(
    "a",
    65001,
    ip_address("192.0.2.2"),
    local_address=ip_address("192.0.2.1"),
    families=(Family.IPV4, Family.IPV6),
    imports=ImportPolicy(
        accept=RULES, first_as=65001, max_path_length=7, max_prefixes=9, next_hops=(ip_network("192.0.2.2/32"),)
    ),
    exports=ExportPolicy(accept=RULES),
    hold_time=30,
    restart_time=200,
)
RANGE = replace(A, name="many", address=None, range=ip_network("10.0.0.0/8"))
RS = Speaker("rs", Mode.TRANSPARENT, 65000, IPv4Address("192.0.2.1"), (ip_address("192.0.2.1"),), 1790, (A, RANGE))


def config(**changed: object) -> Config:
    """Return the configuration of a speaker."""
    return compile_speaker(replace(RS, **changed), {})  # type: ignore[arg-type] # fields of a speaker


def test_a_speaker_listens_where_it_is_told_and_prefers_no_old_routes() -> None:
    """The best path must not depend on who came first."""
    begun = getattr(messages.start(config()), "global")
    assert (begun.asn, begun.router_id, begun.listen_port) == (65000, "192.0.2.1", 1790)
    assert list(begun.listen_addresses) == ["192.0.2.1"]
    assert begun.route_selection_options.external_compare_router_id


def test_a_speaker_without_addresses_does_not_listen() -> None:
    """An empty list means every address to gobgpd."""
    assert getattr(messages.start(config(listen=())), "global").listen_port == -1


def test_the_global_table_refuses_by_default() -> None:
    """RFC 8212; clients of a route server have nothing to do with that table."""
    for mode, names in ((Mode.ROUTER, [["import"], ["export"]]), (Mode.TRANSPARENT, [[], []])):
        assigned = [request.assignment for request in messages.assignments(config(mode=mode))]
        assert [[policy.name for policy in item.policies] for item in assigned] == names
        assert {item.default_action for item in assigned} == {api.REJECT}
        assert [item.direction for item in assigned] == [api.IMPORT, api.EXPORT]


def test_a_client_has_its_policies_and_refuses_by_default() -> None:
    """By name: their content changes without the neighbour."""
    made = messages.peer(config().peers[0], restarting=False).peer
    assert made.route_server.route_server_client
    assert [policy.name for policy in made.apply_policy.import_policy.policies] == ["import 192.0.2.2"]
    assert made.apply_policy.import_policy.default_action == api.REJECT
    assert made.apply_policy.export_policy.default_action == api.REJECT


def test_a_neighbour_has_its_families_timers_and_limits() -> None:
    """All families restart gracefully or none does."""
    made = messages.peer(config().peers[0], restarting=False).peer
    assert (made.timers.config.hold_time, made.transport.local_address) == (30, "192.0.2.1")
    assert [item.config.family.afi for item in made.afi_safis] == [api.Family.AFI_IP, api.Family.AFI_IP6]
    assert [item.prefix_limits.max_prefixes for item in made.afi_safis] == [100, 100]
    assert all(item.mp_graceful_restart.config.enabled for item in made.afi_safis)
    assert (made.graceful_restart.restart_time, made.graceful_restart.local_restarting) == (200, False)


def test_after_a_crash_neighbours_are_told_that_we_are_restarting() -> None:
    """And that does not keep us silent as long as they would wait for us."""
    made = messages.peer(config().peers[0], restarting=True).peer.graceful_restart
    assert made.local_restarting
    assert made.deferral_time < made.restart_time


def test_a_neighbour_without_graceful_restart_is_told_nothing_of_it() -> None:
    """`restart_time` 0 turns it off."""
    made = messages.peer(replace(config().peers[0], restart_time=0), restarting=True).peer
    assert not made.graceful_restart.enabled
    assert not made.graceful_restart.local_restarting
    assert not any(item.mp_graceful_restart.config.enabled for item in made.afi_safis)


def test_a_range_is_a_group_that_waits_for_its_members() -> None:
    """We cannot know whom to connect to."""
    group, dynamic = messages.group(config().peers[1])
    assert group.peer_group.conf.peer_group_name == dynamic.dynamic_neighbor.peer_group == "many"
    assert group.peer_group.transport.passive_mode
    assert dynamic.dynamic_neighbor.prefix == "10.0.0.0/8"


def test_sets_are_defined_once_and_every_statement_has_its_own_name() -> None:
    """Two neighbours with equal rules share the sets; gobgpd refuses a statement's name that it has seen."""
    request = messages.policies(config())
    names = [item.name for item in request.defined_sets]
    assert len(names) == len(set(names))
    statements = [statement for policy in request.policies for statement in policy.statements]
    assert len({statement.name for statement in statements}) == len(statements)
    used = {
        statement.conditions.prefix_set.name for statement in statements if statement.conditions.HasField("prefix_set")
    }
    prefixes = {item.name: list(item.prefixes) for item in request.defined_sets if item.defined_type == api.PREFIX}
    assert used == set(prefixes)
    assert len(prefixes) == 2
    assert [api.Prefix(ip_prefix="198.51.100.0/24", mask_length_min=24, mask_length_max=28)] in prefixes.values()


def test_conditions_of_an_import_policy() -> None:
    """The first AS is matched inverted; lengths begin one above what is allowed."""
    request = messages.policies(config())
    sets = {item.name: list(item.list) for item in request.defined_sets if item.defined_type == api.AS_PATH}
    told = [statement for policy in request.policies[:1] for statement in policy.statements]
    paths = [
        (sets[item.conditions.as_path_set.name], item.conditions.as_path_set.type)
        for item in told
        if item.conditions.HasField("as_path_set")
    ]
    assert paths == [(["_(0)_"], api.MatchSet.ANY), ([r"\{"], api.MatchSet.ANY), (["^65001( |$)"], api.MatchSet.INVERT)]
    (long,) = [item.conditions.as_path_length for item in told if item.conditions.HasField("as_path_length")]
    assert (long.type, long.length) == (api.AsPathLength.GE, 8)
    accepting = [item for item in told if item.actions.route_action == api.ACCEPT]
    assert [list(item.conditions.next_hop_in_list) for item in accepting] == [["192.0.2.2/32"]] * 2
    assert told[-1].actions.route_action == api.REJECT
    assert not told[-1].conditions.HasField("prefix_set")


def test_next_hop_self_is_an_action_on_routes_of_others() -> None:
    """For a neighbour of our own AS."""
    inside = replace(A, asn=65000, next_hop_self=True)
    request = messages.policies(config(mode=Mode.ROUTER, neighbors=(inside,)))
    selfish = [s for policy in request.policies for s in policy.statements if s.actions.nexthop.self]
    assert len(selfish) == 2
    assert {s.conditions.route_type for s in selfish} == {api.Conditions.ROUTE_TYPE_EXTERNAL}
    (local,) = [s for s in request.policies[0].statements if s.conditions.route_type == api.Conditions.ROUTE_TYPE_LOCAL]
    assert local.actions.route_action == api.ACCEPT


def test_taking_back_marks_routes_as_long_lived_stale() -> None:
    """Gobgpd then withdraws them from a neighbour that did not negotiate RFC 9494, and we never negotiate it."""
    request = messages.policies(config().taking_back(["192.0.2.2"]))
    marking = [s for policy in request.policies for s in policy.statements if s.actions.HasField("community")]
    assert [list(s.actions.community.communities) for s in marking] == [["65535:6"]]
    assert marking[0].actions.community.type == api.CommunityAction.ADD
    assert marking[0].actions.route_action == api.ACCEPT
    assert not messages.peer(config().peers[0], restarting=False).peer.graceful_restart.longlived_enabled
