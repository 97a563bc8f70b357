"""Trained networks in the forms that other tools read."""
