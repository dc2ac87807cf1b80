from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import pytest

from routing.bgp.values import ExportPolicy, Family, ImportPolicy, Mode, Neighbor, PrefixRule, Speaker
from routing.engines.exabgp_config import configuration, environment, same_process, session_families

LISTEN = (IPv4Address("192.0.2.254"), IPv6Address("2001:db8::fe"))
STATIC = Neighbor(
    "a",
    65001,
    IPv4Address("192.0.2.1"),
    local_address=LISTEN[0],
    families=(Family.IPV4,),
    extended_next_hop=True,
    hold_time=30,
    restart_time=60,
)
DYNAMIC = Neighbor("b", 65002, range=ip_network("10.0.0.0/24"), families=tuple(Family), restart_time=0)
SPEAKER = Speaker("rs", Mode.TRANSPARENT, 65000, IPv4Address("192.0.2.254"), LISTEN, neighbors=(STATIC, DYNAMIC))

EXPECTED = """\
process edgeway {
    run /usr/bin/python3 -P -m routing.engines.exabgp_child;
    encoder json;
}
neighbor 192.0.2.1 {
    router-id 192.0.2.254;
    local-address 192.0.2.254;
    local-as 65000;
    peer-as 65001;
    hold-time 30;
    passive false;
    connect 179;
    group-updates true;
    adj-rib-in false;
    adj-rib-out false;
    manual-eor true;
    capability {
        asn4 enable;
        route-refresh enable;
        extended-message enable;
        graceful-restart 60;
    }
    family {
        ipv4 unicast;
        ipv6 unicast;
    }
    nexthop {
        ipv4 unicast ipv6;
    }
    api {
        processes [ edgeway ];
        neighbor-changes;
        fsm;
        receive {
            parsed;
            open;
            update;
            refresh;
            notification;
        }
    }
}
neighbor 10.0.0.0/24 {
    router-id 192.0.2.254;
    local-address auto;
    local-as 65000;
    peer-as 65002;
    hold-time 90;
    passive true;
    connect 179;
    group-updates true;
    adj-rib-in false;
    adj-rib-out false;
    manual-eor true;
    capability {
        asn4 enable;
        route-refresh enable;
        extended-message enable;
    }
    family {
        ipv4 unicast;
        ipv6 unicast;
    }
    api {
        processes [ edgeway ];
        neighbor-changes;
        fsm;
        receive {
            parsed;
            open;
            update;
            refresh;
            notification;
        }
    }
}
"""


def test_the_file_is_what_exabgp_reads() -> None:
    """One fixed and one dynamic neighbour, as text."""
    assert configuration(SPEAKER, "/usr/bin/python3") == EXPECTED


def test_policies_and_announcements_are_no_part_of_the_file() -> None:
    """A change of policy must not make ExaBGP read it again."""
    rule = PrefixRule.exact(ip_network("10.0.0.0/8"))
    judged = replace(STATIC, imports=ImportPolicy(accept=(rule,)), exports=ExportPolicy((rule,)), next_hop_self=True)
    changed = replace(SPEAKER, neighbors=(judged, DYNAMIC))
    assert configuration(changed, "/usr/bin/python3") == EXPECTED


def test_the_family_of_an_extended_next_hop_is_negotiated_too() -> None:
    """ExaBGP wants it; it carries no routes unless the neighbour has the family."""
    assert session_families(STATIC) == (Family.IPV4, Family.IPV6)
    assert session_families(replace(STATIC, families=(Family.IPV6,))) == (Family.IPV6,)
    assert session_families(replace(STATIC, extended_next_hop=False)) == (Family.IPV4,)


def test_the_environment_says_where_to_listen_and_who_we_are() -> None:
    """Only the given addresses; a speaker that cannot be changed while running has another environment."""
    found = environment(SPEAKER, "/run/x", "/opt")
    assert found["exabgp_tcp_bind"] == "192.0.2.254 2001:db8::fe"
    assert (found["exabgp_tcp_port"], found["EDGEWAY_DIRECTORY"], found["PYTHONPATH"]) == ("179", "/run/x", "/opt")
    assert environment(replace(SPEAKER, neighbors=()), "/run/x", "/opt") == found
    assert environment(replace(SPEAKER, asn=1), "/run/x", "/opt") != found


@pytest.mark.parametrize(
    "change", [{"asn": 1}, {"mode": Mode.ROUTER}, {"listen": ()}, {"port": 1790}, {"router_id": IPv4Address(1)}]
)
def test_what_a_process_cannot_become_takes_another_process(change: dict) -> None:
    """And what it can does not."""
    assert not same_process(SPEAKER, replace(SPEAKER, **change))
    assert same_process(SPEAKER, replace(SPEAKER, neighbors=()))


def test_no_secret_place_is_named() -> None:
    """The file names the interpreter it was given and nothing else of this machine."""
    assert str(Path.home()) not in configuration(SPEAKER, "/usr/bin/python3")
