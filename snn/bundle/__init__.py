"""Trained networks that leave their run: one folder each, which can be loaded and used by itself."""
