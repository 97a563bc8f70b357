"""Event cameras: recordings, events as frames, data sets of recordings, a simulated sensor."""
