"""Inline edges: transparent wires between two rows of routers, judged by shared stateful engines (design 0006)."""
