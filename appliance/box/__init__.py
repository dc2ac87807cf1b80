"""What only a box has that is booted: its seed, its first boot, its slots, its console (design 0009)."""
