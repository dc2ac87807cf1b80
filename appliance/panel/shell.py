"""The console of a box: edgeway's commands at a prompt, in one process, so that Python starts once.

The login shell of operators, and what `edgeway.console=open` puts on the console. `edgeway-shell -c WORDS` runs one line,
as ssh asks for. Who is in the group `sudo` becomes root first: the daemon answers nobody else.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

SELF: Final = "/usr/bin/edgeway-shell"
OPERATORS: Final = "sudo"
ETC: Final = Path("/etc/edgeway")
HISTORY: Final = 500
LEAVE: Final = ("exit", "quit", "logout")
#: Words of the shell that are commands of `edgeway box`.
SHORT: Final = {"configure": ("box", "configure"), "edit": ("box", "edit"), "update": ("box", "update")}
#: Commands that mean nothing at a prompt of the box itself.
HIDDEN: Final = frozenset({"run"})
HELP: Final = """\
show ...           what the daemon knows: status, neighbors, routes, flows, ... (`show --help`)
configure FILE     check an intent, show the plan, make it the running one
edit               the same with the present intent in an editor
plan, reload, rollback, trace, flow, drain, check, reference: `COMMAND --help`
box ...            seed, slots, update of this box
ping, ip, ...      any other program: bash -c 'WORDS'
bash               a shell of the system
exit               leave
"""


def prompt(node: str, *, root: bool) -> str:
    """Return the prompt; `#` says that what is typed may change everything."""
    return f"{node}{'#' if root else '>'} "


def candidates(command: Any, words: Sequence[str], begun: str) -> list[str]:
    """Return how the word that is being typed may go on, after the words before it; files where a command takes any."""
    given = list(SHORT.get(words[0], (words[0],))) + list(words[1:]) if words else []
    for word in given:
        if word.startswith("-"):
            continue
        below = getattr(command, "commands", {}).get(word)
        if below is None:
            break
        command = below
    groups = dict(getattr(command, "commands", {}))
    if groups:
        names = [name for name, each in groups.items() if not each.hidden and (words or name not in HIDDEN)]
        names += [*SHORT, "help", "bash", "exit"] if not words else []
        return sorted({name for name in names if name.startswith(begun)})
    options = [text for parameter in command.params for text in parameter.opts if text.startswith("--")]
    if begun.startswith("-"):
        return sorted(text for text in [*options, "--help"] if text.startswith(begun))
    return files(begun)


def files(begun: str) -> list[str]:
    """Return the paths that begin so."""
    directory, _, start = begun.rpartition("/")
    base = Path(f"{directory}/") if "/" in begun else Path()
    found = []
    with suppress(OSError):
        for path in base.iterdir():
            if path.name.startswith(start) and (start or not path.name.startswith(".")):
                stem = f"{directory}/" if "/" in begun else ""
                found.append(f"{stem}{path.name}{'/' if path.is_dir() else ''}")
    return sorted(found)


class Shell:
    """One session."""

    def __init__(self, node: str, *, root: bool) -> None:
        """Load no command yet: the prompt comes first."""
        self._prompt = prompt(node, root=root)
        self._loaded: Any = None
        self._matches: list[str] = []

    @property
    def command(self) -> Any:
        """Return the tree of edgeway's commands."""
        if self._loaded is None:
            from typer.main import get_command  # noqa: PLC0415 - the prompt need not wait for it

            from appliance.panel.cli import app  # noqa: PLC0415

            self._loaded = get_command(app)
        return self._loaded

    def run(self) -> None:
        """Read and do lines until the end."""
        self._prepare_lines()
        while True:
            try:
                line = input(self._prompt)
            except EOFError:
                sys.stdout.write("\n")
                return
            except KeyboardInterrupt:
                sys.stdout.write("^C\n")
                continue
            if line.strip() in LEAVE:
                return
            self.do(line)

    def do(self, line: str) -> int:
        """Do one line; return its exit status."""
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        if words and words[0] == "edgeway":  # as it stands in every manual
            words = words[1:]
        match words:
            case []:
                return 0
            case ["help" | "?"]:
                sys.stdout.write(HELP)
                return 0
            case ["bash", *rest]:
                return _program(["/bin/bash", *(rest or ["-l"])])
            case [word, *rest]:
                return self._edgeway([*SHORT.get(word, (word,)), *rest])
        return 2

    def _edgeway(self, words: list[str]) -> int:
        """Run a command of edgeway in this process; none of them ends the session."""
        try:
            self.command.main(args=words, prog_name="edgeway")
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else 1
        except KeyboardInterrupt:
            return 130
        except Exception as error:  # noqa: BLE001 - a bug of one command must not close the console
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            return 1
        return 0

    def complete(self, begun: str, state: int) -> str | None:
        """Give readline one candidate after the other."""
        import readline  # noqa: PLC0415 - only where somebody types

        if state == 0:
            before = readline.get_line_buffer()[: readline.get_begidx()]
            self._matches = self._found(before, begun)
        return self._matches[state] if state < len(self._matches) else None

    def _found(self, before: str, begun: str) -> list[str]:
        try:
            found = candidates(self.command, shlex.split(before), begun)
        except ValueError:
            return []
        return [f"{word} " if len(found) == 1 and not word.endswith("/") else word for word in found]

    def _prepare_lines(self) -> None:
        with suppress(ImportError):  # a Python without it still reads lines
            import readline  # noqa: PLC0415 - only where somebody types

            readline.set_completer_delims(" \t\n")
            readline.set_completer(self.complete)
            readline.parse_and_bind("tab: complete")
            readline.set_history_length(HISTORY)


def _program(words: Sequence[str]) -> int:
    """Run another program on this terminal."""
    return os.waitstatus_to_exitcode(os.waitpid(os.posix_spawnp(words[0], [*words], os.environ), 0)[1])


def may_become_root(groups: Iterable[int], operators: int | None, user: int) -> bool:
    """Tell whether to ask sudo: others would only be refused by it, after their login."""
    return user != 0 and operators is not None and operators in groups


def _operators() -> int | None:
    import grp  # noqa: PLC0415 - root never asks

    try:
        return grp.getgrnam(OPERATORS).gr_gid
    except KeyError:
        return None


def _node() -> str:
    for path in (ETC / "node", Path("/proc/sys/kernel/hostname")):
        with suppress(OSError):
            if name := path.read_text(encoding="utf-8").strip():
                return name
    return "edgeway"


def main() -> NoReturn:
    """Run as a program."""
    words = sys.argv[1:]
    if os.geteuid() != 0 and may_become_root(os.getgroups(), _operators(), os.geteuid()):
        os.execvp("sudo", ["sudo", "-n", "--", SELF, *words])
    os.environ.setdefault("HOME", "/root")
    os.environ.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    with suppress(OSError):
        os.chdir(os.environ["HOME"])
    shell = Shell(_node(), root=os.geteuid() == 0)
    if words[:1] == ["-c"]:
        sys.exit(shell.do(" ".join(words[1:])))
    sys.stdout.write("Edgeway; `help` lists the commands\n")
    shell.run()
    sys.exit(0)
