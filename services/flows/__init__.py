"""Live flows: what a packet would meet, what is asked about a flow, what becomes of it when promises change."""
