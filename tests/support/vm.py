"""A virtual machine for tests: QEMU with its serial console and its control socket, gone when the block ends.

    with Machine("h1", boot=Direct(image), drives=[Drive(image / "root.squashfs")]) as machine:
        machine.expect(r"edgeway: READY .*", within=120)

QEMU connects to sockets on which this process listens already, and a thread reads the console from the first octet, so
nothing is lost. What the console said is in `build/logs/NAME-PID.log` and stays there when the block fails. QEMU
dies with the process that started it, however that one ends. `EDGEWAY_ACCEL=kvm` uses KVM: everything is emulated
otherwise, because a device node says little about whether it works.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from tests.support.namespaces import NAMED

LOGS = Path(__file__).resolve().parents[2] / "build" / "logs"
FIRMWARE = Path("/usr/share/OVMF")
#: What a started QEMU may take until it has opened its sockets, seconds; paid only by a failure.
PATIENCE = 60.0
_CONTROL = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78cM]|\r|\x00")
_LAST = 30


@dataclass(frozen=True, slots=True)
class Drive:
    """A file that the machine sees as a disk. `temporary`: what the machine writes is forgotten."""

    path: Path
    interface: Literal["virtio", "ide", "nvme"] = "virtio"
    form: Literal["raw", "qcow2"] = "raw"
    readonly: bool = False
    temporary: bool = False

    def words(self, number: int) -> list[str]:
        """Return QEMU's options."""
        switches = f"readonly={_switch(self.readonly)},snapshot={_switch(self.temporary)}"
        # Many short writes with a barrier each are what a data partition does: the tests' file system keeps none of it.
        backing = f"file={self.path},format={self.form},id=d{number},if=none,cache=unsafe,{switches}"
        device = {"virtio": "virtio-blk-pci", "ide": "ide-hd", "nvme": f"nvme,serial=d{number}"}[self.interface]
        return ["-drive", backing, "-device", f"{device},drive=d{number}"]


@dataclass(frozen=True, slots=True)
class Nic:
    """A virtio interface behind a tap device that QEMU makes in the machine's namespace."""

    tap: str
    mac: str

    def words(self, number: int) -> list[str]:
        """Return QEMU's options; no boot from the network, which costs seconds."""
        tap = f"tap,id=n{number},ifname={self.tap},script=no,downscript=no"
        return ["-netdev", tap, "-device", f"virtio-net-pci,netdev=n{number},mac={self.mac},romfile="]


@dataclass(frozen=True, slots=True)
class Direct:
    """Start the kernel of an image at once: no firmware, no GRUB, no disk. The first drive is root.squashfs."""

    image: Path
    append: str = "edgeway.root=/dev/vda"

    def words(self, _: Path) -> list[str]:
        """Return QEMU's options."""
        line = f"console=ttyS0 quiet panic=-1 {self.append}"
        kernel, initrd = self.image / "vmlinuz", self.image / "initrd"
        return ["-machine", "q35", "-kernel", str(kernel), "-initrd", str(initrd), "-append", line]


@dataclass(frozen=True, slots=True)
class Bios:
    """Boot from the first drive as a PC does."""

    def words(self, _: Path) -> list[str]:
        """Return QEMU's options: `pc` has the IDE controller that a plain `-drive` is on."""
        return ["-machine", "pc"]


@dataclass(frozen=True, slots=True)
class Uefi:
    """Boot from the first drive through UEFI, with variables of its own."""

    def words(self, directory: Path) -> list[str]:
        """Return QEMU's options."""
        variables = directory / "vars.fd"
        shutil.copyfile(FIRMWARE / "OVMF_VARS_4M.fd", variables)
        code = f"if=pflash,format=raw,readonly=on,file={FIRMWARE / 'OVMF_CODE_4M.fd'}"
        return ["-machine", "q35", "-drive", code, "-drive", f"if=pflash,format=raw,file={variables}"]


Boot = Direct | Bios | Uefi


