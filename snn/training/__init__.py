"""Training of a super-network or a child, one epoch at a time."""
