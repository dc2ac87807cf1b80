"""What does not fit together in the inline edges of an intent; called by `appliance.model.verify`."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.model.inline import Inline
from appliance.model.intent import Intent
from appliance.model.marks import INLINE_PREFIX
from appliance.model.problems import Problem, unique
from appliance.model.text import Path
from appliance.model.verify_policy import ports


def check_inline(intent: Intent) -> Iterator[Problem]:
    """Edges stand on hosts, bridges name engines, a rule is of one address family."""
    yield from unique(
        ((("inline", name, "id"), edge.id) for name, edge in intent.inline.items()), "id of an inline edge"
    )
    yield from unique(_namespaces(intent), "namespace")
    hosts = intent.with_role("host")
    for name, edge in intent.inline.items():
        path: Path = ("inline", name)
        if edge.host not in hosts:
            yield Problem((*path, "host"), f"{edge.host} is not a host", f"hosts: {', '.join(hosts) or 'none'}")
        engines = edge.engines.items()
        yield from unique((((*path, "engines", e, "id"), engine.id) for e, engine in engines), "id of an engine")
        yield from _bridges(path, edge)
        yield from _rules(path, edge)


def _namespaces(intent: Intent) -> Iterator[tuple[Path, str]]:
    """Yield the namespaces of edges: that of engine `b` of edge `a` would be that of an edge `a-b`."""
    for name, edge in intent.inline.items():
        yield ("inline", name), f"{edge.host}:{INLINE_PREFIX}{name}"
        if edge.form == "apart":
            for engine in edge.engines:
                yield ("inline", name, "engines", engine), f"{edge.host}:{INLINE_PREFIX}{name}-{engine}"


def _bridges(path: Path, edge: Inline) -> Iterator[Problem]:
    for name, bridge in edge.bridges.items():
        if bridge.engine not in edge.engines:
            here = (*path, "bridges", name, "engine")
            yield Problem(here, f"{bridge.engine} is no engine of the edge", f"engines: {', '.join(edge.engines)}")


def _rules(path: Path, edge: Inline) -> Iterator[Problem]:
    for name, engine in edge.engines.items():
        for index, rule in enumerate(engine.rules):
            here: Path = (*path, "engines", name, "rules", index)
            yield from ports(here, rule.protocol, rule.ports)
            if len({network.version for network in (*rule.source, *rule.destination)}) > 1:
                yield Problem(here, "mixes IPv4 and IPv6 prefixes", "write a rule for each")
