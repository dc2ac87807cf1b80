"""Entering, making and deleting real namespaces by name."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from errno import EEXIST, ENODEV
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.namespaces import Namespaces
from appliance.kernel.netlink import NETLINK_NETFILTER
from appliance.model.errors import KernelError
from appliance.model.facts import HOST, Namespace

if TYPE_CHECKING:
    from tests.contract.worlds import World

RED, BLUE = Namespace("red"), Namespace("blue")


def _here() -> int:
    """Identify the namespace this thread is in."""
    return Path("/proc/thread-self/ns/net").stat().st_ino


def _open_files() -> int:
    """Count the descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_made_namespace_is_ours_for_another_process_too(world: World) -> None:
    """Ownership is in the kernel, not in memory."""
    world.make(RED)
    again = Namespaces(world.namespaces.directory, world.host)
    assert again.names() == {RED}
    again.close()


def test_lo_of_a_made_namespace_is_up(world: World) -> None:
    """Everything we make is up."""
    world.make(RED)
    assert "LOOPBACK,UP" in world.run(RED, "ip", "link", "show", "lo")


def test_a_namespace_that_another_made_is_not_ours(world: World) -> None:
    """It is neither listed, nor taken over, nor deleted."""
    world.make(RED)
    world.run(RED, "ip", "link", "set", "lo", "alias", "other")
    again = Namespaces(world.namespaces.directory, world.host)
    again.delete(RED)
    assert again.names() == set()
    assert again.exists(RED)
    with pytest.raises(KernelError) as error:
        again.create(RED)
    assert error.value.errno == EEXIST
    again.close()


def test_listing_holds_no_descriptor_of_foreign_namespaces(world: World) -> None:
    """A descriptor would keep a foreign namespace alive after its owner deleted it."""
    world.make(RED, BLUE)
    world.run(RED, "ip", "link", "set", "lo", "alias", "other")
    again = Namespaces(world.namespaces.directory, world.host)
    before = _open_files()
    again.names()
    held_for_blue = _open_files() - before
    again.delete(BLUE)
    assert held_for_blue == 2
    assert _open_files() == before
    again.close()


def test_making_twice_and_deleting_twice_succeed(world: World) -> None:
    """The second time is nothing."""
    world.make(RED, RED)
    world.namespaces.delete(RED)
    world.namespaces.delete(RED)
    assert world.namespaces.names() == set()
    assert list(world.namespaces.directory.iterdir()) == []


def test_a_name_left_by_a_crash_is_reused(world: World) -> None:
    """A crash before the mount leaves an empty file."""
    world.make(BLUE)
    world.namespaces.path(RED).touch()
    assert world.namespaces.names() == {BLUE}
    world.make(RED)
    assert world.namespaces.names() == {RED, BLUE}


def test_inside_is_inside_and_outside_is_where_we_were(world: World) -> None:
    """Also when the work inside fails, and when nested."""
    world.make(RED, BLUE)
    before = _here()
    with world.namespaces.in_namespace(RED):
        red = _here()
        with suppress(ZeroDivisionError), world.namespaces.in_namespace(BLUE):
            assert _here() not in {red, before}
            raise ZeroDivisionError
        assert _here() == red
    assert _here() == before
    with world.namespaces.in_namespace(HOST):
        assert _here() == world.host.stat().st_ino


def test_a_socket_belongs_to_the_namespace_it_was_made_in(world: World) -> None:
    """Two listeners on one port do not meet."""
    world.make(RED, BLUE)
    listeners = []
    for name in (RED, BLUE):
        with world.namespaces.in_namespace(name):
            listeners.append(socket.create_server(("127.0.0.1", 7777)))
    assert len({listener.getsockname() for listener in listeners}) == 1
    for listener in listeners:
        listener.close()


def test_a_missing_namespace_is_an_error_that_may_pass(world: World) -> None:
    """As a missing device is."""
    with pytest.raises(KernelError) as error:
        world.namespaces.open_ns(RED)
    assert error.value.errno == ENODEV
    assert error.value.retry


def test_a_namespace_made_anew_by_another_is_noticed(world: World) -> None:
    """The descriptor of the old one is not used any more."""
    world.make(RED)
    old = os.fstat(world.namespaces.open_ns(RED)).st_ino
    other = Namespaces(world.namespaces.directory, world.host)
    other.delete(RED)
    other.create(RED)
    assert os.fstat(world.namespaces.open_ns(RED)).st_ino != old
    other.close()


def test_who_holds_a_socket_is_told_before_the_namespace_goes(world: World) -> None:
    """Otherwise the devices in it would live on."""
    told: list[str] = []
    world.namespaces.on_made(lambda name: told.append(f"made {name}"))
    world.namespaces.on_gone(lambda name: told.append(f"gone {name}"))
    world.make(RED)
    world.namespaces.netlink_socket(socket.NETLINK_ROUTE, RED)
    world.namespaces.delete(RED)
    assert told == ["made red", "gone red"]


def test_making_and_deleting_leaks_no_descriptor(world: World) -> None:
    """As many open files as before."""
    world.make(RED)
    world.namespaces.delete(RED)
    before = _open_files()
    for _ in range(5):
        world.make(RED)
        world.namespaces.netlink_socket(NETLINK_NETFILTER, RED)
        world.namespaces.delete(RED)
    assert _open_files() == before


def test_a_namespace_that_goes_away_while_we_look_is_not_there(world: World) -> None:
    """Any other trouble is told."""
    world.make(RED, BLUE)

    def look(name: Namespace) -> str:
        if name == RED:
            other = Namespaces(world.namespaces.directory, world.host)
            other.delete(RED)
            other.close()
            world.namespaces.open_ns(RED)
        return f"seen {name}"

    assert world.namespaces.each(look) == {HOST: "seen ", BLUE: "seen blue"}
    with pytest.raises(KernelError):
        world.namespaces.each(lambda _: world.namespaces.open_ns(Namespace("none")))
