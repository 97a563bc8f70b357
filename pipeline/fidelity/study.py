"""The study of a run: draws architectures, scores them, trains them from scratch and compares."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.analysis.rank_fidelity import MEASURES, choices, rank_agreements, tau_ceiling
from pipeline.config.tree import Config, list_differences
from pipeline.data import load_data
from pipeline.fidelity.scores import Supernet, fitness, score_architectures
from pipeline.node_check import check_nodes
from pipeline.ray.session import ray_session
from pipeline.storage.fidelity_records import Estimate, Fidelity, Score, StudiedArchitecture
from pipeline.storage.run_folder import RunFolder
from pipeline.training.pool import Pool
from snn.options import Range
from snn.search_space import Architecture


def study(
    run: RunFolder,
    config: Config,
    *,
    num_architectures: int,
    num_seeds: int,
    supernets: Sequence[RunFolder] = (),
) -> Fidelity:
    """Studies a run whose search is finished, and writes fidelity.json.

    An interrupted study resumes, and a larger one keeps what a smaller one trained.

    Args:
        run: Its folder.
        config: Its settings, for this machine.
        num_architectures: How many to train, the search's choice and the run's other named ones included.
        num_seeds: Trainings of each, with the seeds 0, 1, ...
        supernets: Further runs whose super-networks score the architectures too.

    Raises:
        FileNotFoundError: The run's search is not finished, or a further run has no super-network.
        ValueError: A number is out of range, or a further run is of another space or other data.
    """
    best = run.read_best().best.architecture
    drawn = draw(config, best, num_architectures)
    if expected := Range(1, 1000).expected(num_seeds):
        raise ValueError(f"--seeds must be {expected}, got {num_seeds}.")
    data, seeds = load_data(config), tuple(range(num_seeds))
    others = [_other_supernet(other, config) for other in supernets]
    if len({run.name, *(other.name for other in others)}) <= len(others):
        raise ValueError("--supernets: the folders, this run's included, must have different names.")
    pool = Pool(run, config, data)
    pool.take_over(run)
    reference = run.read_best().spikes_reference
    with ray_session(config) as resources:
        if config.ray.address is not None:
            check_nodes(config)
        scores = score_architectures(run, config, data, list(drawn), resources, reference, others)
        pool.train([(architecture, seed) for architecture in drawn for seed in seeds], resources)
    studied = tuple(
        _studied(config, label, architecture, scores.by_architecture[architecture], pool, seeds, reference)
        for architecture, label in drawn.items()
    )
    result = Fidelity(
        seeds=seeds,
        spike_exponent=config.search.spike_exponent,
        spikes_reference=reference,
        architectures=studied,
        agreements=rank_agreements(studied),
        ceilings={m: tau_ceiling(_by_seed(config, studied, m, reference)) for m in MEASURES},
        choices=choices(studied),
        training_samples=dict(scores.training_samples),
    )
    run.write_fidelity(result)
    return result


def _other_supernet(run: RunFolder, config: Config) -> Supernet:
    """The super-network of a further run, checked to be of the same space and data."""
    other = run.read_config().here(config.data.root)
    differences = list_differences(_samples_and_space(other), _samples_and_space(config))
    if differences:
        raise ValueError(f"--supernets: '{run}' is a run of other data or another space:\n{differences}")
    if not other.search.needs_supernet:
        raise ValueError(f"--supernets: '{run}' searched by short trainings; it has no super-network.")
    return Supernet(run, other, load_data(other))


def _samples_and_space(config: Config) -> dict[str, Any]:
    """The settings that the super-networks of one study share."""
    own = ("network.moments", "data.train_fraction")
    settings = config.identity().items()
    return {k: v for k, v in settings if k.startswith(("data.", "network.")) and k not in own}


def draw(config: Config, best: str, number: int) -> dict[Architecture, str]:
    """The architectures of a study with their labels: the named ones of the space, then random ones.

    A larger number only adds architectures.

    Args:
        config: Settings of the run; its seed draws.
        best: The search's choice.
        number: How many.

    Raises:
        ValueError: It is fewer than three, than the named ones, or more than the space has.
    """
    space, named = config.network.search_space(), dict[Architecture, str]()
    for label in ("best", *config.retrain.architectures):
        architecture = config.network.parse_architecture(best if label == "best" else label)
        if architecture in space:  # others have no score
            named.setdefault(architecture, label)
    least = max(3, len(named))
    if expected := Range(least, len(space)).expected(number):
        raise ValueError(
            f"--architectures must be {expected}, got {number}: the run names {len(named)}, and its space "
            f"has {len(space):,}."
        )
    rng = random.Random(config.seed)
    while len(named) < number:
        named.setdefault(space.sample(rng), "random")
    return named


def _studied(
    config: Config,
    label: str,
    architecture: Architecture,
    scores: Mapping[str, Score],
    pool: Pool,
    seeds: tuple[int, ...],
    reference: float,
) -> StudiedArchitecture:
    trained = [pool.read(architecture, seed) for seed in seeds]
    accuracies, spikes = tuple(t.test.accuracy for t in trained), tuple(t.test.spikes for t in trained)
    return StudiedArchitecture(
        label,
        str(architecture),
        accuracies,
        spikes,
        fitness(config, float(np.mean(accuracies)), float(np.mean(spikes)), reference),
        dict(scores),
    )


def _by_seed(
    config: Config, studied: tuple[StudiedArchitecture, ...], measure: str, reference: float
) -> np.ndarray:
    """[A, S]: a measure of every training."""
    if measure == "accuracy":
        return np.array([one.accuracies for one in studied])
    if measure == "spikes":
        return np.array([one.spikes for one in studied])
    pairs = (zip(one.accuracies, one.spikes, strict=True) for one in studied)
    return np.array([[fitness(config, a, n, reference) for a, n in one] for one in pairs])


def fidelity_table(result: Fidelity) -> str:
    """The study as text of at most 100 columns."""
    lines = [
        f"{len(result.architectures)} architectures, {len(result.seeds)} seeds each. Kendall's tau with "
        "training from scratch (90 % interval):",
        f"{'score':<16} {'trained on':>12} " + " ".join(f"{measure:>22}" for measure in MEASURES),
    ]
    taus = {(a.score, a.measure): a.tau for a in result.agreements}
    for score in dict.fromkeys(a.score for a in result.agreements):
        cells = [_estimate_text(taus.get((score, measure))) for measure in MEASURES]
        samples = result.training_samples.get(score)
        cost = "" if samples is None else f"{samples:,}"
        lines.append(f"{score:<16} {cost:>12} " + " ".join(f"{cell:>22}" for cell in cells))
    ceilings = [result.ceilings[measure] for measure in MEASURES]
    cells = ["unknown" if value is None else f"{value:.2f}" for value in ceilings]
    lines.append(f"{'at most':<16} {'':>12} " + " ".join(f"{cell:>22}" for cell in cells))
    lines.append("\nWhat the first choice of a score costs against the best of the study:")
    for choice in result.choices:
        name = choice.architecture or "any one, on average"
        cost = (
            f"{100 * choice.accuracy_regret:5.1f} points of accuracy, {choice.fitness_regret:.4f} of fitness"
        )
        lines.append(f"{choice.score:<16} {cost}  {name}")
    return "\n".join(lines)


def _estimate_text(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
