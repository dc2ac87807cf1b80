"""The kinds of values an intent is made of: what each takes, and in which words it refuses the rest."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from appliance.model.fields import (
    V4,
    V6,
    AnyAddress,
    AnyNet,
    Asn,
    Device,
    Mtu,
    Name,
    Port,
    PortText,
    Section,
    V4Net,
    V6Net,
)

KINDS: dict[str, TypeAdapter[Any]] = {
    "name": TypeAdapter(Name),
    "asn": TypeAdapter(Asn),
    "port": TypeAdapter(Port),
    "mtu": TypeAdapter(Mtu),
    "ports": TypeAdapter(PortText),
    "device": TypeAdapter(Device),
    "v4": TypeAdapter(V4),
    "v6": TypeAdapter(V6),
    "address": TypeAdapter(AnyAddress),
    "v4net": TypeAdapter(V4Net),
    "v6net": TypeAdapter(V6Net),
    "net": TypeAdapter(AnyNet),
}


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        ("name", "a", "a"),
        ("name", "web-1", "web-1"),
        ("name", "a" * 31, "a" * 31),
        ("asn", 1, 1),
        ("asn", 4294967294, 4294967294),
        ("port", 65535, 65535),
        ("mtu", 1280, 1280),
        ("mtu", 65000, 65000),
        ("ports", 80, "80"),
        ("ports", "8000-8099", "8000-8099"),
        ("device", "eth0.100", "eth0.100"),
        ("device", "x" * 15, "x" * 15),
        ("device", "lo0", "lo0"),
        ("device", "edge-1", "edge-1"),
        ("v4", "10.0.0.1", IPv4Address("10.0.0.1")),
        ("v6", "FD00::0:1", IPv6Address("fd00::1")),
        ("address", "10.0.0.1", IPv4Address("10.0.0.1")),
        ("address", "fd00::1", IPv6Address("fd00::1")),
        ("v4net", "10.0.0.0/8", IPv4Network("10.0.0.0/8")),
        ("v6net", "fd00::/8", IPv6Network("fd00::/8")),
        ("net", "10.0.0.0/8", IPv4Network("10.0.0.0/8")),
        ("net", "fd00::/8", IPv6Network("fd00::/8")),
    ],
)
def test_what_a_field_takes_becomes_the_value_it_means(kind: str, written: Any, value: Any) -> None:
    """Addresses are addresses from here on, and no text."""
    found = KINDS[kind].validate_python(written)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("kind", "written", "words"),
    [
        ("name", "", "pattern"),
        ("name", "Web", "pattern"),
        ("name", "1web", "pattern"),
        ("name", "web_1", "pattern"),
        ("name", "web\n", "pattern"),
        ("name", "a" * 32, "pattern"),
        ("asn", 0, "greater"),
        ("asn", 4294967295, "less"),
        ("asn", "64512", "valid integer"),
        ("asn", True, "valid integer"),
        ("port", 0, "greater"),
        ("port", 65536, "less"),
        ("port", 80.0, "valid integer"),
        ("mtu", 1279, "greater"),
        ("mtu", 65001, "less"),
        ("ports", "80-", "pattern"),
        ("ports", "80,81", "pattern"),
        ("ports", "-80", "pattern"),
        ("ports", "123456", "pattern"),
        ("device", "", "pattern"),
        ("device", "x" * 16, "pattern"),
        ("device", "eth/0", "pattern"),
        ("device", "eth 0", "pattern"),
        ("device", ".", ". is reserved"),
        ("device", "..", ".. is reserved"),
        ("device", "lo", "lo is reserved"),
        ("device", "all", "all is reserved"),
        ("device", "default", "default is reserved"),
        ("device", "ew-lan", "ew-lan is reserved"),
        ("v4", "10.0.0.256", "valid IPv4"),
        ("v4", "fd00::1", "valid IPv4"),
        ("v6", "10.0.0.1", "valid IPv6"),
        ("address", "10.0.0", "does not appear to be"),
        ("v4net", "10.0.0.1/8", "valid IPv4 network"),
        ("net", "10.0.0.1/8", "has host bits set"),
        ("net", "nowhere", "does not appear to be"),
    ],
)
def test_what_a_field_does_not_take_is_refused(kind: str, written: Any, words: str) -> None:
    """With a reason."""
    with pytest.raises(ValidationError, match=words):
        KINDS[kind].validate_python(written)


@pytest.mark.parametrize("kind", ["v4", "v6", "address", "v4net", "v6net", "net"])
@pytest.mark.parametrize(
    ("written", "words"),
    [
        (10, "write an address in quotes or with dots, not a number"),
        (10.1, "not a number"),
        (True, "not a number"),
        ("fe80::1%eth0", "without a zone index"),
        ("10.0.0.1%1", "without a zone index"),
    ],
)
def test_an_address_is_text_and_means_the_same_everywhere(kind: str, written: Any, words: str) -> None:
    """`10` would be 0.0.0.10, and a zone index is a device of one machine."""
    with pytest.raises(ValidationError, match=words):
        KINDS[kind].validate_python(written)


class Example(Section):
    """A section."""

    target_port: int = 80
    as_: int = 1
    note: str = ""


def test_a_section_has_keys_with_dashes_and_words_that_python_keeps_for_itself() -> None:
    """They are written as an operator would."""
    assert Example.model_validate({"target-port": 443, "as": 5}) == Example.model_validate(
        {"as": 5, "target-port": 443}
    )
    assert Example.model_validate({"target-port": 443}).target_port == 443


@pytest.mark.parametrize("key", ["target_port", "as_", "colour"])
def test_a_section_refuses_keys_it_does_not_know(key: str) -> None:
    """A typing error must not be a setting that has no effect."""
    with pytest.raises(ValidationError, match="Extra inputs"):
        Example.model_validate({key: 5})


def test_a_section_is_a_value() -> None:
    """It cannot change, and blanks around text mean nothing."""
    made = Example.model_validate({"note": "  hello "})
    assert made.note == "hello"
    with pytest.raises(ValidationError, match="frozen"):
        made.note = "other"
