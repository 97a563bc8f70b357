"""The experiment: stages, run folder, Ray. The only place that knows Ray, paths and stages."""
