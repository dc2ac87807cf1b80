"""`edgeway box`: what only a box has: its intent in its place, its seed by hand, its slots (design 0009)."""

from __future__ import annotations

import os
import shutil
import socket as sockets
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from appliance.box import record, volume
from appliance.model.errors import EngineError, Finding, OperatorError
from appliance.panel import tables, update_cli
from appliance.panel.client import SOCKET, Client

ETC = Path("/etc/edgeway")
SEEDS = Path("/data/seed")
_EDITORS = ("nano", "vi", "vim.tiny")

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="This box: its intent, its seed, its slots.")
update_cli.register(app)

Node = Annotated[str, typer.Option("--node", help="Name of this node in the intent; the box remembers it.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Socket = Annotated[Path, typer.Option("--socket", help="The daemon's socket.")]
Etc = Annotated[Path, typer.Option(hidden=True)]
Seeds = Annotated[Path, typer.Option(hidden=True)]


def own_node(etc: Path) -> str:
    """Return the name this box has in the intent: the one it was given, else that of the host."""
    try:
        given = (etc / "node").read_text(encoding="utf-8").strip()
    except OSError:
        given = ""
    return given or sockets.gethostname().partition(".")[0]


@app.command()
def configure(
    file: Annotated[Path, typer.Argument(help="Intent file of the zone.")],
    node: Node = "",
    yes: Yes = False,  # noqa: FBT002 - a flag of the command line
    socket: Socket = SOCKET,
    etc: Etc = ETC,
) -> None:
    """Check an intent, show what it would change here, and make it the one that this box runs and boots with.

    Example: edgeway box configure /tmp/intent.yaml --node h1
    """
    from appliance.control.commit import parse_for  # noqa: PLC0415 - loads the model
    from appliance.model.load import read  # noqa: PLC0415

    text, name = read(file), node or own_node(etc)
    parse_for(name, text, str(file))
    client = Client(socket)
    running = client.answers
    if running:
        rows = client.post("plan", {"text": text, "file": str(file), "node": name})
        tables.show(rows, as_json=False, empty="nothing would change")
    else:
        typer.echo(f"{file}: nothing wrong; the daemon does not run yet")
    if not yes:
        typer.confirm("make it the running intent?", abort=True)
    if running:
        client.post("reload", {"text": text, "file": str(etc / "intent.yaml")})
    install(etc, name, text)
    if not running:
        start()
    typer.echo(f"{name} runs it, and will after a boot")


def install(etc: Path, node: str, text: str) -> None:
    """Put node and intent where the daemon finds them at its start: the intent last, for it is what starts the daemon."""
    etc.mkdir(mode=0o700, parents=True, exist_ok=True)
    record.write(str(etc / "node"), f"{node}\n".encode(), 0o644)
    record.write(str(etc / "intent.yaml"), text.encode(), 0o600)


def start() -> None:
    """Start the daemon where systemd runs; elsewhere somebody else does."""
    if not Path("/run/systemd/system").is_dir():
        return
    done = subprocess.run(["systemctl", "start", "edgeway.service"], check=False)
    if done.returncode:
        raise EngineError("the daemon does not start; `journalctl -u edgeway` says why")


@app.command()
def edit(node: Node = "", socket: Socket = SOCKET, etc: Etc = ETC) -> None:
    """Open the intent in $EDITOR; then check it, show the plan, and make it the running one."""
    from appliance.model.reference import reference  # noqa: PLC0415 - loads the model

    present = etc / "intent.yaml"
    before = present.read_text(encoding="utf-8") if present.exists() else reference()
    with tempfile.TemporaryDirectory(prefix="edgeway-edit-") as directory:
        draft = Path(directory) / "intent.yaml"
        draft.write_text(before, encoding="utf-8")
        while True:
            subprocess.run([*editor(), str(draft)], check=False)
            if draft.read_text(encoding="utf-8") == before:
                typer.echo("nothing was changed")
                return
            try:
                configure(draft, node, socket=socket, etc=etc)
            except OperatorError as error:
                typer.echo(str(error), err=True)
                if not typer.confirm("edit again?", default=True):
                    return
            else:
                return


def editor() -> list[str]:
    """Return the editor that the environment names, or one that is there."""
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if named:
        return named.split()
    found = next((name for name in _EDITORS if shutil.which(name)), None)
    if found is None:
        raise OperatorError.of("there is no editor", "name one in EDITOR, or use `edgeway box configure FILE`")
    return [found]


@app.command()
def seed(
    directory: Annotated[Path, typer.Argument(help="Directory with meta-data, user-data, network-config.")],
    check: Annotated[bool, typer.Option(help="Only say what is wrong with it.")] = False,  # noqa: FBT002
    seeds: Seeds = SEEDS,
) -> None:
    """Judge a seed and lay it ready for the next boot, as if it were a volume labelled cidata.

    Example: edgeway box seed --check ./seed
    """
    from appliance.box.seed import judge  # noqa: PLC0415 - loads the model when there is an intent

    judged = judge(volume.reader(str(directory)))
    for warning in judged.warnings:
        typer.echo(str(warning), err=True)
    if check:
        typer.echo(f"{directory}: nothing wrong, instance {judged.instance}")
        return
    if not seeds.is_dir():
        raise OperatorError((Finding(0, 0, "", f"{seeds} is not there", "run this on a box, or use --check"),))
    shutil.rmtree(seeds / "new", ignore_errors=True)
    shutil.copytree(directory, seeds / "new.part", dirs_exist_ok=True)
    (seeds / "new.part").chmod(0o700)
    (seeds / "new.part").rename(seeds / "new")
    typer.echo(f"instance {judged.instance} is taken at the next boot")
