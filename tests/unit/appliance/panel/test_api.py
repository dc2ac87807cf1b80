"""The API over a real Unix socket, with a client that shares no code with ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.control.tasks import Tasks
from appliance.model.errors import KernelError
from appliance.panel.api import serve
from appliance.panel.views import VIEWS
from routing.engines.engine import RouteView, Synced
from tests.support.fake_engine import best
from tests.support.fake_node import FakeNode, quiet_vpc
from tests.support.intents import bare, changed, pair, to_yaml
from tests.support.waiting import eventually_async


class Api:
    """A node whose API listens on `path`."""

    def __init__(self, node: FakeNode, path: Path) -> None:
        self.node, self.path = node, path

    async def ask(self, method: str, url: str, body: object = None) -> tuple[int, Any]:
        """Make one request; return status and JSON."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        text = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"{method} {url} HTTP/1.1\r\nHost: edgeway\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n"
        writer.write(head.encode() + text)
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        head_, _, text_ = answer.partition(b"\r\n\r\n")
        assert b"content-type: application/json" in head_
        return int(head_.split()[1]), json.loads(text_)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """Give host h1 with one VPC, whose API listens."""
    path, tasks = tmp_path / "run" / "api.sock", Tasks()
    async with FakeNode("h1") as node:
        await node.load()
        tasks.start("api", lambda: serve(node.daemon, path))
        await eventually_async(path.is_socket)
        await eventually_async(lambda: _connects(path))
        yield Api(node, path)
        await tasks.stop()


