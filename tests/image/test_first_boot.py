"""A booted box and its seed: taken once, there at every boot; a wrong one changes nothing.

With EDGEWAY_IMAGE=all: three boots. EDGEWAY_IMAGE_DIR names another image than the one that `make image` makes.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from images.place import BUILD
from tests.support.namespaces import NAMED, Namespaces
from tests.support.vm import Direct, Drive, Machine, Nic
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.image,
    pytest.mark.timeout(5400),
    pytest.mark.skipif(os.environ.get("EDGEWAY_IMAGE") != "all", reason="boots three times: make image-test"),
]

BOOT, ANSWER = 600.0, 300.0
MGMT, LATE = "52:54:00:00:05:01", "52:54:00:00:05:02"
#: The port that QEMU plugs the late interface into.
PLUG = ("-device", "pcie-root-port,id=plug,chassis=1,slot=1")
NETWORK = f"""\
version: 2
ethernets:
  mgmt:
    match: {{macaddress: "{MGMT}"}}
    set-name: mgmt0
    addresses: [10.99.0.2/24]
    nameservers: {{addresses: [192.0.2.53]}}
  late:
    match: {{macaddress: "{LATE}"}}
    set-name: late0
    addresses: [10.98.0.2/24]
"""
INTENT = """\
zone: {name: az1, as: 64512, composed: "fd00:ed9e::/48"}
nodes:
  r1:
    id: 1
    roles: [route-server]
    engine: native
    loopback: {ipv4: 10.255.0.1, ipv6: "fd00:ff::1"}
    fabric: {interface: late0, ipv4: 10.0.0.1/24, ipv6: "fd00:fab::1/64"}
