"""What `appliance.panel.lab.machine` decides: command lines, the seed, names. Pure, but for the probe of KVM."""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: The line by which a box says that it can be used; after it the node is healthy.
READY: Final = re.compile(r"edgeway: READY ")
#: Where a node keeps what belongs to its machine.
PLACE: Final = Path("/run/machine")
#: What a machine is started from: `make image` makes it.
FILES: Final = ("vmlinuz", "initrd", "root.squashfs")
#: The machine's own network: eth0, for SSH from its node alone.
SSH_PORT: Final = 2222
USER: Final = "lab"
SEED_KILOBYTES: Final = 8192
#: Seconds for a kernel to start and to find no root: KVM that works needs one or two.
PROBE_WITHIN: Final = 8.0
_PROBED: Final = b"Kernel panic"
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78cM]|[\r\x00]")
_SIZES: Final = {"": 1, "b": 1 / 1048576, "k": 1 / 1024, "m": 1, "g": 1024}
DEFAULT_MEMORY: Final = 512
#: A socket in the machine that the lab's user may use, and what joins it to the daemon's, which only root may. It runs
#: once, in the session that forwards the socket, and ends with that: a program for each request would be felt.
DOOR: Final = "/run/edgeway-lab.sock"
RELAY: Final = """\
import os, socket, sys, threading
def pump(here, there):
    try:
        while octets := here.recv(65536):
            there.sendall(octets)
        there.shutdown(socket.SHUT_WR)
    except OSError:
        pass
def serve(client):
    daemon = socket.socket(socket.AF_UNIX)
    with client, daemon:
        try:
            daemon.connect(sys.argv[1])
        except OSError:
            return
        back = threading.Thread(target=pump, args=(client, daemon), daemon=True)
        back.start()
        pump(daemon, client)
def accept():
    while True:
        threading.Thread(target=serve, args=door.accept()[:1], daemon=True).start()
door = socket.socket(socket.AF_UNIX)
if os.path.exists(sys.argv[2]):
    os.unlink(sys.argv[2])
door.bind(sys.argv[2])
os.chmod(sys.argv[2], 0o666)
door.listen(16)
threading.Thread(target=accept, daemon=True).start()
sys.stdin.read()
"""


def data_interfaces(names: Iterable[str]) -> list[str]:
    """Return the interfaces that are links, in the order of their numbers; eth0 is the management's."""
    found = sorted(int(name[3:]) for name in names if re.fullmatch(r"eth[1-9][0-9]*", name))
    return [f"eth{number}" for number in found]


def bridging(interface: str, mtu: str) -> list[str]:
    """Return the lines for `ip -batch` that put a link and a tap device on a bridge."""
    number = interface.removeprefix("eth")
    bridge, tap = f"br{number}", f"tap{number}"
    # Learning nothing, the bridge passes every frame to the one other port; 0xfff8: LLDP and its like too.
    options = "type bridge ageing_time 0 mcast_snooping 0 group_fwd_mask 0xfff8"
    return [
        f"tuntap add {tap} mode tap",
        f"link set {tap} mtu {mtu} up",
        f"link add {bridge} mtu {mtu} up {options}",
        f"link set {tap} master {bridge}",
        f"link set {interface} master {bridge} up",
    ]


def mac(node: str, number: int) -> str:
    """Return an address that no other interface of a lab has, and this one always."""
    digest = hashlib.sha256(f"{node}/{number}".encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))


def megabytes(text: str) -> int:
    """Return how much memory `512MiB`, `1gb` or `1024` (MB, as vrnetlab has it) are."""
    found = re.fullmatch(r"([0-9]+)\s*([bkmg]?)(?:i?b)?", text.strip().lower())
    return max(int(int(found[1]) * _SIZES[found[2]]), 256) if found else DEFAULT_MEMORY


def accelerator(name: str) -> list[str]:
    """Return QEMU's words: KVM, or emulation, whose memory for translated code is kept small."""
    if name == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,tb-size=128", "-cpu", "max,la57=off"]


