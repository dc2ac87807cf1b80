"""network-config version 2 becomes files of systemd-networkd."""

from __future__ import annotations

import pytest

from appliance.box.network import fallback
from tests.support.seeds import errors, said, seed


def network(text: str) -> dict[str, str]:
    """Return the files of a network-config without `version: 2`."""
    made = seed(network=f"version: 2\n{text}").network
    assert made is not None
    return {file.name: file.text for file in made}


def test_an_interface_by_its_name() -> None:
    """What networkd gets to read, whole."""
    text = "ethernets: {eth1: {addresses: [10.0.0.1/24, '2001:db8::1/64'], mtu: 9000}}"
    assert network(text) == {
        "10-edgeway-eth1.network": """\
[Match]
Name=eth1

[Link]
MTUBytes=9000

[Network]
DHCP=no
IPv6AcceptRA=no
LinkLocalAddressing=ipv6
KeepConfiguration=yes
ConfigureWithoutCarrier=yes
Address=10.0.0.1/24
Address=2001:db8::1/64
"""
    }


def test_an_interface_by_its_address_gets_a_name() -> None:
    """Udev gives the name, networkd finds it by that."""
    found = network("ethernets: {m: {match: {macaddress: '52:54:00:AB:00:01'}, set-name: mgmt0, dhcp4: true}}")
    assert found["10-edgeway-m.link"] == "[Match]\nPermanentMACAddress=52:54:00:ab:00:01\n\n[Link]\nName=mgmt0\n"
    assert found["10-edgeway-m.network"].startswith("[Match]\nName=mgmt0\n")


@pytest.mark.parametrize(
    ("match", "line"),
    [
        ("name: 'ens*'", "Name=ens*"),
        ("driver: virtio_net", "Driver=virtio_net"),
        ("driver: [a, b]", "Driver=a b"),
        ("macaddress: '52:54:00:00:00:01'", "PermanentMACAddress=52:54:00:00:00:01"),
    ],
)
def test_an_interface_is_found_by_what_match_says(match: str, line: str) -> None:
    """The id is only a word then."""
    (text,) = network(f"ethernets: {{any: {{match: {{{match}}}}}}}").values()
    assert text.split("\n")[:2] == ["[Match]", line]


def test_vlans_and_bonds_stand_on_what_they_name() -> None:
    """The parent's file names them, and each has its own two."""
    found = network("""\
ethernets: {eth1: {}, eth2: {}}
bonds: {b0: {interfaces: [eth1, eth2], parameters: {mode: 802.3ad, lacp-rate: fast}}}
vlans: {v7: {id: 7, link: b0, addresses: [10.7.0.1/24]}}
""")
    assert "Bond=b0" in found["10-edgeway-eth1.network"]
    assert "VLAN=v7" in found["10-edgeway-b0.network"]
    assert found["10-edgeway-v7.netdev"] == "[NetDev]\nName=v7\nKind=vlan\n\n[VLAN]\nId=7\n"
    bond = "[NetDev]\nName=b0\nKind=bond\n\n[Bond]\nMode=802.3ad\nLACPTransmitRate=fast\nMIIMonitorSec=100ms\n"
    assert found["10-edgeway-b0.netdev"] == bond


def test_the_key_network_may_stand_above() -> None:
    """As netplan writes it."""
    made = seed(network="network:\n  version: 2\n  ethernets: {eth0: {dhcp4: true}}\n").network
    assert made is not None
    assert [file.name for file in made] == ["10-edgeway-eth0.network"]


def test_no_network_config_is_not_an_empty_one() -> None:
    """Without the file the first interface asks for an address; with an empty one nothing is touched."""
    assert seed().network is None
    assert "Name=eth0\n\n[Network]\nDHCP=ipv4\n" in fallback()[0].text
    assert network("") == {}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("ethernets: {lo: {}}", "ethernets.lo"),
        ("ethernets: {'a b': {}}", "ethernets.a b"),
        ("ethernets: {a: {match: {}}}", "ethernets.a.match"),
        ("ethernets: {a: {match: {name: '!x'}}}", "ethernets.a.match.name"),
        ("ethernets: {a: {match: {macaddress: 'x'}}}", "ethernets.a.match.macaddress"),
        ("ethernets: {a: {set-name: b}}", "ethernets.a.set-name"),
        ("ethernets: {a: {match: {macaddress: '52:54:00:00:00:01'}, set-name: b}, b: {}}", "ethernets.b"),
        ("ethernets: {a: {mtu: 12}}", "ethernets.a.mtu"),
        ("vlans: {v: {id: 0, link: eth1}}", "vlans.v.id"),
        ("vlans: {v: {id: 5, link: eth1}}", "vlans.v.link"),
        ("bonds: {b: {interfaces: [eth9]}}", "bonds.b.interfaces"),
        ("bonds: {b: {parameters: {mode: best}}}", "bonds.b.parameters.mode"),
        ("ethernets: 7", "ethernets"),
        ("ethernets: {a: 7}", "ethernets.a"),
    ],
)
def test_what_networkd_could_not_do_is_an_error_at_its_place(text: str, path: str) -> None:
    """Before anything is written."""
    assert path in said(errors(network=f"version: 2\n{text}"))


def test_version_1_is_refused_by_name() -> None:
    """It would be half understood."""
    assert "must be 2" in said(errors(network="version: 1\nconfig: []\n"))["version"]


def test_bridges_are_the_intent_s_business() -> None:
    """Told, not refused: the rest of the file stands."""
    judged = seed(network="version: 2\nbridges: {br0: {}}\nethernets: {eth0: {optional: true}}\n")
    assert set(said(judged.warnings)) == {"bridges", "ethernets.eth0.optional"}
