"""Everything that can go wrong, and who must act.

The class of an error says whose turn it is; `retry` says whether doing the same again can help::

    EdgewayError
    ├── OperatorError   the intent or a command is wrong: holds every finding at once
    ├── PeerError       another BGP speaker broke the protocol or is away
    ├── KernelError     the kernel refused a change: names the subsystem, the object and the errno
    ├── EngineError     a child process of ours (a BGP engine) failed or does not answer
    └── InternalError   a bug: an invariant of ours does not hold

Called by every layer; nothing here imports anything of ours.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing found in an operator's file: where it is, what is wrong, what to do next.

    `line` and `column` count from 1; 0 means the file as a whole. `path` is the dotted path in the document.
    """

    line: int
    column: int
    path: str
    message: str
    hint: str = ""
    severity: Severity = "error"
    file: str = ""

    def __str__(self) -> str:
        """Render as compilers do, so that editors can jump there; what is about a command has no place."""
        tail = f" ({self.hint})" if self.hint else ""
        if not self.line:
            return f"{self.severity}: {self.message}{tail}"
        place = f"{self.file or '-'}:{self.line}:{self.column}"
        return f"{place}: {self.severity}: {self.path}: {self.message}{tail}"


class EdgewayError(Exception):
    """Root of the tree. `who` must act; `retry` says whether the same attempt can succeed later."""

    who: ClassVar[str] = "us"
    retry: bool = False


class OperatorError(EdgewayError):
    """The operator must change something; all findings are given at once."""

    who = "operator"

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        """Keep the findings sorted by place."""
        self.findings = tuple(sorted(findings))
        super().__init__("\n".join(str(finding) for finding in self.findings))

    @classmethod
    def of(cls, message: str, hint: str = "", path: str = "") -> OperatorError:
        """Make an error about a command rather than a place in a file."""
        return cls((Finding(0, 0, path, message, hint),))


class PeerError(EdgewayError):
    """A peer must act; sessions come back by themselves, so trying again helps."""

    who = "peer"
    retry = True


class KernelError(EdgewayError):
    """The kernel refused `what` in `subsystem`; `errno` as the kernel gave it."""

    who = "kernel"

    #: Answers that pass: busy, interrupted, out of buffers, changed meanwhile, device or way not there yet.
    PASSING: ClassVar[frozenset[int]] = frozenset({4, 11, 12, 16, 19, 85, 100, 101, 105, 113})

    def __init__(self, subsystem: str, what: str, errno: int) -> None:
        """`errno` is positive."""
        self.subsystem, self.what, self.errno = subsystem, what, errno
        self.retry = errno in self.PASSING
        super().__init__(f"{subsystem}: {what}: {os.strerror(errno)}")


class EngineError(EdgewayError):
    """A BGP engine or another child process failed; it is restarted, so trying again helps."""

    retry = True


class InternalError(EdgewayError):
    """An invariant of ours does not hold: a bug to report."""
