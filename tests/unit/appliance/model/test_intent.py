"""Types and keys of the intent: what is refused, and where the finding stands."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.model.errors import Finding, OperatorError
from appliance.model.fields import Section
from appliance.model.intent import (
    Attachment,
    Guest,
    Intent,
    Peer,
    PrefixMatch,
    Vpc,
    parse_rule,
    validate,
)
from appliance.model.policy import Rule
from appliance.model.text import parse_yaml
from tests.support.intents import NAMED, changed, one_vpc, to_yaml


def findings(text: str) -> tuple[Finding, ...]:
    """Return what is wrong with a text, types and keys only."""
    with pytest.raises(OperatorError) as error:
        validate(parse_yaml(text))
    return error.value.findings


def finding(path: str, value: Any) -> Finding:
    """Return the one finding when the value at a path is this one."""
    (found,) = findings(to_yaml(changed(one_vpc(), path, value)))
    return found


@pytest.mark.parametrize("name", NAMED)
def test_the_named_intents_have_the_right_types(name: str) -> None:
    """The other tests start from them."""
    assert validate(parse_yaml(to_yaml(NAMED[name]()))).zone.as_ == 64512


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b\n", "5"])
def test_a_document_that_is_no_mapping_is_one_finding(text: str) -> None:
    """Not one for each key that could stand there."""
    (found,) = findings(text)
    assert (found.line, found.column, found.message) == (1, 1, "must hold the keys of an intent")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("zone.as", True),
        ("zone.as", "64512"),
        ("zone.as", 1.0),
        ("zone.as", 0),
        ("zone.as", 4294967295),
        ("zone.as", None),
        ("zone.as", 10**60),
        ("zone.name", "Az1"),
        ("zone.name", "x" * 32),
        ("zone.name", "é"),
        ("zone.composed", 5),
        ("zone.composed", "fd00::1/48"),
        ("zone.nat-slots", 5),
        ("zone.public.0", 10),
        ("nodes.h1.id", 0),
        ("nodes.h1.id", 64),
        ("nodes.h1.id", "11"),
        ("nodes.h1.roles", []),
        ("nodes.h1.engine", "bird"),
        ("nodes.h1.loopback.ipv4", 10),
        ("nodes.h1.loopback.ipv6", "fd00::1%eth0"),
        ("nodes.h1.loopback.ipv4", "fd00::1"),
        ("nodes.h1.fabric.ipv4", "10.0.0.0.1/24"),
        ("nodes.h1.fabric.mtu", 1279),
        ("nodes.h1.fabric.mtu", 1500.0),
        ("nodes.h1.fabric.interface", "a b"),
        ("nodes.h1.fabric.interface", "x" * 16),
        ("vpcs.red.id", 60_001),
        ("vpcs.red.snat.block", 1000),
        ("vpcs.red.snat.block", 32),
        ("vpcs.red.snat.watermark", 0),
        ("vpcs.red.snat.watermark", True),
        ("vpcs.red.snat.watermark", float("nan")),
        ("vpcs.red.guests", []),
        ("vpcs.red.guests.r1", None),
        ("vpcs.red.guests.r1.address", "172.16.1"),
        ("vpcs.red.guests.r1.public", False),
        ("vpcs.red.vips.web.port", 0),
        ("vpcs.red.vips.web.port", 65536),
        ("vpcs.red.vips.web.backends", []),
        ("vpcs.red.vips.web.protocol", "sctp"),
        ("vpcs.red.firewall.rules.0.action", "drop"),
        ("vpcs.red.firewall.rules.0.ports.0", "80-"),
        ("vpcs.red.firewall.rules.0.ports.0", "٨٠"),
        ("vpcs.red.firewall.rules.0.ports.0", True),
        ("vpcs.red.firewall.rules.0.source", "r1"),
        ("vpcs.red.firewall.rules.0", "allow"),
    ],
)
def test_a_wrong_value_is_one_finding_at_its_path(path: str, value: Any) -> None:
    """With the words of the operator: no class names, no Python."""
    found = finding(path, value)
    assert found.path == path
    assert found.line > 1
    assert not {"Tuple", "dictionary", "instance", "Value error"} & set(found.message.split())


@pytest.mark.parametrize("path", ["zone.as", "nodes.h1.fabric", "vpcs.red.subnet", "vpcs.red.guests.r1.host"])
def test_an_absent_key_is_a_finding_at_its_section(path: str) -> None:
    """Its own path is named; the place is the section's."""
    tree = changed(one_vpc(), path, ...)
    (found,) = findings(to_yaml(tree))
    assert (found.path, found.message) == (path, "required, but absent")
    section = path.split(".")[-2]
    assert to_yaml(tree).splitlines()[found.line - 1].strip() == f"{section}:"


