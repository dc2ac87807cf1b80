"""What a virtual machine of a lab is started with: its links, its seed, its command line."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from appliance.box.seed import judge
from appliance.model.errors import OperatorError
from appliance.panel.lab import machine_parts as parts
from tests.support.seeds import KEY
from tests.support.waiting import eventually

ENVIRONMENT = {"EDGEWAY_VM": "/image", "EDGEWAY_ACCEL": "tcg"}
PLACE = Path("/run/machine")


def command(**environment: str) -> list[str]:
    """Return QEMU's words for a machine with two links."""
    return parts.qemu(ENVIRONMENT | environment, "rs1", ["eth1", "eth10"], Path("/s.img"), PLACE)


def test_links_are_taken_in_the_order_of_their_numbers() -> None:
    """The tenth comes after the ninth, and eth0 is the management's."""
    assert parts.data_interfaces(["lo", "eth10", "eth0", "eth2", "tap2", "br2", "ethx"]) == ["eth2", "eth10"]


def test_interfaces_of_a_machine_are_those_of_its_node() -> None:
    """In their order, because the kernel numbers them so; the first is for SSH and reaches nothing else."""
    devices = [word for word in command() if word.startswith("virtio-net-pci")]
    assert [device.partition("netdev=")[2].partition(",")[0] for device in devices] == ["n0", "n1", "n10"]
    (own,) = [word for word in command() if word.startswith("user,")]
    assert "restrict=on" in own
    assert "hostfwd=tcp:127.0.0.1:2222-:22" in own
    assert "tap,id=n10,ifname=tap10,script=no,downscript=no" in command()


def test_no_two_interfaces_have_one_address() -> None:
    """QEMU would give the same to every machine."""
    found = {parts.mac(node, number) for node in ("rs1", "rs2") for number in range(20)}
    assert len(found) == 40
    assert all(int(address[:2], 16) & 3 == 2 for address in found)
    assert parts.mac("rs1", 1) == parts.mac("rs1", 1)


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [("512", 512), ("512MiB", 512), ("1gb", 1024), ("2 GiB", 2048), ("786432k", 768), ("64m", 256), ("much", 512)],
)
def test_memory_is_said_in_many_ways(text: str, megabytes: int) -> None:
    """Containerlab's, vrnetlab's; less than the box needs it is not given."""
    assert parts.megabytes(text) == megabytes
    assert command(QEMU_MEMORY=text)[command().index("-m") + 1] == str(megabytes)


def test_a_machine_is_emulated_unless_kvm_is_known_to_work() -> None:
    """With little memory for translated code: there are several of them."""
    assert "tcg,tb-size=128" in command()
    assert "kvm" in command(EDGEWAY_ACCEL="kvm")
    assert command(QEMU_ADDITIONAL_ARGS="-d 'a b'")[-2:] == ["-d", "a b"]


def test_the_console_is_open_and_the_root_is_the_first_disk() -> None:
    """It is a lab."""
    line = command()[command().index("-append") + 1]
    assert {"console=ttyS0", "edgeway.root=/dev/vda", "edgeway.console=open"} <= set(line.split())


def test_the_seed_is_one_that_a_box_takes() -> None:
    """Judged by the box's own judge: a name, a person, an intent, one interface."""
    files = {name: text.encode() for name, text in parts.seed("rs1", "rs1-1", KEY, "zone: {}\n").items()}
    with pytest.raises(OperatorError) as caught:
        judge(files.get)
    assert {finding.path.partition(".")[0] for finding in caught.value.findings} <= {"nodes", "zone"}
    bare = {name: text.encode() for name, text in parts.seed("rs1", "rs1-1", KEY, "").items()}
    seed = judge(bare.get)
    assert any(user.name == "lab" and user.keys == (KEY,) for user in seed.config.users)


def test_a_command_in_the_machine_keeps_its_words() -> None:
    """One shell is between."""
    words = parts.remote(["sh", "-c", "echo 'a b'"])
    assert words[:3] == ["ssh", "-F", "/run/machine/ssh_config"]
    assert words[-1] == """sudo -n -- sh -c 'echo '"'"'a b'"'"''"""
    assert "-t" in parts.remote(["sh"], terminal=True)


def test_a_line_of_the_console_is_text() -> None:
    """And tells when the machine is ready."""
    line = parts.plain(b"\x1b[0;32m  OK  \x1b[0m edgeway: READY node=rs1\r\n")
    assert line == "  OK   edgeway: READY node=rs1"
    assert parts.READY.search(line)


def test_the_relay_joins_one_socket_to_another(tmp_path: Path) -> None:
    """What is asked goes there whole, what is answered comes back whole, many times; it ends with its session."""
    api, door = tmp_path / "api", tmp_path / "door"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(api))
        listening.listen(4)

        def answer() -> None:
            for _ in range(2):
                peer, _ = listening.accept()
                with peer:
                    asked = b"".join(iter(lambda peer=peer: peer.recv(65536), b""))  # type: ignore[misc]
                    peer.sendall(asked[::-1])

        threading.Thread(target=answer, daemon=True).start()
        command = [sys.executable, "-IS", "-c", parts.RELAY, str(api), str(door)]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as relay:
            eventually(door.exists, what="the relay listens")
            for asked in (b"x", bytes(range(256)) * 2000):
                with socket.socket(socket.AF_UNIX) as client:
                    eventually(lambda client=client: client.connect(str(door)) is None, what="it accepts")  # type: ignore[misc]
                    client.sendall(asked)
                    client.shutdown(socket.SHUT_WR)
                    assert b"".join(iter(lambda client=client: client.recv(65536), b"")) == asked[::-1]  # type: ignore[misc]
            assert relay.stdin is not None
            relay.stdin.close()
            assert relay.wait(timeout=30) == 0


def test_the_daemon_of_a_machine_is_offered_in_its_node() -> None:
    """One session, which a machine that starts anew ends."""
    words = parts.door(Path("/run/edgeway/api.sock"))
    assert words[words.index("-L") + 1] == f"/run/edgeway/api.sock:{parts.DOOR}"
    assert "ExitOnForwardFailure=yes" in words


def test_kvm_without_a_device_does_not_work(tmp_path: Path) -> None:
    """Nothing is started to find that out."""
    assert not parts.kvm_works(tmp_path / "no-kernel", tmp_path / "no-kvm")