async def _connects(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


async def test_only_root_may_connect(api: Api) -> None:
    """Whoever can connect can change the zone."""
    assert api.path.stat().st_mode & 0o777 == 0o600
    assert api.path.parent.stat().st_mode & 0o077 == 0


async def test_every_view_is_answered(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, with its options."""
    monkeypatch.setattr("appliance.kernel.probe.capabilities", lambda: [{"name": "VXLAN", "present": True}])
    for name in VIEWS:
        code, value = await api.ask("GET", f"/show/{name}")
        assert code == 200, value
    assert (await api.ask("GET", "/show/flows?vpc=red")) == (200, [])


async def test_a_flow_is_instructed_and_traced(api: Api) -> None:
    """What a body lacks is named."""
    flow = {"vpc": "red", "flow": "tcp 172.16.1.13:40000 > 198.51.100.1:80"}
    code, value = await api.ask("POST", "/flow", flow | {"action": "deny"})
    assert (code, value["in-force"], value["live"]) == (200, True, False)
    code, value = await api.ask("POST", "/trace", flow)
    assert (code, value["result"]) == (200, "dropped by the instruction")
    code, value = await api.ask("POST", "/flow", {"vpc": "red", "action": "clear"})
    assert (code, value) == (200, {"vpc": "red", "cleared": 1})
    for what, body, said in (
        ("flow", flow, "the body lacks action"),
        ("trace", {"vpc": "red"}, "the body lacks flow"),
        ("flow", flow | {"flow": "x", "action": "deny"}, "`x` is no flow"),
    ):
        code, value = await api.ask("POST", f"/{what}", body)
        assert code == 422
        assert said in value["error"]


async def test_a_reload_is_answered_when_the_kernel_was_led_there(api: Api) -> None:
    """With what changed and what waits."""
    code, value = await api.ask("POST", "/reload", {"text": to_yaml(pair()), "file": "intent.yaml"})
    assert code == 200
    assert value["changed"]["namespaces"] == 1
    assert (value["pending"], value["engines"]) == ([], {})
    assert not api.node.world.namespaces
    code, value = await api.ask("POST", "/rollback")
    assert code == 200
    assert api.node.world.namespaces == {"vpc-red"}


async def test_a_wrong_intent_is_answered_with_every_finding(api: Api) -> None:
    """Each with file, line and column; nothing changes."""
    wrong = to_yaml(changed(changed(quiet_vpc(), "zone.as", "many"), "vpcs.red.id", 0))
    for what in ("reload", "plan"):
        code, value = await api.ask("POST", f"/{what}", {"text": wrong, "file": "bad.yaml"})
        assert code == 422
        assert (value["kind"], value["who"], value["retry"]) == ("OperatorError", "operator", False)
        assert {finding["path"] for finding in value["findings"]} == {"zone.as", "vpcs.red.id"}
        assert all(finding["line"] > 1 and finding["file"] == "bad.yaml" for finding in value["findings"])
    assert api.node.world.namespaces == {"vpc-red"}


async def test_a_plan_is_for_the_node_of_the_daemon(api: Api) -> None:
    """Asking for another's plan here would show nonsense."""
    body = {"text": to_yaml(pair()), "file": "intent.yaml"}
    code, rows = await api.ask("POST", "/plan", body)
    assert code == 200
    assert {"subsystem": "namespaces", "operation": "delete", "object": "namespace vpc-red", "was": None} in rows
    assert (await api.ask("POST", "/plan", body | {"node": "h1"}))[0] == 200
    code, value = await api.ask("POST", "/plan", body | {"node": "h2"})
    assert code == 422
    assert "runs node h1, not h2" in value["error"]
    code, value = await api.ask("POST", "/plan", body | {"text": to_yaml(bare())})
    assert code == 422
    assert "has no node h1" in value["error"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (["text"], "no object of texts"),
        ({"text": 1, "file": "x"}, "no object of texts"),
        ({"text": "x"}, "the body lacks file"),
    ],
)
async def test_a_body_that_is_none_is_the_callers_error(api: Api, body: object, said: str) -> None:
    """And no traceback."""
    code, value = await api.ask("POST", "/reload", body)
    assert code == 422
    assert said in value["error"]


@pytest.mark.parametrize(
    ("method", "url", "said"),
    [
        ("GET", "/show/everything", "one of status"),
        ("GET", "/show/plan?intent=x", "plan has no option intent"),
        ("GET", "/nothing", "there is no GET /nothing"),
        ("GET", "/reload", "there is no GET /reload"),
        ("POST", "/show/status", "there is no POST /show/status"),
    ],
)
async def test_what_there_is_not_is_told_with_what_there_is(api: Api, method: str, url: str, said: str) -> None:
    """In JSON like everything else."""
    code, value = await api.ask(method, url)
    assert code == 422
    assert said in value["findings"][0]["message"] + value["findings"][0]["hint"]


async def test_a_refusal_of_the_kernel_comes_with_what_it_said(api: Api) -> None:
    """The client can make the same error of it."""
    api.node.ports["links"].broken = [KernelError("links", "dump", 16)] * 3  # the daemon reads too
    code, value = await api.ask("GET", "/show/plan")
    assert code == 503
    assert (value["kind"], value["who"], value["retry"]) == ("KernelError", "kernel", True)
    assert (value["subsystem"], value["what"], value["errno"]) == ("links", "dump", 16)


async def test_a_bug_of_ours_is_told_in_json_and_the_api_lives_on(api: Api) -> None:
    """Its traceback is for the log."""
    api.node.ports["links"].broken = [ZeroDivisionError("oops")] * 3  # the daemon reads too
    code, value = await api.ask("GET", "/show/plan")
    assert code == 503
    assert (value["kind"], value["who"]) == ("InternalError", "us")
    assert "oops" in value["error"]
    api.node.ports["links"].broken.clear()
    assert (await api.ask("GET", "/show/plan"))[0] == 200


async def test_a_long_list_is_whole_and_lets_others_run(api: Api) -> None:
    """Tens of thousands of routes must not stop the loop that installs them."""
    view = best("198.51.100.0/24", "10.0.0.21")
    assert view.attributes is not None
    api.node.engine().paths = (RouteView(view.prefix, "rs1", None, view.attributes),) * 2345
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    code, rows = await api.ask("GET", "/show/routes")
    task.cancel()
    assert code == 200
    assert len(rows) == 2345
    assert turns >= 25


async def test_two_ask_at_once(api: Api) -> None:
    """A reload that waits does not hold up who only looks."""
    api.node.ports["nft"].broken = [KernelError("nft", "list", 16)]
    body = {"text": to_yaml(changed(quiet_vpc(), "vpcs.red.firewall.inbound", "allow")), "file": "x"}
    answers = await asyncio.gather(
        *(api.ask("GET", "/show/status") for _ in range(5)), api.ask("POST", "/reload", body)
    )
    assert [code for code, _ in answers[:5]] == [200] * 5


async def test_a_socket_that_a_killed_daemon_left_is_taken_over(tmp_path: Path) -> None:
    """Its file is still there, and nobody listens."""
    path, tasks = tmp_path / "api.sock", Tasks()
    path.touch()
    async with FakeNode("h1") as node:
        await node.load()
        node.engine().push(Synced())
        tasks.start("api", lambda: serve(node.daemon, path))
        await eventually_async(lambda: _connects(path))
        code, _ = await Api(node, path).ask("GET", "/show/status")
        await tasks.stop()
        assert code == 200
        assert not await _connects(path)
