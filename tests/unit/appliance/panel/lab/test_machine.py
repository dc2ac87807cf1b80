"""The program around a virtual machine: its links, its seed, its console, in a namespace of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from appliance.panel.lab import machine
from tests.support.namespaces import Namespaces


def test_the_console_is_passed_on_and_tells_when_the_machine_is_ready(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever asks for its health hears of it."""
    monkeypatch.setattr(machine, "HEALTH", tmp_path / "health")
    script = r"printf 'booting\r\n\033[1medgeway: READY node=a\033[0m\r\nlogin: \n'"
    ready = threading.Event()
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        machine.relay_console(process, ready)
    assert ready.is_set()
    assert (tmp_path / "health").read_text() == "0 running\n"
    assert capfd.readouterr().out == "booting\nedgeway: READY node=a\nlogin: \n"


def test_the_seed_is_a_volume_that_a_box_finds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Labelled, with the intent of the lab on it."""
    monkeypatch.setattr(machine, "PLACE", tmp_path)
    monkeypatch.setattr(machine, "INTENT", tmp_path / "intent")
    (tmp_path / "intent").write_text("zone: {}\n")
    key = machine.make_key()
    assert key.startswith("ssh-ed25519 ")
    assert machine.make_key() == key
    seed = machine.make_seed("rs1", key)
    assert "CIDATA" in subprocess.run(["mdir", "-i", seed, "::"], capture_output=True, text=True, check=True).stdout
    read = subprocess.run(["mtype", "-i", seed, "::user-data"], capture_output=True, text=True, check=True).stdout
    assert key in read
    assert "intent_file: intent.yaml" in read


@pytest.mark.kernel
def test_every_link_is_on_a_bridge_with_its_tap(netns_factory: Namespaces) -> None:
    """Once, also when the program is started again; links that come late are waited for."""
    namespace = netns_factory("machine")
    code = (
        "import subprocess, sys, threading; from appliance.panel.lab import machine as m\n"
        "make = lambda: [subprocess.run(['ip', 'link', 'add', n, 'mtu', '1400', 'type', 'veth', 'peer', 'name', 'p' + n],"
        " check=True) for n in ('eth1', 'eth2')]\n"
        "threading.Timer(0.2, make).start()\n"
        "found = m.wait_for_links(2); m.bridge_links(found); m.bridge_links(found); print(found)"
    )
    inside = ["ip", "netns", "exec", namespace]
    done = subprocess.run([*inside, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['eth1', 'eth2']"
    shown = subprocess.run(
        [*inside, "ip", "-o", "link", "show", "master", "br2"], capture_output=True, text=True, check=True
    )
    assert sorted(line.split()[1].strip(":").partition("@")[0] for line in shown.stdout.splitlines()) == [
        "eth2",
        "tap2",
    ]
    assert shown.stdout.count("mtu 1400") == 2


def test_links_that_do_not_come_are_not_waited_for_for_ever(capfd: pytest.CaptureFixture[str]) -> None:
    """A machine with fewer is more than none, and the log says so."""
    machine.wait_for_links(10_000, within=0.0)
    assert "of 10000 links are there" in capfd.readouterr().out
