"""Our own route-server engine: its process, and its port in the daemon (design 0008)."""
