"""The settings of a run: one tree, checked when it is made, and the named configs."""
