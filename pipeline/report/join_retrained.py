"""Joins what stage 3 left: each retrained network, and each architecture over its seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from statistics import mean

from pipeline.report.contents import Comparison, RetrainedNetwork, Spread
from pipeline.storage.names import metrics_of
from pipeline.storage.records import RetrainResult
from snn.energy import Energy


def join_retrained(results: Mapping[int, RetrainResult]) -> tuple[RetrainedNetwork, ...]:
    """The retrained networks by their number."""
    return tuple(_network(number, result) for number, result in results.items())


def compare_architectures(networks: Sequence[RetrainedNetwork]) -> tuple[Comparison, ...]:
    """Mean, minimum and maximum over the seeds of each label, in the order the labels appear."""
    keys = dict.fromkeys((network.label, network.architecture) for network in networks)
    return tuple(_comparison([n for n in networks if (n.label, n.architecture) == key]) for key in keys)


def _network(number: int, result: RetrainResult) -> RetrainedNetwork:
    return RetrainedNetwork(
        number=number,
        source=metrics_of(number),
        label=result.label,
        architecture=result.architecture,
        seed=result.seed,
        test_accuracy=result.test.accuracy,
        spikes=result.test.spikes,
        firing_rate=result.test.firing_rate,
        synops=result.test.synops,
        energy_joules=result.energy_joules,
        num_test=result.test.num_samples,
        num_train=result.num_train,
        num_val=result.num_val,
        num_parameters=result.num_parameters,
        chosen_epoch=result.chosen_epoch,
        val_accuracy=result.val_accuracy,
        paper_protocol=result.paper_protocol,
        cost=result.cost,
        history=result.history,
        time_course=result.time_course,
        energy=result.energy,
    )


def _comparison(networks: Sequence[RetrainedNetwork]) -> Comparison:
    """The networks of one label and architecture, one for each seed."""
    papers = [network.paper_protocol for network in networks if network.paper_protocol]
    return Comparison(
        label=networks[0].label,
        architecture=networks[0].architecture,
        numbers=tuple(network.number for network in networks),
        seeds=tuple(network.seed for network in networks),
        chosen_epochs=tuple(network.chosen_epoch for network in networks),
        num_parameters=networks[0].num_parameters,
        test_accuracy=_spread(network.test_accuracy for network in networks),
        spikes=_spread(network.spikes for network in networks),
        firing_rate=_spread(network.firing_rate for network in networks),
        synops=_spread(network.synops for network in networks),
        energy_joules=_spread(network.energy_joules for network in networks),
        val_accuracy=_spread(network.val_accuracy for network in networks),
        paper_accuracy=_spread(paper.accuracy for paper in papers),
        paper_spikes=_spread(paper.spikes for paper in papers),
        energy=_mean_energy([network.energy for network in networks if network.energy]),
    )


def _mean_energy(energies: Sequence[Energy]) -> Energy | None:
    if not energies:
        return None
    names = [field.name for field in fields(Energy)]
    return Energy(**{name: mean(getattr(energy, name) for energy in energies) for name in names})


def _spread(values: Iterable[float | None]) -> Spread | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return Spread(sum(finite) / len(finite), min(finite), max(finite)) if finite else None
