"""The daemon's HTTP API over its Unix socket: show, plan, reload, rollback, flow, trace. Only root may connect (0600).

GET /show/NAME?key=value is a view of `appliance.panel.views`. POST /plan and /reload take {"text": the intent, "file":
where it came from}, /plan also {"node": for which node}; POST /rollback takes nothing, /drain {"order": "drain" or "undo"}. POST /flow takes {"vpc", "flow",
"action", "to"} and /trace {"vpc", "flow", "in"}: see `appliance.panel.flow_cli`. Every answer is JSON; what is wrong comes as {"error", "kind", "who" must act, "retry", "findings"}, status 422 if the caller is to act, else 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance.control.commit import parse_for
from appliance.control.daemon import Daemon
from appliance.control.reconcile import Outcome
from appliance.model.describe import describe
from appliance.model.errors import EdgewayError, InternalError, KernelError, OperatorError
from appliance.panel import flow_views
from appliance.panel.views import plan, show

log = structlog.get_logger()

#: Seconds that calls under way are given when the daemon stops.
GRACE = 1
#: Rows that are encoded before others get their turn.
PORTION = 500

Endpoint = Callable[[Request], Awaitable[Any]]


def _error(error: EdgewayError) -> dict[str, Any]:
    findings = [asdict(finding) for finding in error.findings] if isinstance(error, OperatorError) else []
    kernel = {}
    if isinstance(error, KernelError):
        kernel = {"subsystem": error.subsystem, "what": error.what, "errno": error.errno}
    kind, told = type(error).__name__, {"error": str(error), "who": error.who, "retry": error.retry}
    return {"kind": kind, **told, "findings": findings, **kernel}


def _failed(error: EdgewayError) -> JSONResponse:
    return JSONResponse(_error(error), status_code=422 if isinstance(error, OperatorError) else 503)


async def _encoded(value: Any) -> bytes:
    """Encode an answer; a long list by portions, because the encoder lets nobody else run."""
    if not isinstance(value, list):
        return json.dumps(value).encode()
    parts = []
    for start in range(0, len(value), PORTION):
        parts.append(json.dumps(value[start : start + PORTION])[1:-1])
        await asyncio.sleep(0)
    return f"[{', '.join(parts)}]".encode()


def _json(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Answer with what the endpoint returns, or with the error it raises."""

    async def answer(request: Request) -> Response:
        try:
            return Response(await _encoded(await endpoint(request)), media_type="application/json")
        except EdgewayError as error:
            return _failed(error)
        except Exception as error:
            log.exception("request-failed", path=request.url.path)
            return _failed(InternalError(f"{error!r}; see the daemon's log"))

    return answer


async def _no_such(request: Request, _: Exception) -> JSONResponse:
    """Answer what is routed nowhere."""
    hint = "GET /show/NAME, POST /plan, /reload, /rollback, /drain, /flow or /trace"
    return _failed(OperatorError.of(f"there is no {request.method} {request.url.path}", hint))


async def _body(request: Request, *keys: str) -> dict[str, str]:
    """Return the texts of a request's body; `keys` must be there."""
    try:
        body = await request.json()
    except ValueError as error:
        raise OperatorError.of(f"the body is not JSON: {error}", "give an object of texts") from error
    if not isinstance(body, dict) or not all(isinstance(value, str) for value in body.values()):
        raise OperatorError.of("the body is no object of texts", f"give {', '.join(keys)}")
    if missing := [key for key in keys if key not in body]:
        raise OperatorError.of(f"the body lacks {', '.join(missing)}", f"give {', '.join(keys)}")
    return body


def _outcome(daemon: Daemon, outcome: Outcome) -> dict[str, Any]:
    pending = [{"object": describe(f.fact), "error": str(f.error)} for f in outcome.pending]
    return {"changed": outcome.changed, "pending": pending, "engines": dict(daemon.engine_details())}


def application(daemon: Daemon) -> Starlette:
    """Make the application around a daemon."""

    async def shown(request: Request) -> Any:
        return await show(daemon, request.path_params["name"], dict(request.query_params))

    async def planned(request: Request) -> Any:
        body = await _body(request, "text", "file")
        if (node := body.get("node", daemon.node)) != daemon.node:
            raise OperatorError.of(f"the daemon here runs node {daemon.node}, not {node}", f"use --node {daemon.node}")
        return await plan(daemon, await asyncio.to_thread(parse_for, daemon.node, body["text"], body["file"]))

    async def reload(request: Request) -> Any:
        body = await _body(request, "text", "file")
        return _outcome(daemon, await daemon.load(body["text"], body["file"]))

    async def rollback(_: Request) -> Any:
        return _outcome(daemon, await daemon.rollback())

    async def drained(request: Request) -> Any:
        body = await _body(request, "order")
        if body["order"] not in {"drain", "undo"}:
            raise OperatorError.of(f"no order {body['order']!r}", "one of drain, undo")
        return _outcome(daemon, await daemon.drain(ordered=body["order"] == "drain"))

    async def ordered(request: Request) -> Any:
        return await flow_views.order(daemon, await _body(request, "vpc", "action"))

    async def traced(request: Request) -> Any:
        return await flow_views.trace(daemon, await _body(request, "vpc", "flow"))

    routes = [
        Route("/show/{name}", _json(shown)),
        Route("/plan", _json(planned), methods=["POST"]),
        Route("/reload", _json(reload), methods=["POST"]),
        Route("/rollback", _json(rollback), methods=["POST"]),
        Route("/drain", _json(drained), methods=["POST"]),
        Route("/flow", _json(ordered), methods=["POST"]),
        Route("/trace", _json(traced), methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_such})


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the daemon has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _listen(path: Path) -> socket.socket:
    """Bind the socket; nobody can connect before it has its mode, because nothing listens yet."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    return listener


async def serve(daemon: Daemon, path: Path) -> None:
    """Serve until cancelled."""
    with _listen(path) as listener:
        config = uvicorn.Config(
            application(daemon),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GRACE,
        )
        server = _Server(config)
        try:
            await server.serve(sockets=[listener])
        finally:
            if server.started:
                await server.shutdown(sockets=[listener])
