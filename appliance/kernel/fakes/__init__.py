"""In-memory twins of the kernel ports: same laws, same contract tests, no kernel. For tests and dry runs."""
