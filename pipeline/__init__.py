"""The experiment: settings, stages, run folders, and the work on Ray. Nothing below `snn/` knows of these."""
