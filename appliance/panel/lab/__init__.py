"""The lab runner: brings a containerlab topology file up with Linux namespaces alone."""
