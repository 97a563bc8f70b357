"""The settings of a run: one tree, checked when it is made, and the named configs."""

from pipeline.config.named import CONFIGS, named_config
from pipeline.config.tree import Config, config_from_json

__all__ = ["CONFIGS", "Config", "config_from_json", "named_config"]
