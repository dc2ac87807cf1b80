"""Logging: one named event per thing that happened; JSON unless a terminal reads it. Called once, by the daemon's start."""

from __future__ import annotations

import os
import sys

import structlog
from structlog.typing import Processor


def configure() -> None:
    """Set structlog up to write to standard error; EDGEWAY_LOG=json|console overrides what the output is."""
    chosen = os.environ.get("EDGEWAY_LOG") or ("console" if sys.stderr.isatty() else "json")
    last: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    if chosen == "console":
        # Not the coloured traceback, which prints every variable of every frame.
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
