"""Values only: facts, intent, marks, errors."""
