"""The command line's side of the API: JSON over the daemon's Unix socket, errors as our own classes.

Standard library only: every `edgeway show` starts a Python, and an HTTP library would take longer than the answer.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from appliance.model.errors import (
    EdgewayError,
    EngineError,
    Finding,
    InternalError,
    KernelError,
    OperatorError,
    PeerError,
)

SOCKET = Path("/run/edgeway/api.sock")

_HINT = "start it with `edgeway run FILE --node NODE`, or run this where it runs (`edgeway lab exec`)"


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        """Connect when the first request is made."""
        super().__init__("edgeway", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """One daemon; each call is a connection of its own."""

    def __init__(self, path: Path = SOCKET, timeout: float = 120) -> None:
        """`timeout` in seconds for one call."""
        self._path, self._timeout = path, timeout

    @property
    def answers(self) -> bool:
        """Whether a daemon listens."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
                channel.connect(str(self._path))
        except OSError:
            return False
        return True

    def show(self, name: str, **options: str) -> Any:
        """Return a view."""
        given = urlencode({key: value for key, value in options.items() if value})
        return self._call("GET", f"/show/{quote(name, safe='')}" + (f"?{given}" if given else ""))

    def post(self, what: str, body: Mapping[str, str] | None = None) -> Any:
        """Call plan, reload or rollback."""
        return self._call("POST", f"/{what}", json.dumps(dict(body or {})))

    def _call(self, method: str, url: str, body: str | None = None) -> Any:
        connection = _Connection(self._path, self._timeout)
        try:
            connection.request(method, url, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            text = answer.read()
        except TimeoutError as error:
            raise EngineError(f"the daemon at {self._path} has not answered within {self._timeout:g} s") from error
        except (http.client.HTTPException, ConnectionResetError, BrokenPipeError) as error:
            raise EngineError(f"the daemon at {self._path} went away during the call: {error!r}") from error
        except OSError as error:
            raise OperatorError.of(f"no daemon answers at {self._path}: {error.strerror or error}", _HINT) from error
        finally:
            connection.close()
        return _value(answer.status, text)


def _value(status: int, text: bytes) -> Any:
    """Return what an answer holds, or raise what it tells."""
    try:
        value = json.loads(text)
    except ValueError as error:
        shown = text[:200].decode(errors="replace")
        raise InternalError(f"the daemon's answer is not JSON: {status} {shown}") from error
    if status == http.HTTPStatus.OK:
        return value
    raise _raised(value)


def _raised(body: dict[str, Any]) -> EdgewayError:
    """Make the error again that the daemon raised."""
    if body.get("findings"):
        return OperatorError(tuple(Finding(**finding) for finding in body["findings"]))
    message = str(body.get("error", body))
    match body.get("kind"):
        case "KernelError":
            return KernelError(body["subsystem"], body["what"], body["errno"])
        case "PeerError":
            return PeerError(message)
        case "EngineError":
            return EngineError(message)
        case _:
            return InternalError(message)
