"""Which weights a training returns, and what is measured of them.

The super-network returns its last weights. A child returns those of the epoch that was best on held-out
samples, and is then tested once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.config.tree import Config
from pipeline.data import RunData
from pipeline.evaluate import evaluate_on, evaluate_with_operations
from snn.data.sample_set import SampleSet
from snn.energy import Energy, energy_of
from snn.fitness import Evaluation, TimeCourse
from snn.model.network import SpikingNetwork
from snn.model.time_course import measure_time_course
from snn.model.work import measure_work
from snn.search_space import Architecture
from snn.training.statistics import debias_statistics


@dataclass(frozen=True)
class Outcome:
    """The weights of a finished training.

    Attributes:
        weights: State dict.
        epoch: Epoch the weights are from.
        test: Evaluation on the test set, with synops and macs; None for the super-network.
        time_course: Accuracy and spikes over time on the held-out samples; None for the super-network.
        energy: Of an inference, on the held-out samples; None for the super-network.
    """

    weights: dict[str, Tensor]
    epoch: int
    test: Evaluation | None = None
    time_course: TimeCourse | None = None
    energy: Energy | None = None


class OutcomeOf(Protocol):
    """Follows a training from epoch to epoch."""

    num_held_out: int

    def after_epoch(self, network: SpikingNetwork, epoch: int) -> dict[str, float]:
        """What is measured after an epoch, as fields of EpochRecord."""

    def finish(self, network: SpikingNetwork, epoch: int) -> Outcome:
        """The outcome, after the last epoch."""

    def state(self) -> Any:
        """State for a checkpoint."""

    def restore(self, state: Any) -> None:
        """Goes back to a state."""


class LastEpoch:
    """Of the super-network: its weights after the last epoch; nothing is measured on D_val.

    Its stored statistics are averages of what each block saw, without their initial values.

    Args:
        data: Samples of the run.
    """

    def __init__(self, data: RunData) -> None:
        self.num_held_out = len(data.val())

    def after_epoch(self, network: SpikingNetwork, epoch: int) -> dict[str, float]:
        return {}

    def finish(self, network: SpikingNetwork, epoch: int) -> Outcome:
        weights = _on_cpu(_copied(network))
        debias_statistics(weights)
        return Outcome(weights, epoch)

    def state(self) -> Any:
        return None

    def restore(self, state: Any) -> None:
        pass


class BestHeldOutEpoch:
    """Of a child: its weights after the epoch of highest held-out accuracy; of equal ones the first.

    Args:
        config: Settings of evaluation and retraining.
        data: Samples of the run.
        architecture: The child's blocks.
        device: Where its network is.
    """

    def __init__(
        self, config: Config, data: RunData, architecture: Architecture, device: torch.device
    ) -> None:
        self.config = config
        self.data = data
        self.architecture = architecture
        self.device = device
        self.held_out = data.retrain_val()
        self.num_held_out = len(self.held_out)
        self._best: tuple[float, int, dict[str, Tensor]] | None = None

    def after_epoch(self, network: SpikingNetwork, epoch: int) -> dict[str, float]:
        settings = self.config.retrain
        if epoch % settings.eval_every and epoch != settings.epochs:
            return {}
        val = self._evaluate(network, self.held_out)
        measured = {"val_accuracy": val.accuracy, "val_spikes": val.spikes}
        if settings.paper_protocol:
            test = self._evaluate(network, self.data.test_set())
            measured |= {"test_accuracy": test.accuracy, "test_spikes": test.spikes}
        if self._best is None or val.accuracy > self._best[0]:
            self._best = (val.accuracy, epoch, _copied(network))
        return measured

    def finish(self, network: SpikingNetwork, epoch: int) -> Outcome:
        assert self._best is not None, "the last epoch is always measured"
        _, best_epoch, weights = self._best
        network.load_state_dict(weights)
        test = evaluate_with_operations(
            network, self.architecture, self.data.test_set(), self.config, self.device
        )
        batches = partial(self.held_out.batches, self.config.search.batch_size, self.device)
        course = measure_time_course(network, self.architecture, batches())
        work = measure_work(network, self.architecture, (inputs for inputs, _ in batches()))
        return Outcome(_on_cpu(weights), best_epoch, test, course, energy_of(work))

    def state(self) -> Any:
        return self._best

    def restore(self, state: Any) -> None:
        self._best = (state[0], state[1], state[2]) if state else None

    def _evaluate(self, network: SpikingNetwork, samples: SampleSet) -> Evaluation:
        return evaluate_on(network, self.architecture, samples, self.config)


def _copied(network: SpikingNetwork) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _on_cpu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu().contiguous() for name, value in weights.items()}
