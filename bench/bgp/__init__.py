"""Route servers side by side: what tells them the same, asks the same of them and measures them alike."""
