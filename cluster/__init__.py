"""Runs on clusters: files for the places that people have, and checks of such files."""
