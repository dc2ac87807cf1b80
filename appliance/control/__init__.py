"""Compile the intent, reconcile the machine with it, supervise the child daemons."""
