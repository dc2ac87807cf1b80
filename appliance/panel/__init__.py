"""The front panel: command line, HTTP API, console, metrics."""