@dataclass
class Machine:
    """One machine; `with` starts it. `namespace` is a network namespace by name; `extra` are further words for QEMU."""

    name: str
    boot: Boot
    drives: Sequence[Drive]
    nics: Sequence[Nic] = ()
    namespace: str = ""
    memory: int = 512
    extra: Sequence[str] = ()
    begun: float = field(default=0.0, init=False)
    _said: str = field(default="", init=False)
    _read: int = field(default=0, init=False)

    def __enter__(self) -> Self:
        """Start QEMU and take its sockets; half a machine is removed again."""
        with ExitStack() as stack:
            self._news = threading.Condition()
            self._qmp_lock = threading.Lock()
            self.directory = Path(tempfile.mkdtemp(prefix="ewt-vm-"))
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            LOGS.mkdir(parents=True, exist_ok=True)
            self.log = LOGS / f"{self.name}-{os.getpid()}.log"
            serial, control = (self._listen(stack, name) for name in ("serial", "qmp"))
            self.begun = time.monotonic()
            self._start(stack)
            self._serial = stack.enter_context(self._accept(serial))
            self._control = stack.enter_context(self._accept(control))
            self._lines = stack.enter_context(self._control.makefile("r"))
            threading.Thread(target=self._listening, name=f"console of {self.name}", daemon=True).start()
            json.loads(self._lines.readline())
            self.qmp("qmp_capabilities")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End QEMU; keep the log only of a failure."""
        self._stack.close()
        if kind is None:
            self.log.unlink(missing_ok=True)

    def expect(self, pattern: str, within: float) -> re.Match[str]:
        """Wait until the console says `pattern` after what was expected last; return the match."""
        compiled, deadline = re.compile(pattern), time.monotonic() + within
        with self._news:
            while True:
                if found := compiled.search(self._said, self._read):
                    self._read = found.end()
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or not self.running:
                    raise AssertionError(self._complaint(f"{pattern!r} within {within:g} s"))
                self._news.wait(min(left, 1.0))

    def send(self, text: str) -> None:
        """Type on the console."""
        self._serial.sendall(text.encode())

    @property
    def console(self) -> str:
        """Return everything the console said, without control sequences."""
        with self._news:
            return self._said

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Ask QEMU; return its answer. Events are passed over. An underscore in a name of an argument is a hyphen."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        with self._qmp_lock:
            self._control.sendall(json.dumps({"execute": command, "arguments": named}).encode())
            while line := self._lines.readline():
                answer = json.loads(line)
                if "error" in answer:
                    raise AssertionError(f"{self.name}: {command}: {answer['error']['desc']}")
                if "return" in answer:
                    return answer["return"]
        raise AssertionError(self._complaint(f"an answer to {command}"))

    @property
    def running(self) -> bool:
        """Tell whether QEMU is there."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait(self, within: float) -> None:
        """Wait until the machine has powered itself off."""
        deadline = time.monotonic() + within
        with self._news:
            while self.running:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(self._complaint(f"the end within {within:g} s"))
                self._news.wait(min(left, 0.2))

    def power_cut(self) -> None:
        """Take its power away, now."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    @property
    def pid(self) -> int:
        """Return QEMU's process id; it is nobody else's before the block ends."""
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """Return the processor time that QEMU has used, also after its end."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def seconds(self) -> float:
        """Return how long ago QEMU was started."""
        return time.monotonic() - self.begun

    def _start(self, stack: ExitStack) -> None:
        inside = ["nsenter", f"--net={NAMED / self.namespace}", "--"] if self.namespace else []
        # QEMU's own messages go where the console goes: whoever looks for a reason looks there.
        with self.log.open("wb") as log:
            command = ["setpriv", "--pdeathsig", "KILL", *inside, *self._command()]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(self._end)

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.wait()

    def _command(self) -> list[str]:
        fast = ["-accel", "kvm", "-cpu", "host"]
        words = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-m", str(self.memory)]
        words += (
            fast if os.environ.get("EDGEWAY_ACCEL") == "kvm" else ["-accel", "tcg,tb-size=128", "-cpu", "max,la57=off"]
        )
        words += self.boot.words(self.directory)
        words += [word for number, drive in enumerate(self.drives) for word in drive.words(number)]
        words += [word for number, nic in enumerate(self.nics) for word in nic.words(number)]
        words += ["-chardev", f"socket,id=serial,path={self.directory}/serial", "-serial", "chardev:serial"]
        words += ["-chardev", f"socket,id=qmp,path={self.directory}/qmp", "-mon", "chardev=qmp,mode=control"]
        return [*words, *self.extra]

    def _listen(self, stack: ExitStack, name: str) -> socket.socket:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(self.directory / name))
        listening.listen(1)
        listening.settimeout(0.2)
        return listening

    def _accept(self, listening: socket.socket) -> socket.socket:
        deadline = time.monotonic() + PATIENCE
        while self.running and time.monotonic() < deadline:
            with suppress(TimeoutError):
                return listening.accept()[0]
        raise AssertionError(f"{self.name}: QEMU did not start: {self.log.read_text(errors='replace')}")

    def _listening(self) -> None:
        with self.log.open("ab", buffering=0) as log, suppress(OSError):
            while octets := self._serial.recv(65536):
                log.write(octets)
                with self._news:
                    # A sequence that is cut in two stays; the next octets complete it.
                    self._said = self._said[: self._read] + _CONTROL.sub(
                        "", self._said[self._read :] + octets.decode(errors="replace")
                    )
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _complaint(self, wanted: str) -> str:
        last = "\n".join(self._said.splitlines()[-_LAST:])
        state = "runs" if self.running else "has ended"
        return f"{self.name}: not {wanted}; QEMU {state}; console ({self.log}):\n{last}"


def _switch(on: bool) -> str:
    return "on" if on else "off"
