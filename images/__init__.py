"""Builds what people boot, name in a topology or install (design 0009). Not shipped: standard library and Debian's tools."""
