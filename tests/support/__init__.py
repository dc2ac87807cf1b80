"""What several kinds of tests share; nothing here is a test."""
