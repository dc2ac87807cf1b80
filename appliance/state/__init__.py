"""Tables of facts with revisions, the difference between two of them as a plan, and the store port."""
