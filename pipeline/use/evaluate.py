"""The command that scores one architecture with the weights of a run's super-network."""

from __future__ import annotations

import torch

from pipeline.config.tree import Config
from pipeline.console import say
from pipeline.data import load_data
from pipeline.evaluate import evaluate_with_operations
from pipeline.formats import percent
from pipeline.networks import load_supernet
from pipeline.storage.run_folder import RunFolder
from snn.energy import operations_joules


def evaluate(run: RunFolder, config: Config, text: str) -> None:
    """Scores one architecture with the super-network's weights on D_val and prints the results.

    Raises:
        ValueError: The text is not an architecture of this backbone, or the weights are damaged.
        FileNotFoundError: The run has no super-network yet.
    """
    architecture = config.network.parse_architecture(text)
    config.network.search_space().index(architecture)  # raises unless the super-network has its blocks
    if not config.search.needs_supernet:
        raise ValueError(
            f"Run '{run}' has no super-network to evaluate with, as its search.scoring is "
            f"'{config.search.scoring}'; its table holds what was measured."
        )
    supernet = run.read_supernet()
    data = load_data(config)
    network = load_supernet(run, config.network, data)
    result = evaluate_with_operations(network, architecture, data.search_val(), config, torch.device("cpu"))
    fitness = config.search.fitness(result, config.search.reference(supernet.spikes_reference))
    synops, macs = result.synops or 0.0, result.macs or 0.0
    say(f"architecture  {architecture}")
    say(
        f"accuracy      {percent(result.accuracy)} of {result.num_samples:,} D_val samples, inherited weights"
    )
    say(f"spikes        {result.spikes:,.0f} per sample, firing rate {result.firing_rate:.4f}")
    say(f"fitness       {fitness:.4f} (spike_exponent {config.search.spike_exponent})")
    say(f"operations    {synops:,.0f} SynOps, {macs:,.0f} MACs per sample")
    say(f"energy        {1e6 * operations_joules(synops=synops, macs=macs):.2f} uJ per sample (estimated)")
    for part, spikes in result.spikes_per_layer.items():
        say(f"  {part:<14} {spikes:>10,.0f} spikes  rate {result.firing_rate_per_layer[part]:.4f}")
