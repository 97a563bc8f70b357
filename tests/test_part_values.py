"""Values of parts are a mapping like any other, in less memory."""

from __future__ import annotations

import pickle
import tracemalloc

import pytest

from snn.fitness import Evaluation
from snn.json_values import from_json, to_json
from snn.part_values import PartValues

VALUES = {f"layer{i}": 0.1 * i for i in range(12)}


def test_equals_the_mapping_that_it_was_made_of() -> None:
    values = PartValues(VALUES)
    assert values == VALUES and values == VALUES and values != VALUES | {"layer3": 0.0}
    assert list(values.items()) == list(VALUES.items())
    assert pickle.loads(pickle.dumps(values)) == values
    assert "head" not in values and values.get("head") is None
    with pytest.raises(KeyError, match="head"):
        values["head"]


def test_evaluation_survives_json_and_pickle() -> None:
    evaluation = Evaluation(0.5, 100.0, 0.1, 10, spikes_per_layer=VALUES)
    assert from_json(to_json(evaluation), Evaluation) == evaluation
    assert pickle.loads(pickle.dumps(evaluation)) == evaluation


def test_takes_less_than_half_the_memory() -> None:
    def memory_of(make: type) -> int:
        tracemalloc.start()
        kept = [make({name: value + i for name, value in VALUES.items()}) for i in range(1000)]
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(kept) == 1000
        return used

    assert memory_of(PartValues) < memory_of(dict) / 2
