"""Foreign routers as neighbours of an engine under test."""
