"""Seeds for tests: the files of a volume by name, and what is judged of them."""

from __future__ import annotations

from appliance.box.seed import Seed, judge
from appliance.model.errors import Finding, OperatorError

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl someone@somewhere"
HASH = "$6$abcdefgh$K4v3HcZ8yAmpRfxML6S46NCcqy9r4"
META = "instance-id: i-1\nlocal-hostname: h1\n"


def files(user: str = "", network: str | None = None, meta: str = META, **more: str) -> dict[str, bytes]:
    """Return a volume; `user` is user-data without its first line."""
    made = {"meta-data": meta, "user-data": f"#cloud-config\n{user}", **more}
    if network is not None:
        made["network-config"] = network
    return {name: text.encode() for name, text in made.items()}


def seed(user: str = "", network: str | None = None, meta: str = META, **more: str) -> Seed:
    """Judge a volume that is right."""
    return judge(files(user, network, meta, **more).get)


def errors(user: str = "", network: str | None = None, meta: str = META, **more: str) -> list[Finding]:
    """Return the errors of a volume that is wrong."""
    try:
        judge(files(user, network, meta, **more).get)
    except OperatorError as error:
        return [finding for finding in error.findings if finding.severity == "error"]
    raise AssertionError("nothing was found wrong")


def said(findings: list[Finding] | tuple[Finding, ...]) -> dict[str, str]:
    """Return the messages of findings by path."""
    return {finding.path: finding.message for finding in findings}
