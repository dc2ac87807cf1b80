"""Text -> verified intent, or every finding at once. The one way in for the command line and the daemon."""

from __future__ import annotations

from pathlib import Path

from appliance.model.errors import OperatorError
from appliance.model.intent import Intent, validate
from appliance.model.text import parse_yaml
from appliance.model.verify import verify


def parse(text: str, file: str = "") -> Intent:
    """Parse and verify an intent; raise OperatorError with all findings, each with line and column."""
    document = parse_yaml(text, file)
    intent = validate(document)
    findings = tuple(document.finding(problem.path, problem.message, problem.hint) for problem in verify(intent))
    if findings:
        raise OperatorError(findings)
    return intent


def load(path: Path) -> Intent:
    """Read and parse a file; an unreadable file is a finding too."""
    return parse(read(path), str(path))


def read(path: Path) -> str:
    """Return the text of a file; an unreadable one is the operator's."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: {error}"
        raise OperatorError.of(message, "give the path of a readable UTF-8 file") from error
