"""The compiled kernels of event-driven evaluation, their compilation and their data structures."""
