"""A speaker as ExaBGP 5 is told it: the configuration file and the environment of the process.

Called by the engine and by the API process, which rewrites the file. Pure. Only sessions are configured: routes and
policies live in the API process (`routing.engines.exabgp_child`), so ExaBGP keeps no table of its own (`adj-rib-in` and
`adj-rib-out` off), says End-of-RIB only when told to (`manual-eor`), and a change of policy leaves this text as it is.
"""

from __future__ import annotations

from routing.bgp.values import Family, Neighbor, Speaker

PROCESS = "edgeway"
_FAMILIES = {Family.IPV4: "ipv4 unicast", Family.IPV6: "ipv6 unicast"}


def configuration(speaker: Speaker, python: str) -> str:
    """Return the configuration file; `python` is the interpreter that runs the API process."""
    process = f"process {PROCESS} {{\n    run {python} -P -m routing.engines.exabgp_child;\n    encoder json;\n}}\n"
    return process + "".join(_neighbor(neighbor, speaker) for neighbor in speaker.neighbors)


def _neighbor(neighbor: Neighbor, speaker: Speaker) -> str:
    families = session_families(neighbor)
    dynamic = neighbor.address is None
    restart = f"graceful-restart {min(neighbor.restart_time, 4095)}" if neighbor.restart_time else ""
    lines = [
        f"router-id {speaker.router_id}",
        f"local-address {neighbor.local_address or 'auto'}",
        f"local-as {speaker.asn}",
        f"peer-as {neighbor.asn}",
        f"hold-time {neighbor.hold_time}",
        f"passive {_yes(neighbor.passive or dynamic)}",
        # Ours may be another one; theirs is the well-known one.
        "connect 179",
        "group-updates true",
        "adj-rib-in false",
        "adj-rib-out false",
        "manual-eor true",
        _block("capability", "asn4 enable", "route-refresh enable", "extended-message enable", restart),
        _block("family", *(_FAMILIES[family] for family in families)),
        _block("nexthop", "ipv4 unicast ipv6") if _extended(neighbor) else "",
        _block(
            "api",
            f"processes [ {PROCESS} ]",
            "neighbor-changes",
            "fsm",
            _block("receive", "parsed", "open", "update", "refresh", "notification"),
        ),
    ]
    return _block(f"neighbor {neighbor.range if dynamic else neighbor.address}", *lines) + "\n"


def session_families(neighbor: Neighbor) -> tuple[Family, ...]:
    """Return the families to negotiate: ExaBGP wants that of an extended next hop among them."""
    extra = (Family.IPV6,) if _extended(neighbor) and Family.IPV6 not in neighbor.families else ()
    return (*neighbor.families, *extra)


def _extended(neighbor: Neighbor) -> bool:
    return neighbor.extended_next_hop and Family.IPV4 in neighbor.families


def _block(name: str, *lines: str) -> str:
    inner = "".join(f"{line}{'' if line.endswith('}') else ';'}\n" for line in lines if line)
    return f"{name} {{\n" + "".join(f"    {line}\n" for line in inner.splitlines()) + "}"


def _yes(value: bool) -> str:  # noqa: FBT001 - it is the word for the value
    return "true" if value else "false"


def environment(speaker: Speaker, directory: str, packages: str) -> dict[str, str]:
    """Return the environment of the process, which finds us in `packages`; a change of it needs a new process."""
    return {
        "PYTHONPATH": packages,
        "EDGEWAY_DIRECTORY": directory,
        # Not read by anybody: what a running process cannot change makes another environment, so another process.
        "EDGEWAY_SPEAKER": f"{speaker.name} {speaker.mode.value} {speaker.asn} {speaker.router_id}",
        "PYTHONUNBUFFERED": "1",
        # Where it accepts connections; without an address nothing is bound.
        "exabgp_tcp_bind": " ".join(str(address) for address in speaker.listen),
        "exabgp_tcp_port": str(speaker.port),
        # It looks around a hundred times a second when nothing happens; 0.1 costs four times as much for nothing.
        "exabgp_reactor_speed": "1.0",
        "exabgp_daemon_user": "root",
        "exabgp_daemon_drop": "false",
        "exabgp_api_cli": "false",
        "exabgp_api_ack": "true",
        "exabgp_api_respawn": "true",
        "exabgp_api_compact": "true",
        # Warnings come with every connection, also with a stranger's.
        "exabgp_log_level": "ERROR",
        "exabgp_log_short": "false",
    }


def same_process(old: Speaker, new: Speaker) -> bool:
    """Tell whether a running process can become the new speaker; if not, another one is started."""
    return (old.name, old.mode, old.asn, old.router_id, old.listen, old.port) == (
        new.name,
        new.mode,
        new.asn,
        new.router_id,
        new.listen,
        new.port,
    )
