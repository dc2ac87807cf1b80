"""Pid 1 of a node that has no systemd: a lab node, or a container.

Started as `python -m appliance.control.init [options] -- COMMAND...`; does what systemd does in the VM, and no more:
runs the `--setup` shell commands once, starts COMMAND and the `--with` shell commands beside it, starts each of them
again when it ends (after 0.2 s, doubling to 5 s, from 0.2 s again once it has been up for 10 s), reaps orphans, and
passes signals on. SIGTERM stops it: the commands get SIGTERM and 1.5 s, then everything in the pid namespace goes.

Each command's pid (as seen in here) is in `STATE/NAME.pid`, the number of restarts in `STATE/NAME.restarts`; COMMAND
is called `main`. Standard library only, and little of it: fifteen of these start at once on a small machine.
"""

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes longer to import than all the rest
    from typing import NoReturn

STATE = "/run/edgeway"
FIRST_DELAY, LAST_DELAY, STABLE_AFTER = 0.2, 5.0, 10.0
STOP_WITHIN = 1.5
PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
WATCHED = (signal.SIGCHLD, signal.SIGTERM, *PASSED_ON)

USAGE = "usage: init [--state DIR] [--ready-fd N] [--setup SHELL]... [--with NAME=SHELL]... [-- COMMAND...]"


class Options:
    """The command line."""

    def __init__(self) -> None:
        """Start with nothing to run."""
        self.state = STATE
        self.ready_fd = -1
        self.setup: list[str] = []
        self.beside: list[str] = []
        self.main: list[str] = []


class Service:
    """One command that is kept running. `pid` 0: it is not running, and is to be started at `due`."""

    def __init__(self, name: str, argv: list[str]) -> None:
        """Be due at once; the first start is not a restart."""
        self.name, self.argv = name, argv
        self.pid, self.restarts = 0, -1
        self.since = self.due = 0.0
        self.delay = FIRST_DELAY

    def started(self, pid: int, now: float) -> None:
        """Say that it runs."""
        self.pid, self.since = pid, now
        self.restarts += 1

    def ended(self, now: float) -> None:
        """Say that it ended, or could not be started; decide when it starts again."""
        delay = FIRST_DELAY if self.pid and now - self.since >= STABLE_AFTER else self.delay
        self.pid, self.due, self.delay = 0, now + delay, min(delay * 2, LAST_DELAY)


def parse(arguments: list[str]) -> Options:
    """Read the command line; ValueError says what is wrong with it."""
    options, rest = Options(), list(arguments)
    while rest and rest[0] != "--":
        word = rest.pop(0)
        if word not in {"--state", "--ready-fd", "--setup", "--with"} or not rest:
            message = f"{word}: not understood; {USAGE}"
            raise ValueError(message)
        value = rest.pop(0)
        if word == "--with" and not value.partition("=")[0].isidentifier():
            message = f"{value}: a name must stand before it; {USAGE}"
            raise ValueError(message)
        if word == "--state":
            options.state = value
        elif word == "--ready-fd":
            options.ready_fd = int(value)
        else:
            (options.setup if word == "--setup" else options.beside).append(value)
    options.main = rest[1:]
    return options


def services(options: Options) -> list[Service]:
    """List what is to run: the commands beside in their order, then the main one, which may need them."""
    beside = [command.partition("=") for command in options.beside]
    found = [Service(name, ["/bin/sh", "-c", shell]) for name, _, shell in beside]
    return found + ([Service("main", options.main)] if options.main else [])


class Init:
    """The loop around the services."""

    def __init__(self, options: Options) -> None:
        """Hold what is to run; nothing starts yet."""
        self._options = options
        self._services = services(options)
        self._stop_at = 0.0

    def run(self) -> int:
        """Run until SIGTERM; return the exit status."""
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        os.makedirs(self._options.state, exist_ok=True)  # noqa: PTH103 - pathlib is slow to import
        try:
            self._first_start()
        except OSError as error:
            self._report(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            return 127
        self._report("")
        while not self._finished():
            self._start_due()
            self._wait()
        return 0

    def _first_start(self) -> None:
        """Prepare and start everything; OSError when a command cannot even be started."""
        for command in self._options.setup:
            pid = self._spawn(["/bin/sh", "-c", command])
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if code:
                raise OSError(0, f"exit status {code}", command)
        for service in self._services:
            self._start(service)

    def _start(self, service: Service) -> None:
        service.started(self._spawn(service.argv), time.monotonic())
        self._note(service)
        if service.restarts:
            say(f"{service.name}: started again, time {service.restarts}")

    def _start_due(self) -> None:
        for service in self._services:
            if not self._stop_at and not service.pid and service.due <= time.monotonic():
                try:
                    self._start(service)
                except OSError as error:
                    say(f"{service.name}: {error}")
                    service.ended(time.monotonic())

    @staticmethod
    def _spawn(argv: list[str]) -> int:
        """Start a command with no signal blocked, nor ignored as Python ignores some."""
        ignored = (signal.SIGPIPE, signal.SIGXFSZ)
        return os.posix_spawnp(argv[0], argv, os.environ, setsigmask=(), setsigdef=ignored)

    def _wait(self) -> None:
        """Sleep until a signal or the next start; then reap."""
        due = [service.due for service in self._services if not service.pid]
        until = self._stop_at or min(due, default=0.0)
        timeout = max(0.0, until - time.monotonic()) if until else 3600.0
        got = signal.sigtimedwait(WATCHED, timeout)
        if got and got.si_signo == signal.SIGTERM:
            self._stop_at = self._stop_at or time.monotonic() + STOP_WITHIN
            self._forward(signal.SIGTERM)
        elif got and got.si_signo in PASSED_ON:
            self._forward(got.si_signo)
        self._reap()

    def _reap(self) -> None:
        """Collect every child that ended, ours or adopted."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for service in self._services:
                if service.pid == pid:
                    say(f"{service.name}: ended with {os.waitstatus_to_exitcode(status)}")
                    service.ended(time.monotonic())
                    os.unlink(f"{self._options.state}/{service.name}.pid")  # noqa: PTH108

    def _forward(self, number: int) -> None:
        for service in self._services:
            if service.pid:
                os.kill(service.pid, number)

    def _finished(self) -> bool:
        """Tell whether a stop was asked for and is done, or has taken too long."""
        if not self._stop_at:
            return False
        return time.monotonic() >= self._stop_at or not any(service.pid for service in self._services)

    def _note(self, service: Service) -> None:
        for what, value in (("restarts", service.restarts), ("pid", service.pid)):
            path = f"{self._options.state}/{service.name}.{what}"
            with open(f"{path}.new", "w", encoding="ascii") as file:  # noqa: PTH123
                file.write(f"{value}\n")
            os.replace(f"{path}.new", path)  # noqa: PTH105

    def _report(self, problem: str) -> None:
        """Tell who started us, once, whether everything runs: nothing but a newline means yes."""
        if problem:
            say(problem)
        if self._options.ready_fd >= 0:
            os.write(self._options.ready_fd, f"{problem}\n".encode())
            os.close(self._options.ready_fd)


def say(text: str) -> None:
    """Write a line of our own into the node's log."""
    os.write(2, f"init: {text}\n".encode())


def main() -> NoReturn:
    """Run as a program."""
    try:
        options = parse(sys.argv[1:])
    except ValueError as error:
        say(str(error))
        sys.exit(2)
    if options.ready_fd >= 0:
        os.set_inheritable(options.ready_fd, False)  # noqa: FBT003 - positional only
    sys.exit(Init(options).run())


if __name__ == "__main__":
    main()
