"""Shared evaluation gives exactly the results of separate evaluation."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import make_network

from snn.data.sample_set import SampleSet
from snn.engines.engine import make_inference
from snn.engines.trie import evaluate_architectures, score_samples
from snn.fitness import Evaluation, joined
from snn.model.network import predictions
from snn.model.spikes import record_spikes
from snn.options import EngineName
from snn.search_space import AUTOSNN_BLOCKS, Architecture, SearchSpace, count_block_runs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (23, 3, 16, 16), dtype=np.uint8)
    return SampleSet(
        images, rng.integers(0, 3, 23), np.arange(23), lambda x, _generator: x.float() / 255 - 0.5
    )


@pytest.mark.parametrize("engine", ["event_driven", "dense"])
def test_shared_prefixes_give_identical_results(samples: SampleSet, engine: EngineName) -> None:
    network = make_inference(make_network(), engine)
    rng = random.Random(0)
    architectures = [SearchSpace(5).sample(rng) for _ in range(30)]
    together = evaluate_architectures(network, architectures, samples.batches(8, CPU))
    alone = [evaluate_architectures(network, [a], samples.batches(8, CPU))[0] for a in architectures]
    assert together == alone
    assert len({result.spikes for result in together}) > 20


@pytest.mark.parametrize("batch_size", [1, 7, 23])
def test_results_do_not_depend_on_the_batch_size(samples: SampleSet, batch_size: int) -> None:
    architectures = [Architecture((block,) * 5) for block in AUTOSNN_BLOCKS]
    expected = evaluate_architectures(make_network(), architectures, samples.batches(10, CPU))
    assert evaluate_architectures(make_network(), architectures, samples.batches(batch_size, CPU)) == expected


def test_evaluation_agrees_with_forward_and_the_spike_record(samples: SampleSet) -> None:
    network, architecture = (
        make_network(),
        Architecture(("SRB_k3", "SCB_k5", "skip_connect", "SRB_k5", "SCB_k3")),
    )
    (images, labels), *_ = samples.batches(23, CPU)
    with torch.inference_mode(), record_spikes(network) as record:
        predicted = predictions(network(images, architecture))
    result = evaluate_architectures(network, [architecture], samples.batches(23, CPU))[0]
    assert result.accuracy == (predicted == labels).sum().item() / 23
    assert result.spikes == pytest.approx(record.per_sample().mean().item())
    assert result.spikes == pytest.approx(sum(result.spikes_per_layer.values()))
    assert list(result.spikes_per_layer) == [
        "stem", "layer0", "pool0", "layer1", "pool1", "layer3", "layer4", "pool2", "head",
    ]  # fmt: skip
    outputs = sum(record.neurons.values())
    assert result.firing_rate == pytest.approx(result.spikes / (3 * outputs))


@pytest.mark.parametrize("engine", ["event_driven", "dense"])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_sums_over_samples_are_the_evaluation(
    samples: SampleSet, engine: EngineName, num_threads: int
) -> None:
    network, rng = make_inference(make_network(), engine), random.Random(0)
    architectures = [SearchSpace(5).sample(rng) for _ in range(8)]
    whole = evaluate_architectures(network, architectures, samples.batches(8, CPU))
    together = score_samples(network, architectures, samples.batches(8, CPU), num_threads=num_threads)
    for expected, (evaluation, scores) in zip(whole, together, strict=True):
        assert evaluation == expected
        assert scores.correct.mean() == expected.accuracy
        assert scores.spikes.mean() == pytest.approx(expected.spikes, rel=1e-12)
        assert (scores.synops is None) == (expected.synops is None) == (engine == "dense")
        if scores.synops is not None:
            assert scores.synops.mean() == pytest.approx(expected.synops, rel=1e-12)
            assert scores.energy.mean() * 1e-15 == pytest.approx(expected.energy, rel=1e-12)


@pytest.mark.parametrize("engine", ["event_driven", "dense"])
def test_samples_have_their_own_scores_in_order(samples: SampleSet, engine: EngineName) -> None:
    network, architecture = make_inference(make_network(), engine), SearchSpace(5).at(3000)
    [(_, scores)] = score_samples(network, [architecture], samples.batches(10, CPU), num_threads=2)
    for i in range(len(samples)):
        one = replace(samples, indices=samples.indices[i : i + 1])
        [alone] = evaluate_architectures(network, [architecture], one.batches(1, CPU))
        assert (scores.correct[i], scores.spikes[i]) == (alone.accuracy, alone.spikes)
        assert scores.synops is None or scores.synops[i] == alone.synops


@pytest.mark.parametrize("sizes", [(23,), (1, 22), (7, 7, 9)])
def test_joined_parts_equal_the_whole_exactly(samples: SampleSet, sizes: tuple[int, ...]) -> None:
    network, rng = make_inference(make_network()), random.Random(1)
    architectures = [SearchSpace(5).sample(rng) for _ in range(20)]
    whole = evaluate_architectures(network, architectures, samples.batches(8, CPU))
    ends = np.cumsum(sizes)
    parts = [
        evaluate_architectures(
            network, architectures, replace(samples, indices=samples.indices[end - n : end]).batches(5, CPU)
        )
        for n, end in zip(sizes, ends, strict=True)
    ]
    assert [joined(of_one) for of_one in zip(*parts, strict=True)] == whole


def test_evaluation_leaves_weights_and_statistics_unchanged(samples: SampleSet) -> None:
    network = make_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluate_architectures(network, [Architecture(("SRB_k3",) * 5)], samples.batches(8, CPU))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_whole_space_needs_a_quarter_of_the_block_runs() -> None:
    assert count_block_runs(SearchSpace(5)) == (5 + 25 + 125 + 625 + 3125, 5 * 3125)


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        evaluate_architectures(make_network(), [Architecture(("SRB_k3",) * 5)], [])


@pytest.mark.parametrize("engine", ["event_driven", "dense"])
def test_stopped_architecture_keeps_its_partial_result_and_changes_no_other(
    samples: SampleSet, engine: EngineName
) -> None:
    network = make_inference(make_network(), engine)
    architectures = [SearchSpace(5).sample(random.Random(i)) for i in range(12)]
    whole = evaluate_architectures(network, architectures, samples.batches(8, CPU))
    middle = sorted(result.spikes for result in whole)[6]

    def stop(so_far: Evaluation) -> bool:
        return so_far.num_samples >= 8 and so_far.spikes > middle

    raced = evaluate_architectures(network, architectures, samples.batches(8, CPU), stop=stop)
    first = evaluate_architectures(network, architectures, [next(samples.batches(8, CPU))])
    assert {result.num_samples for result in raced} == {8, 23}
    for result, complete, start in zip(raced, whole, first, strict=True):
        assert result == (complete if result.num_samples == 23 else start)
