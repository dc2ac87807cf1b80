"""The daemon's HTTP API over its Unix socket: show, plan, reload, rollback. Only root may connect (mode 0600).

GET /show/NAME?key=value is a view of `appliance.panel.views`. POST /plan and /reload take {"text": the intent, "file":
where it came from}; POST /rollback takes nothing.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from appliance.control.daemon import Daemon
from appliance.control.reconcile import Outcome
from appliance.model.describe import describe
from appliance.model.errors import EdgewayError, OperatorError
from appliance.model.load import parse
from appliance.panel.views import VIEWS, plan


def _error(error: EdgewayError) -> dict[str, Any]:
    findings = [asdict(finding) for finding in error.findings] if isinstance(error, OperatorError) else []
    return {"error": str(error), "who": error.who, "retry": error.retry, "findings": findings}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    pending = [{"object": describe(f.fact), "error": str(f.error)} for f in outcome.pending]
    return {"changed": outcome.changed, "pending": pending}


async def _failed(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, EdgewayError)  # noqa: S101 - registered for this class only
    return JSONResponse(_error(error), status_code=422 if isinstance(error, OperatorError) else 503)


def application(daemon: Daemon) -> Starlette:
    """Make the application around a daemon."""

    async def show(request: Request) -> JSONResponse:
        name = request.path_params["name"]
        if name not in VIEWS:
            raise OperatorError.of(f"there is nothing called {name} to show", "one of " + ", ".join(VIEWS))
        return JSONResponse(await VIEWS[name](daemon, **dict(request.query_params)))

    async def planned(request: Request) -> JSONResponse:
        body = await request.json()
        return JSONResponse(await plan(daemon, parse(body["text"], body["file"])))

    async def reload(request: Request) -> JSONResponse:
        body = await request.json()
        return JSONResponse(_outcome(await daemon.load(body["text"], body["file"])))

    async def rollback(_: Request) -> JSONResponse:
        return JSONResponse(_outcome(await daemon.rollback()))

    routes = [
        Route("/show/{name}", show),
        Route("/plan", planned, methods=["POST"]),
        Route("/reload", reload, methods=["POST"]),
        Route("/rollback", rollback, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={EdgewayError: _failed})


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the daemon has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    return listener


async def serve(daemon: Daemon, path: Path) -> None:
    """Serve until cancelled."""
    listener = _listen(path)
    config = uvicorn.Config(application(daemon), log_config=None, access_log=False, lifespan="off")
    await _Server(config).serve(sockets=[listener])
