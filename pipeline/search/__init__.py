"""Stage 2: the search as a Tune run on warm trial actors that share the weights."""
