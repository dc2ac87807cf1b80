"""The command line's side of the API: JSON over the daemon's Unix socket, errors as our own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from appliance.model.errors import EngineError, Finding, OperatorError

SOCKET = Path("/run/edgeway/api.sock")


class Client:
    """One daemon."""

    def __init__(self, path: Path = SOCKET, timeout: float = 120) -> None:
        """`timeout` in seconds for one call."""
        self._path = path
        transport = httpx.HTTPTransport(uds=str(path))
        self._http = httpx.Client(transport=transport, base_url="http://edgeway", timeout=timeout)

    @property
    def answers(self) -> bool:
        """Whether a daemon listens."""
        try:
            self._http.get("/show/nodes", timeout=2)
        except httpx.HTTPError:
            return False
        return True

    def show(self, name: str, **options: str) -> Any:
        """Return a view."""
        return self._call("GET", f"/show/{name}", params={key: value for key, value in options.items() if value})

    def post(self, what: str, body: dict[str, str] | None = None) -> Any:
        """Call plan, reload or rollback."""
        return self._call("POST", f"/{what}", json=body or {})

    def _call(self, method: str, url: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, url, **options)
        except httpx.HTTPError as error:
            hint = "start it with `edgeway run FILE --node NODE`, or run this where it runs (`edgeway lab exec`)"
            raise OperatorError.of(f"no daemon answers at {self._path}: {error}", hint) from error
        if answer.is_success:
            return answer.json()
        raise _raised(answer)


def _raised(answer: httpx.Response) -> Exception:
    try:
        body = answer.json()
    except ValueError:
        return EngineError(f"the daemon failed: {answer.status_code} {answer.text[:200]}")
    if body.get("findings"):
        return OperatorError(tuple(Finding(**finding) for finding in body["findings"]))
    return EngineError(str(body.get("error", answer.text)))
