"""Evaluation of networks: the engines, and the traversal that shares prefixes between architectures."""
