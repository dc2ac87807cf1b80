"""A LAN of a test: its members reach each other in both families, and nothing is left of it."""

from __future__ import annotations

import subprocess
from functools import partial
from ipaddress import IPv4Address, IPv6Address

import pytest

from tests.support.lan import Lan
from tests.support.namespaces import exists
from tests.support.waiting import eventually


def test_members_are_numbered_in_order_or_as_asked() -> None:
    """The last group of the IPv6 address has the digits of the IPv4 one."""
    lan = Lan("rs", "bird", late=130)
    assert [lan.ipv4(name) for name in ("rs", "bird", "late")] == [
        IPv4Address("192.0.2.1"),
        IPv4Address("192.0.2.2"),
        IPv4Address("192.0.2.130"),
    ]
    assert lan.ipv6("late") == IPv6Address("2001:db8::130")


def test_members_reach_each_other_and_are_gone_afterwards() -> None:
    """Over the bridge, at once: no duplicate address detection holds up the first session."""
    with Lan("one", "two") as lan:
        for address in (lan.ipv4("two"), lan.ipv6("two")):
            listener = ["nc", "-l", "-N", "-s", str(address), "-p", "179"]
            with subprocess.Popen(
                lan.inside("two", *listener), stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as server:
                dial = lan.inside("one", "nc", "-N", str(address), "179")
                eventually(partial(_said, dial), what="somebody listens")
                heard, _ = server.communicate(timeout=30)
            assert heard == b"hello"
        names = [lan.namespace(name) for name in ("br", "one", "two")]
        assert all(exists(name) for name in names)
    assert not any(exists(name) for name in names)


def _said(dial: list[str]) -> bool:
    return subprocess.run(dial, input=b"hello", check=False).returncode == 0


def test_a_failure_inside_removes_it_too() -> None:
    """Whatever the test does, the next one starts afresh."""
    lan = Lan("one")
    with pytest.raises(ZeroDivisionError), lan:
        raise ZeroDivisionError
    assert not exists(lan.namespace("one"))
