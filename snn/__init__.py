"""Spiking neural networks and their search space. Knows torch; knows neither Ray nor runs."""
