"""Search algorithms as ask/tell objects, one a file; they know neither Ray nor torch."""
