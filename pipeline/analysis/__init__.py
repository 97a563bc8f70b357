"""Questions to a finished table of evaluations; nothing is evaluated."""
