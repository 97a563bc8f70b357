"""The compiled kernels of event-driven evaluation, the memory they work on, their compilation."""
