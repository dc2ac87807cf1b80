"""`healthcheck` and `stages` of a node -> commands. Pure; called by `appliance.panel.lab.nodes`.

All nodes start at once here, so there is nothing to wait for: of stages what is run in the node is kept, in the order of
the stages, and runs when the links are there. A health check is one more line of `edgeway lab status`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.model.text import Path
    from appliance.panel.lab.reader import Placed, Reader

STAGES: Final = ("create", "create-links", "configure", "healthy", "exit")
PHASES: Final = ("on-enter", "on-exit")
_HEALTH_KEYS: Final = {"test": "", "interval": "", "retries": "", "timeout": "", "start-period": ""}


def read_health(reader: Reader, path: Path, value: Any) -> list[Placed]:
    """Read `healthcheck`: the words of its command."""
    found = reader.mapping(path, value)
    for key in found:
        if key not in _HEALTH_KEYS:
            reader.error((*path, key), f"`{key}` is not supported here")
        elif key != "test":
            reader.warn((*path, key), f"`{key}` makes no difference", "`edgeway lab status` asks once")
    words = reader.texts((*path, "test"), found.get("test"))
    if words and words[0].text == "CMD-SHELL":
        shell = [words[0]._replace(text=text) for text in ("sh", "-c", " ".join(word.text for word in words[1:]))]
        return shell if len(words) > 1 else []
    if words and words[0].text in {"CMD", "NONE"}:
        return words[1:] if words[0].text == "CMD" else []
    return words


def read_stages(reader: Reader, path: Path, value: Any) -> list[Placed]:
    """Read `stages`: the commands that are run in the node, in their order."""
    found = reader.mapping(path, value)
    for key in found:
        if key not in STAGES:
            reader.error((*path, key), f"there is no stage {key!r}", f"stages: {', '.join(STAGES)}")
    commands: list[Placed] = []
    for stage in STAGES:
        body = reader.mapping((*path, stage), found.get(stage))
        if "wait-for" in body:
            reader.warn((*path, stage, "wait-for"), "`wait-for` makes no difference", "all nodes start at once here")
        if stage == "exit" and body.get("exec"):
            reader.warn((*path, stage, "exec"), "`exec` makes no difference", "nodes are not told that they will end")
        elif body.get("exec"):
            commands += _commands(reader, (*path, stage, "exec"), body["exec"])
    return commands


def _commands(reader: Reader, path: Path, value: Any) -> Iterator[Placed]:
    """Read the commands of a stage, in either of the two forms."""
    if not isinstance(value, list):
        for phase in PHASES:
            yield from reader.texts((*path, phase), reader.mapping(path, value).get(phase))
        return
    for phase in PHASES:
        for place, item in reader.sequence(path, value):
            entry = reader.mapping(place, item)
            if entry.get("phase") != phase:
                continue
            if entry.get("target", "container") != "container":
                reader.error(
                    (*place, "target"), f"target {entry['target']!r} is not supported here", "only `container`"
                )
            elif text := reader.text((*place, "command"), entry.get("command")):
                yield text
