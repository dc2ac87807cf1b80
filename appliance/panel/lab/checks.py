"""checks.yaml beside a topology: what must be true of the lab once it has converged. Reads it; tries nothing.

Called by `appliance.panel.lab.observe`. A check is made from a node, and is one of these::

    ping: ADDRESS             an echo comes back              no-ping: ADDRESS         none does
    tcp: ADDRESS:PORT         a connection is made            no-tcp: ADDRESS:PORT     none is
    run: COMMAND              it succeeds in the node; with `says` its output must match, with `says-not` it must not
    session: NEIGHBOUR        all sessions of the node's daemon with that peer, session or address are established
    route: PREFIX             the daemon has a path that it accepts        no-route: PREFIX    it has none
    refused: PREFIX           somebody announces it and every path of it is refused; `because: REASON` says why
    routes: N                 the daemon has made at least N routes
"""

from __future__ import annotations

import re
import shlex
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from appliance.model.errors import OperatorError
from appliance.model.load import read
from appliance.model.text import parse_yaml

#: What a TCP connection goes to; it becomes part of a shell's command, so nothing else may stand in it.
_ENDPOINT: Final = re.compile(r"\[?[0-9A-Za-z.:-]+\]?:[0-9]{1,5}")
FORMS: Final = (
    "ping", "no-ping", "tcp", "no-tcp", "run", "session", "route", "no-route", "refused", "routes",
)  # fmt: skip
_ONE: Final = f"give one of {', '.join(FORMS)}"


class Check(BaseModel):
    """One check, see the module."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=lambda name: name.rstrip("_").replace("_", "-")
    )

    what: str
    from_: str
    ping: str | None = None
    no_ping: str | None = None
    tcp: str | None = None
    no_tcp: str | None = None
    run: str | None = None
    says: str | None = None
    says_not: str | None = None
    session: str | None = None
    route: str | None = None
    no_route: str | None = None
    refused: str | None = None
    because: str | None = None
    routes: int | None = Field(None, ge=1)

    @field_validator("tcp", "no_tcp")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        if value is not None and _ENDPOINT.fullmatch(value) is None:
            raise ValueError("give it as ADDRESS:PORT")
        return value

    @field_validator("route", "no_route", "refused")
    @classmethod
    def _prefix(cls, value: str | None) -> str | None:
        return None if value is None else str(ip_network(value))

    @field_validator("says", "says_not")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"this is no regular expression: {error}") from error
        return value

    @field_validator("run")
    @classmethod
    def _words(cls, value: str | None) -> str | None:
        if value is not None and not shlex.split(value):
            raise ValueError("the command is empty")
        return value

    @model_validator(mode="after")
    def _one(self) -> Check:
        if sum(value is not None for value in self._given().values()) != 1:
            raise ValueError(_ONE)
        if self.run is None and (self.says is not None or self.says_not is not None):
            raise ValueError("`says` and `says-not` go with `run`")
        if self.refused is None and self.because is not None:
            raise ValueError("`because` goes with `refused`")
        return self

    def _given(self) -> dict[str, Any]:
        return {form: getattr(self, form.replace("-", "_")) for form in FORMS}

    @property
    def form(self) -> str:
        """Say which of the forms it is."""
        return next(form for form, value in self._given().items() if value is not None)

    @property
    def how(self) -> str:
        """Say in words what is tried."""
        if self.routes is not None:
            return f"{self.from_}: at least {self.routes} routes"
        value = str(self._given()[self.form])
        words = {
            "tcp": "connect to",
            "no-tcp": "no connection to",
            "run": "",
            "no-ping": "no ping",
            "no-route": "no route",
        }
        said = f"{self.from_}: {words.get(self.form, self.form)} {value}".replace("  ", " ")
        more = {"says": self.says, "says not": self.says_not, "because": self.because}
        return said + "".join(f", {word} {text}" for word, text in more.items() if text is not None)

    def command(self) -> list[str]:
        """Return the command that is run in the node; a check of a daemon has none."""
        if address := self.ping or self.no_ping:
            return ["ping", "-n", "-c", "1", "-W", "2", address]
        if endpoint := self.tcp or self.no_tcp:
            host, _, port = endpoint.rpartition(":")
            return ["timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{host.strip('[]')}/{port}"]
        return shlex.split(self.run or "")

    def holds(self, status: int, output: str) -> bool:
        """Judge what the command did."""
        if self.no_ping or self.no_tcp:
            return status != 0
        if self.says is not None and re.search(self.says, output, re.MULTILINE) is None:
            return False
        return status == 0 and (self.says_not is None or re.search(self.says_not, output, re.MULTILINE) is None)


def checks_of(path: Path) -> tuple[Check, ...]:
    """Read checks.yaml beside a topology; none when there is no such file; OperatorError has every finding."""
    file = path.parent / "checks.yaml"
    if not file.exists():
        return ()
    document = parse_yaml(read(file), str(file))
    data = {} if document.data is None else document.data
    if not isinstance(data, dict) or set(data) - {"checks"}:
        raise OperatorError((document.finding((), "must hold `checks` and nothing else"),))
    rows = data.get("checks") or []
    if not isinstance(rows, list):
        raise OperatorError((document.finding(("checks",), "must be a list"),))
    checks, findings = [], []
    for index, row in enumerate(rows):
        try:
            checks.append(Check.model_validate(row))
        except ValidationError as error:
            findings += [
                document.finding(("checks", index, *item["loc"]), item["msg"].removeprefix("Value error, "), _ONE)
                for item in error.errors(include_url=False)
            ]
    if findings:
        raise OperatorError(tuple(dict.fromkeys(findings)))
    return tuple(checks)