def qemu(environment: Mapping[str, str], node: str, interfaces: Sequence[str], seed: Path, place: Path) -> list[str]:
    """Return the command line of a machine that starts the image's kernel at once: no firmware, no GRUB."""
    image = Path(environment["EDGEWAY_VM"])
    memory = environment.get("QEMU_MEMORY", str(DEFAULT_MEMORY))
    line = "console=ttyS0 quiet panic=-1 edgeway.root=/dev/vda edgeway.console=open"
    words = ["qemu-system-x86_64", "-name", node, "-nodefaults", "-display", "none", "-machine", "q35"]
    words += ["-m", str(megabytes(memory)), "-smp", environment.get("QEMU_SMP", "1")]
    words += accelerator(environment.get("EDGEWAY_ACCEL", "tcg"))
    words += ["-kernel", f"{image}/vmlinuz", "-initrd", f"{image}/initrd", "-append", line]
    for number, (file, switch) in enumerate(((image / "root.squashfs", "on"), (seed, "on"))):
        drive = f"file={file},format=raw,id=d{number},if=none,readonly={switch}"
        words += ["-drive", drive, "-device", f"virtio-blk-pci,drive=d{number}"]
    forward = f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{SSH_PORT}-:22"
    words += ["-netdev", forward, "-device", f"virtio-net-pci,netdev=n0,mac={mac(node, 0)},romfile="]
    for name in interfaces:
        number = int(name.removeprefix("eth"))
        words += ["-netdev", f"tap,id=n{number},ifname=tap{number},script=no,downscript=no"]
        words += ["-device", f"virtio-net-pci,netdev=n{number},mac={mac(node, number)},romfile="]
    words += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    words += ["-chardev", f"socket,id=qmp,path={place}/qmp,server=on,wait=off", "-mon", "chardev=qmp,mode=control"]
    return words + shlex.split(environment.get("QEMU_ADDITIONAL_ARGS", ""))


def seed(node: str, instance: str, key: str, intent: str) -> dict[str, str]:
    """Return the files of the seed: who the machine is, who comes in by SSH, what it is to do."""
    box = f"edgeway:\n  node: {node}\n" + ("  intent_file: intent.yaml\n" if intent else "")
    user = (
        f"#cloud-config\nusers:\n  - name: {USER}\n    shell: /bin/bash\n    sudo: ALL=(ALL) NOPASSWD:ALL\n"
        f"    ssh_authorized_keys: [{key}]\n{box}"
    )
    files = {
        "meta-data": f"instance-id: {instance}\nlocal-hostname: {node}\n",
        "user-data": user,
        "network-config": "version: 2\nethernets:\n  eth0: {dhcp4: true}\n",
    }
    return files | ({"intent.yaml": intent} if intent else {})


def ssh_config(place: Path) -> str:
    """Return how a node reaches its machine: one connection, by which everything goes."""
    return f"""\
Host box
  HostName 127.0.0.1
  Port {SSH_PORT}
  User {USER}
  IdentityFile {place}/key
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  ControlMaster auto
  ControlPath {place}/mux
  ControlPersist yes
"""


def remote(argv: Sequence[str], *, terminal: bool = False, place: Path = PLACE) -> list[str]:
    """Return the command line that runs a command as root in the machine, from its node."""
    tty = ["-t"] if terminal else ["-T"]
    return ["ssh", "-F", f"{place}/ssh_config", *tty, "box", shlex.join(["sudo", "-n", "--", *argv])]


def door(api: Path, place: Path = PLACE) -> list[str]:
    """Return the command line that offers the machine's daemon at `api` in its node for as long as it runs."""
    inside = shlex.join(["sudo", "-n", "--", "python3", "-IS", "-c", RELAY, str(api), DOOR])
    alone = ["-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "StreamLocalBindUnlink=yes"]
    return [
        "ssh",
        "-F",
        f"{place}/ssh_config",
        *alone,
        "-o",
        "ExitOnForwardFailure=yes",
        "-L",
        f"{api}:{DOOR}",
        "box",
        inside,
    ]


def plain(octets: bytes) -> str:
    """Return a line of the console without what only a terminal understands."""
    return _CONTROL.sub("", octets.decode(errors="replace")).rstrip("\n")


def kvm_works(kernel: Path, device: Path = Path("/dev/kvm"), within: float = PROBE_WITHIN) -> bool:
    """Try it: a device that is there says little. The kernel finds no root and panics, which is all that is wanted."""
    if not device.exists():
        return False
    words = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", "-m", "128", "-machine", "q35"]
    words += [*accelerator("kvm"), "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1", "-serial", "stdio"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as machine:
        try:
            with suppress(subprocess.TimeoutExpired):
                return _PROBED in machine.communicate(timeout=within)[0]
        finally:
            machine.kill()
    return False
