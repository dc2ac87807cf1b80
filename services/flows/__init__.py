"""What becomes of live flows when what was promised to them changes (design 0005): decided here, done by `control`."""