@pytest.mark.parametrize("path", ["zoen", "zone.as_", "nodes.h1.vrf", "peers", "vpcs.red.vips.web.target_port"])
def test_an_unknown_key_is_a_finding_where_it_stands(path: str) -> None:
    """A mistyped key must not be a key that is silently absent; Python's own names are unknown too."""
    if path == "peers":
        path = "peers.x.ass"
        text = to_yaml(changed(one_vpc(), "peers", {"x": {"as": 65000, "ass": 1}}))
        (found,) = findings(text)
    else:
        found = finding(path, 1)
    assert (found.path, found.message) == (path, "unknown key")
    assert found.line > 1


@pytest.mark.parametrize("name", ["Red", "1red", "-", "", "a_b", "x" * 32, "[key]", "é", "a.b"])
def test_a_name_that_is_none_is_a_finding_at_the_name(name: str) -> None:
    """Names become namespaces, sessions and keys of the API."""
    tree = one_vpc()
    tree["vpcs"][name] = {"id": 5, "subnet": "10.9.0.0/24"}
    (found,) = findings(to_yaml(tree))
    lines = to_yaml(tree).splitlines()
    assert found.line == len(lines) - 2
    assert lines[found.line :] == ["    id: 5", "    subnet: 10.9.0.0/24"]
    assert "lower case letters" in found.hint


@pytest.mark.parametrize("name", ["lax-1", "function-x", "is-instance", "ipv4"])
def test_a_name_that_looks_like_a_word_of_the_library_keeps_its_place(name: str) -> None:
    """Los Angeles has peers too."""
    tree = changed(one_vpc(), "peers", {name: {"as": 65000, "addresses": ["x"]}})
    (found,) = findings(to_yaml(tree))
    assert found.path == f"peers.{name}.addresses.0"


@pytest.mark.parametrize("device", ["lo", ".", "..", "all", "default", "ew-v101", "ew-comp0"])
def test_a_device_cannot_have_a_name_that_means_something_else(device: str) -> None:
    """Moving `lo`, or naming a device we make, would break the node."""
    assert finding("vpcs.red.guests.r1.interface", device).message == f"{device} is reserved"


def test_a_wrong_item_of_a_list_is_found_at_its_index() -> None:
    """In its place."""
    (found,) = findings(to_yaml(changed(one_vpc(), "nodes.h1.roles", ["host", "hosts"])))
    assert (found.path, found.message) == ("nodes.h1.roles.1", "Input should be 'route-server', 'host' or 'gateway'")


def test_all_findings_come_at_once_and_in_order() -> None:
    """One run tells the operator everything."""
    tree = changed(changed(one_vpc(), "zone.as", "x"), "vpcs.red.guests.r1.host", ...)
    found = findings(to_yaml(tree))
    assert [f.path for f in found] == ["zone.as", "vpcs.red.guests.r1.host"]
    assert list(found) == sorted(found)


def test_an_address_of_neither_version_is_one_finding() -> None:
    """Not one for each version."""
    text = to_yaml(
        changed(one_vpc(), "peers", {"x": {"as": 65000, "addresses": ["10.0.0.256"], "range": "10.0.0.1/8"}})
    )
    assert [(f.path, "IPv4 or IPv6" in f.message or "host bits" in f.message) for f in findings(text)] == [
        ("peers.x.addresses.0", True),
        ("peers.x.range", True),
    ]


