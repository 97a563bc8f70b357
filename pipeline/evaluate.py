"""Evaluates one architecture in this process."""

from __future__ import annotations

import dataclasses

import torch

from pipeline.config.tree import Config
from snn.data.sample_set import SampleSet
from snn.engines.engine import make_inference
from snn.engines.trie import evaluate_architectures
from snn.fitness import Evaluation
from snn.model.network import SpikingNetwork, to_memory_format
from snn.model.spikes import record_operations
from snn.search_space import Architecture


def evaluate_on(
    network: SpikingNetwork,
    architecture: Architecture,
    samples: SampleSet,
    config: Config,
) -> Evaluation:
    """Accuracy and spikes of one architecture on a set of samples."""
    inference = make_inference(network, config.search.engine, precision=config.search.precision)
    batches = samples.batches(config.search.batch_size, inference.device)
    return evaluate_architectures(inference, [architecture], batches)[0]


def evaluate_with_operations(
    network: SpikingNetwork,
    architecture: Architecture,
    samples: SampleSet,
    config: Config,
    device: torch.device,
) -> Evaluation:
    """As `evaluate_on`, with synaptic operations and multiply-accumulates per sample whatever the engine."""
    result = evaluate_on(network, architecture, samples, config)
    if result.synops is not None:
        return result
    network.eval()
    synops = macs = 0.0
    with torch.inference_mode(), record_operations(network) as record:
        for inputs, _ in samples.batches(config.search.batch_size, device):
            network(to_memory_format(inputs), architecture)
            synops, macs = synops + record.synops.sum().item(), macs + record.macs.sum().item()
    return dataclasses.replace(result, synops=synops / result.num_samples, macs=macs / result.num_samples)
