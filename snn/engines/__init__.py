"""Evaluation: the ways to run a network without training it, and the walk that shares prefixes."""