@pytest.mark.parametrize(
    ("text", "shortest", "longest"),
    [
        ("10.0.0.0/8", 8, 8),
        ("10.0.0.0/8 le 24", 8, 24),
        ("10.0.0.0/8 ge 16", 16, 32),
        ("10.0.0.0/8 ge 16 le 24", 16, 24),
        ("fd00::/8 le 128", 8, 128),
        ("  10.0.0.0/8   le  9 ", 8, 9),
        ("0.0.0.0/0", 0, 0),
    ],
)
def test_a_prefix_rule_says_which_lengths_it_takes(text: str, shortest: int, longest: int) -> None:
    """As routers write it."""
    rule = PrefixMatch.model_validate(parse_rule(text))
    assert (rule.min_length, rule.max_length) == (shortest, longest)
    assert str(rule.network) == text.split(maxsplit=1)[0]


@pytest.mark.parametrize(
    "value",
    [
        "any", "", "10.0.0.1/8", "10.0.0.0/8 le 7", "10.0.0.0/8 ge 25 le 24", "10.0.0.0/8 le 33", "10.0.0.0/8 le",
        "10.0.0.0/8 le 24 ge 16", "10.0.0.0/8 le -1", "10.0.0.0/8 le ٢٤", "10.0.0.0/8 le " + "9" * 5000, 8, None, True,
        {"network": "10.0.0.0/8", "min-length": 9, "max-length": 1}, ["10.0.0.0/8"],
    ],
)  # fmt: skip
def test_what_is_no_prefix_rule_is_refused(value: Any) -> None:
    """Also the form it has inside."""
    with pytest.raises(ValueError, match=r"prefix|lengths|network|host bits"):
        parse_rule(value)


def test_absent_keys_have_the_defaults_of_the_manual() -> None:
    """What an operator does not write is what is safe."""
    guest = {"host": "h1", "interface": "eth2", "address": "10.0.0.2"}
    vpc = Vpc.model_validate({"id": 1, "subnet": "10.0.0.0/24", "guests": {"g": guest}})
    assert (vpc.firewall.inbound, vpc.firewall.outbound, vpc.firewall.internal) == ("deny", "allow", "allow")
    assert (vpc.snat, vpc.vips, vpc.guests["g"].public) == (None, {}, None)
    peer = Peer.model_validate({"as": 65000})
    assert (peer.plane, peer.announces.prefixes, peer.announces.transit) == ("exchange", (), False)


def test_the_gateway_is_the_first_address_unless_it_is_given() -> None:
    """The same on every host."""
    vpc = {"id": 1, "subnet": "10.0.0.0/24"}
    assert Vpc.model_validate(vpc).gateway_address == IPv4Address("10.0.0.1")
    assert Vpc.model_validate({**vpc, "gateway": "10.0.0.254"}).gateway_address == IPv4Address("10.0.0.254")


def test_nodes_are_selected_by_role_in_order_of_name() -> None:
    """So that what is compiled does not depend on the order of the file."""
    tree = one_vpc()
    tree["nodes"] = dict(reversed(tree["nodes"].items()))
    made = validate(parse_yaml(to_yaml(tree)))
    assert list(made.with_role("host")) == ["h1", "h2"]
    assert list(made.with_role("gateway")) == ["gw1"]


def test_an_intent_cannot_be_changed() -> None:
    """What was verified stays verified."""
    made = validate(parse_yaml(to_yaml(one_vpc())))
    with pytest.raises(ValidationError):
        made.zone = made.zone
    assert made.zone.composed == IPv6Network("fd00:ed9e::/48")
    assert made.zone.public == (IPv4Network("203.0.113.0/24"),)


def sections(kind: type[Section] = Section) -> list[type[Section]]:
    """Return every section there is."""
    ours = [child for child in kind.__subclasses__() if child.__module__.startswith("appliance.")]
    return [found for child in ours for found in (child, *sections(child))]


@pytest.mark.parametrize("kind", sections(), ids=lambda kind: kind.__name__)
def test_every_section_and_key_has_a_description(kind: type[Section]) -> None:
    """The manual is printed from them: short, without a full stop."""
    assert {Attachment, Guest, Intent, Rule} <= set(sections())
    assert kind.__doc__
    for name, info in kind.model_fields.items():
        assert info.description, name
        assert not info.description.endswith("."), name
        assert (info.alias or name) == name.rstrip("_").replace("_", "-")