"""


@dataclass
class Site:
    """A namespace with two cables to the box, a key, and the partition that stays."""

    namespace: str
    directory: Path

    @property
    def data(self) -> Path:
        """Return the data partition."""
        return self.directory / "data"

    def inside(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the namespace."""
        command = ["nsenter", f"--net={NAMED / self.namespace}", "--", *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=ANSWER)

    def ssh(self, line: str, user: str = "tester") -> str:
        """Give the box a line through SSH, and return what it answers; the host key must be the one of the first time."""
        options = {
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": str(self.directory / "known"),
            "BatchMode": "yes",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        done = self.inside("ssh", "-i", str(self.directory / "key"), *words, f"{user}@10.99.0.2", line)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def seed(self, name: str, instance: str, user: Mapping[str, object] | str, network: str) -> Drive:
        """Make a CD image with a seed."""
        directory = self.directory / f"{name}.d"
        directory.mkdir()
        (directory / "meta-data").write_text(f"instance-id: {instance}\nlocal-hostname: h1\n")
        text = user if isinstance(user, str) else json.dumps(user, indent=1)
        (directory / "user-data").write_text(f"#cloud-config\n{text}\n")
        (directory / "network-config").write_text(network)
        (directory / "intent.yaml").write_text(INTENT)
        volume = self.directory / f"{name}.iso"
        command: list[str | Path] = [
            "xorriso",
            "-as",
            "genisoimage",
            "-quiet",
            "-V",
            "cidata",
            "-J",
            "-R",
            "-o",
            volume,
            directory,
        ]
        subprocess.run(command, check=True, capture_output=True)
        return Drive(volume, readonly=True)

    @contextmanager
    def boot(self, *more: Drive) -> Iterator[Machine]:
        """Start the box with its data; the cable is put in as soon as QEMU has made it."""
        root = Drive(image() / "root.squashfs", readonly=True)
        direct = Direct(image(), "edgeway.root=/dev/vda edgeway.data=/dev/vdb")
        nics = [Nic("tap0", MGMT)]
        with Machine("first", direct, [root, Drive(self.data), *more], nics, self.namespace, extra=PLUG) as machine:
            self.cable("tap0", "10.99.0.1/24")
            yield machine

    def cable(self, tap: str, address: str) -> None:
        """Give our end of a cable an address."""
        for words in (("addr", "add", address, "dev", tap), ("link", "set", tap, "up")):
            done = self.inside("ip", *words)
            assert done.returncode == 0, done.stderr

    def reaches(self, address: str) -> bool:
        """Tell whether the box answers at an address."""
        return self.inside("ping", "-c", "1", "-W", "1", address).returncode == 0


def image() -> Path:
    """Return where the image is."""
    return Path(os.environ.get("EDGEWAY_IMAGE_DIR") or BUILD / "image")


def ready(machine: Machine) -> str:
    """Wait until the box is ready; return its node."""
    return machine.expect(r"edgeway: READY node=(\S+) slot=- version=\S+ up=", within=BOOT)[1]


def power_off(site: Site, machine: Machine) -> None:
    """Stop the box in order."""
    with suppress(AssertionError):  # the box may be quicker than the answer
        site.ssh("sudo systemctl --no-block poweroff")
    machine.wait(BOOT)


@pytest.fixture(scope="module")
def site(namespace_token: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Make the place around the box."""
    if "EDGEWAY_IMAGE_DIR" not in os.environ:
        subprocess.run(["make", "image"], cwd=BUILD.parent, check=True)
    namespaces = Namespaces(namespace_token)
    try:
        made = Site(namespaces("box"), tmp_path_factory.mktemp("first-boot"))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", made.directory / "key"], check=True)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", made.data, "64M"], check=True)
        yield made
    finally:
        namespaces.close()


def test_a_seed_makes_a_box_and_stays(site: Site, record_property: Callable[[str, object], None]) -> None:
    """Name, key, network, files, commands, intent; an interface that comes late; then a boot without the volume."""
    key = (site.directory / "key.pub").read_text().strip()
    tester = {"name": "tester", "shell": "/bin/sh", "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": [key]}
    user = {
        "hostname": "h1",
        "ssh_authorized_keys": [key],
        "users": ["default", {"name": "guest"}, tester],
        "write_files": [{"path": "/etc/motd", "content": "welcome\n", "owner": "guest"}],
        "runcmd": ["echo ran >>/var/lib/edgeway/ran"],
        "packages": ["emacs"],
        "edgeway": {"node": "r1", "intent_file": "intent.yaml"},
    }
    with site.boot(site.seed("good", "i-1", user, NETWORK)) as machine:
        machine.expect("packages: has no effect", within=BOOT)
        machine.expect("seed: /dev/vdc: taken, instance i-1", within=ANSWER)
        assert ready(machine) == "r1"
        record_property(
            "measured", f"first boot: ready after {machine.seconds:.0f} s, {machine.cpu_seconds:.0f} s of CPU"
        )
        eventually(lambda: "h1 login:" in machine.console, within=ANSWER, what="somebody may log in")
        assert site.ssh("hostname; cat /etc/motd; stat -c %U /etc/motd").split() == ["h1", "welcome", "guest"]
        assert "r1" in site.ssh("show status", "admin")
        eventually(lambda: site.ssh("sudo cat /var/lib/edgeway/ran") == "ran\n", within=ANSWER, pause=2.0)
        eventually(lambda: "192.0.2.53" in site.ssh("cat /etc/resolv.conf"), within=ANSWER, pause=2.0)
        machine.qmp("netdev_add", type="tap", id="late", ifname="tap1", script="no", downscript="no")
        machine.qmp("device_add", driver="virtio-net-pci", id="late0", netdev="late", mac=LATE, bus="plug")
        site.cable("tap1", "10.98.0.1/24")
        eventually(lambda: site.reaches("10.98.0.2"), within=ANSWER, what="the late interface has the seed's address")
        # What the daemon puts on the same interface is left alone by networkd, also when it starts again.
        eventually(lambda: "10.0.0.1/24" in site.ssh("ip addr show late0"), within=ANSWER, pause=2.0)
        site.ssh("sudo systemctl restart systemd-networkd")
        found = site.ssh("ip addr show late0")
        assert "10.0.0.1/24" in found
        assert "10.98.0.2/24" in found
        power_off(site, machine)
    with site.boot() as machine:
        assert ready(machine) == "r1"
        record_property(
            "measured", f"later boot: ready after {machine.seconds:.0f} s, {machine.cpu_seconds:.0f} s of CPU"
        )
        assert site.ssh("hostname; cat /etc/motd; sudo cat /var/lib/edgeway/ran").split() == ["h1", "welcome", "ran"]
        assert "r1" in site.ssh("show status", "admin")
        power_off(site, machine)


def test_a_wrong_seed_changes_nothing_and_says_everything(site: Site) -> None:
    """With the place of each finding; the box is what it was."""
    wrong = site.seed(
        "bad", "i-2", "hostname: '-'\nusers: 7\nedgeway: {node: r9, intent_file: intent.yaml}", "version: 1\n"
    )
    with site.boot(wrong) as machine:
        machine.expect(r"network-config:1:1: error: version: must be 2", within=BOOT)
        for place in ("user-data:2:1", "user-data:3:1", r"user-data:4:21.*no node r9"):
            machine.expect(place, within=ANSWER)
        machine.expect("4 errors; nothing was changed", within=ANSWER)
        assert ready(machine) == "r1"
        assert site.ssh("hostname").strip() == "h1"
        power_off(site, machine)
