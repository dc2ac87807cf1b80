"""Logging: one named event per thing that happened; JSON unless a terminal reads it."""

from __future__ import annotations

import os
import sys

import structlog


def configure() -> None:
    """Set structlog up; EDGEWAY_LOG=json|console overrides what the output is."""
    chosen = os.environ.get("EDGEWAY_LOG") or ("console" if sys.stderr.isatty() else "json")
    renderer = structlog.dev.ConsoleRenderer() if chosen == "console" else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
