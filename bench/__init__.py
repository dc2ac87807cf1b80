"""Measurements of Edgeway beside what one would use instead: `python -m bench`."""
