"""Evaluation of networks: the engines, and the traversal that shares prefixes between architectures."""

from snn.engines.engine import EngineSpec, choose_engine, load_engine, make_inference, pack_weights
from snn.engines.inference import InferenceNetwork
from snn.engines.trie import evaluate_architectures

__all__ = [
    "EngineSpec",
    "InferenceNetwork",
    "choose_engine",
    "evaluate_architectures",
    "load_engine",
    "make_inference",
    "pack_weights",
]
