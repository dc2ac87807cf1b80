"""`python -m appliance` is the command `edgeway`."""

from __future__ import annotations

from appliance.panel.cli import main

if __name__ == "__main__":
    main()
