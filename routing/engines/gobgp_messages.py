"""A gobgpd configuration in the words of gobgpd's API, version 3 (`apipb`). Pure.

Called by the GoBGP engine. Together with `gobgp_codec` and `gobgp_client` this is all that knows the API; version 4
renamed the service and shifted every enum, so names of enum values are used and never their numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.bgp.values import Family
from routing.engines.gobgp_api import gobgp_pb2 as api
from routing.engines.gobgp_config import Config, Peer, digest
from routing.engines.gobgp_policy import EXPORT, IMPORT, Policy, Statement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from routing.bgp.values import Network, PrefixRule

#: gobgpd asks for at least 5 s and waits up to twice as long.
_CONNECT_RETRY = 5
#: Longest silence of ours after a restart: gobgpd waits for every neighbour that restarts gracefully, also for those that
#: were away before. It calls them within ten seconds.
_DEFERRAL = 15

#: RFC 9494 4.6.
_LLGR_STALE = "65535:6"

_FAMILIES = {
    Family.IPV4: api.Family(afi=api.Family.AFI_IP, safi=api.Family.SAFI_UNICAST),
    Family.IPV6: api.Family(afi=api.Family.AFI_IP6, safi=api.Family.SAFI_UNICAST),
}


def family(value: Family) -> api.Family:
    """Return a family as the API writes it."""
    return _FAMILIES[value]


def start(config: Config) -> api.StartBgpRequest:
    """Return what makes an empty gobgpd a speaker."""
    options = api.RouteSelectionOptionsConfig(
        # The default prefers the older path, so the best path would depend on who came first.
        external_compare_router_id=True
    )
    speaker = config.speaker
    return api.StartBgpRequest(
        **{
            "global": api.Global(
                asn=speaker.asn,
                router_id=str(speaker.router_id),
                listen_port=speaker.port if speaker.listen else -1,
                listen_addresses=[str(address) for address in speaker.listen],
                route_selection_options=options,
            )
        }
    )


def assignments(config: Config) -> list[api.SetPolicyAssignmentRequest]:
    """Return what puts the two policies of the global table in force; without them it refuses everything."""
    directions = ((api.IMPORT, IMPORT), (api.EXPORT, EXPORT))
    return [
        api.SetPolicyAssignmentRequest(
            assignment=api.PolicyAssignment(
                name="global",
                direction=direction,
                policies=[] if config.route_server else [api.Policy(name=name)],
                default_action=api.REJECT,
            )
        )
        for direction, name in directions
    ]


def policies(config: Config) -> api.SetPoliciesRequest:
    """Return all policies and the sets that they use; a set is named by its content and defined once."""
    sets: dict[str, api.DefinedSet] = {}
    encoded = [_policy(policy, sets) for policy in config.policies]
    return api.SetPoliciesRequest(defined_sets=list(sets.values()), policies=encoded)


def peer(value: Peer, *, restarting: bool) -> api.AddPeerRequest:
    """Return a neighbour; `restarting` tells it that we had a life before and kept forwarding (RFC 4724 4.1)."""
    return api.AddPeerRequest(
        peer=api.Peer(
            conf=api.PeerConf(neighbor_address=value.key, peer_asn=value.asn),
            apply_policy=_apply_policy(value),
            timers=_timers(value),
            transport=_transport(value),
            route_server=api.RouteServer(route_server_client=value.client == "server"),
            route_reflector=api.RouteReflector(route_reflector_client=value.client == "reflector"),
            graceful_restart=_graceful_restart(value, restarting=restarting),
            afi_safis=_afi_safis(value),
        )
    )


def group(value: Peer) -> tuple[api.AddPeerGroupRequest, api.AddDynamicNeighborRequest]:
    """Return the group of sessions that come from a range, and the range."""
    made = api.AddPeerGroupRequest(
        peer_group=api.PeerGroup(
            conf=api.PeerGroupConf(peer_group_name=value.key, peer_asn=value.asn),
            apply_policy=_apply_policy(value),
            timers=_timers(value),
            transport=_transport(value),
            route_server=api.RouteServer(route_server_client=value.client == "server"),
            route_reflector=api.RouteReflector(route_reflector_client=value.client == "reflector"),
            graceful_restart=_graceful_restart(value, restarting=False),
            afi_safis=_afi_safis(value),
        )
    )
    dynamic = api.DynamicNeighbor(prefix=str(value.range), peer_group=value.key)
    return made, api.AddDynamicNeighborRequest(dynamic_neighbor=dynamic)


def _timers(value: Peer) -> api.Timers:
    return api.Timers(config=api.TimersConfig(connect_retry=_CONNECT_RETRY, hold_time=value.hold_time))


def _transport(value: Peer) -> api.Transport:
    local = "" if value.local_address is None else str(value.local_address)
    return api.Transport(local_address=local, passive_mode=value.passive or value.range is not None)


def _graceful_restart(value: Peer, *, restarting: bool) -> api.GracefulRestart:
    enabled = value.restart_time > 0
    return api.GracefulRestart(
        enabled=enabled,
        restart_time=value.restart_time,
        deferral_time=min(value.restart_time, _DEFERRAL),
        local_restarting=enabled and restarting,
    )


def _afi_safis(value: Peer) -> list[api.AfiSafi]:
    return [
        api.AfiSafi(
            config=api.AfiSafiConfig(family=family(wanted), enabled=True),
            mp_graceful_restart=api.MpGracefulRestart(
                config=api.MpGracefulRestartConfig(enabled=value.restart_time > 0)
            ),
            prefix_limits=api.PrefixLimit(family=family(wanted), max_prefixes=value.bulwark),
        )
        for wanted in value.families
    ]


def _apply_policy(value: Peer) -> api.ApplyPolicy | None:
    if not value.imports:
        return None
    return api.ApplyPolicy(
        import_policy=_assigned(api.IMPORT, value.imports), export_policy=_assigned(api.EXPORT, value.exports)
    )


def _assigned(direction: api.PolicyDirection, name: str) -> api.PolicyAssignment:
    return api.PolicyAssignment(direction=direction, policies=[api.Policy(name=name)], default_action=api.REJECT)


def _policy(policy: Policy, sets: dict[str, api.DefinedSet]) -> api.Policy:
    # Statements share one name space, whatever their policy.
    statements = [
        _statement(f"{policy.name} {number}", statement, sets) for number, statement in enumerate(policy.statements)
    ]
    return api.Policy(name=policy.name, statements=statements)


def _statement(name: str, statement: Statement, sets: dict[str, api.DefinedSet]) -> api.Statement:
    conditions = api.Conditions(next_hop_in_list=[str(network) for network in statement.next_hops])
    if statement.neighbors:
        conditions.neighbor_set.CopyFrom(_match(api.NEIGHBOR, map(str, statement.neighbors), sets))
    if statement.prefixes:
        conditions.prefix_set.CopyFrom(_match_prefixes(statement.prefixes, sets))
    if statement.as_path:
        conditions.as_path_set.CopyFrom(_match(api.AS_PATH, [statement.as_path], sets))
        if statement.as_path_inverted:
            conditions.as_path_set.type = api.MatchSet.INVERT
    if statement.longer_than is not None:
        conditions.as_path_length.CopyFrom(api.AsPathLength(type=api.AsPathLength.GE, length=statement.longer_than + 1))
    if statement.source == "local":
        conditions.route_type = api.Conditions.ROUTE_TYPE_LOCAL
    elif statement.source == "external":
        conditions.route_type = api.Conditions.ROUTE_TYPE_EXTERNAL
    actions = api.Actions(route_action=api.ACCEPT if statement.accept else api.REJECT)
    if statement.next_hop_self:
        actions.nexthop.self = True
    if statement.take_back:
        actions.community.CopyFrom(api.CommunityAction(type=api.CommunityAction.ADD, communities=[_LLGR_STALE]))
    return api.Statement(name=name, conditions=conditions, actions=actions)


def _match(kind: api.DefinedType, members: Iterable[str], sets: dict[str, api.DefinedSet]) -> api.MatchSet:
    listed = list(members)
    name = f"{api.DefinedType.Name(kind)} {digest(listed)}"
    if name not in sets:
        sets[name] = api.DefinedSet(defined_type=kind, name=name, list=listed)
    return api.MatchSet(type=api.MatchSet.ANY, name=name)


def _match_prefixes(rules: tuple[PrefixRule, ...], sets: dict[str, api.DefinedSet]) -> api.MatchSet:
    name = f"PREFIX {digest(rules)}"
    if name not in sets:
        prefixes = [_prefix(rule.network, rule.min_length, rule.max_length) for rule in rules]
        sets[name] = api.DefinedSet(defined_type=api.PREFIX, name=name, prefixes=prefixes)
    return api.MatchSet(type=api.MatchSet.ANY, name=name)


def _prefix(network: Network, low: int, high: int) -> api.Prefix:
    return api.Prefix(ip_prefix=str(network), mask_length_min=low, mask_length_max=high)
