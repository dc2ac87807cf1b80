"""Namespaces for tests of shells that open sockets in them, as contract tests have them."""

from __future__ import annotations

from tests.contract.conftest import world

__all__ = ["world"]
