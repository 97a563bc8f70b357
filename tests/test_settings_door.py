"""Every setting's door: a wrong value is refused with the setting's name, whichever way it comes."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from toys import ask_all, make_search

from pipeline.algorithms.settings import AlgorithmName
from pipeline.config.named import CONFIGS
from pipeline.config.tree import Config, config_from_json
from snn.data.splits import balanced_subset, stratified_split

DEFAULTS = Config()
LONG = "x" * 100_000
WRONG: dict[Any, tuple[Any, ...]] = {
    int: (-1, 0, 2**31, 10**26),
    float: (math.nan, math.inf, -math.inf, 1e308, -1e308, 1e-50),
    str: ("", "unknown", LONG, "a\0b"),
    Path: (Path(), Path(LONG), Path("a\0b")),
    bool: (),
}

# Values of the table above that are right for some settings, and why.
OFF, NONE_OF_THEM = "0 switches it off", "none is a valid number"
BUDGETS = {
    1e308: "a budget that every network keeps",
    1e-50: "a budget that no network keeps: the one that exceeds it least is chosen",
}
ALLOWED: dict[str, dict[Any, str]] = {
    "name": {"unknown": "a config may be given another name"},
    "seed": {0: "the default", 2**31: "seeds have 63 bits"},
    "data.root": {
        Path(): "the working directory",
        Path(LONG): "the operating system says what is too long, with the path",
    },
    "data.crop_padding": {0: OFF},
    "data.cutout": {0: OFF},
    "data.event_drop": {1e-50: "drops next to nothing"},
    "data.window_ms": {},
    "data.crop": {0: OFF},
    "data.denoise_us": {0: OFF},
    "search.spike_exponent": {1e-50: "next to 0, which ignores spikes"},
    "budget.prices": {(): "the default"},
    "search.more_exponents": {(): "the default", (1e-50,): "next to 0, which ignores spikes"},
    "search.max_spikes": BUDGETS,
    "search.max_synops": BUDGETS,
    "search.max_energy": BUDGETS,
    "search.max_parameters": {2**31: "a budget that every network keeps"},
    "search.elimination_risk": {1e-50: "drops next to nothing"},
    "supernet.average": {1e-50: "averages next to nothing"},
    "supernet.spike_penalty": {1e-50: "penalises next to nothing"},
    "retrain.spike_penalty": {1e-50: "penalises next to nothing"},
    "search.num_mutants": {0: NONE_OF_THEM},
    "search.mutation_probability": {1e-50: "mutants are bred again and random ones replace them"},
    "retrain.seeds": {(0,): "the default", (2**31,): "seeds have 63 bits"},
    "ray.address": {"unknown": "may be a host; Ray says whether it answers"},
}


def fields_of(config: Config) -> dict[str, Any]:
    """`section.field` -> its type, of all settings."""
    kinds: dict[str, Any] = {}
    for name, kind in get_type_hints(type(config)).items():
        if dataclasses.is_dataclass(kind):
            kinds |= {f"{name}.{field}": of for field, of in get_type_hints(kind).items()}
        else:
            kinds[name] = kind
    return kinds


FIELDS = fields_of(DEFAULTS)


def wrong_values(kind: Any, default: Any) -> Iterator[Any]:
    """Values to feed a setting of this type; some may be right."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        for part in parts:
            yield from () if part is type(None) else wrong_values(part, default)
    elif origin is Literal:
        yield from WRONG[str]
    elif origin is tuple and parts[1:] == (...,):
        yield ()
        yield (*default, *default) or (0.5, 0.5)
        yield from ((value,) for value in wrong_values(parts[0], None))
    elif origin is tuple:
        yield from ((value, 1) for value in wrong_values(parts[0], None))
        yield from ((1, value) for value in wrong_values(parts[1], None))
    else:
        yield from WRONG[kind]


def with_value(name: str, value: Any) -> Config:
    section, _, field = name.rpartition(".")
    if not section:
        return dataclasses.replace(DEFAULTS, **{field: value})
    changed = dataclasses.replace(getattr(DEFAULTS, section), **{field: value})
    return dataclasses.replace(DEFAULTS, **{section: changed})


def value_of(config: Config, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


CASES = [
    (name, value) for name, kind in FIELDS.items() for value in wrong_values(kind, value_of(DEFAULTS, name))
]


@pytest.mark.filterwarnings("ignore:search:UserWarning")
@pytest.mark.parametrize(("name", "value"), CASES, ids=lambda part: repr(part)[:40])
def test_wrong_value_is_refused_and_named(name: str, value: Any) -> None:
    if value in ALLOWED.get(name, {}):
        config = with_value(name, value)
        assert config_from_json(json.loads(json.dumps(config.to_json()))) == config
        return
    with pytest.raises(ValueError) as refusal:
        with_value(name, value)
    message = str(refusal.value)
    assert name in message and len(message) < 1000


def test_allowed_values_are_all_tried() -> None:
    tried = {name: [value for named, value in CASES if named == name] for name in FIELDS}
    for name, values in ALLOWED.items():
        assert [value for value in values if value not in tried[name]] == []


NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 2, 0.5, 2**63, 10**26, 1e308])
WORDS = st.text(max_size=20) | st.sampled_from(
    ["auto", "5", "true", "null", "NaN", "dense", "SCB_k3", "best"]
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changed_settings(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """The JSON values of a config with one of them changed, and its name."""
    values = draw(st.sampled_from(list(CONFIGS.values()))).to_json()
    name = draw(
        st.sampled_from([*FIELDS, *(name for name, value in values.items() if isinstance(value, dict))])
    )
    section, _, field = name.rpartition(".")
    (values[section] if section else values)[field] = draw(JSON)
    return name, json.loads(json.dumps(values))


@settings(deadline=None, derandomize=True, max_examples=500)
@given(changed_settings())
@pytest.mark.filterwarnings("ignore:search:UserWarning")
def test_json_value_is_taken_as_it_is_or_refused_and_named(case: tuple[str, dict[str, Any]]) -> None:
    name, values = case
    try:
        config = config_from_json(values)
    except ValueError as error:
        assert name in str(error) and len(str(error)) < 5000
        return
    assert config_from_json(json.loads(json.dumps(config.to_json(), allow_nan=False))) == config
    assert config.identity() == config.identity()


@settings(deadline=None, derandomize=True, max_examples=200)
@given(JSON)
def test_settings_that_are_no_object_or_have_other_names_are_refused(values: Any) -> None:
    assume(not isinstance(values, dict) or values.keys() - DEFAULTS.to_json().keys())
    with pytest.raises(ValueError, match=r"must be an object|is unknown"):
        config_from_json(values)


@pytest.mark.parametrize("seed", [2**32, 2**63 - 1])
@pytest.mark.parametrize("algorithm", get_args(AlgorithmName))
def test_every_algorithm_takes_every_seed(algorithm: str, seed: int) -> None:
    if algorithm == "optuna":
        pytest.importorskip("optuna")
    first, second = (make_search(algorithm=algorithm, seed=seed) for _ in range(2))
    assert len(asked := ask_all(first)) >= 10
    assert ask_all(second) == asked


def test_largest_seed_is_taken_by_every_generator() -> None:
    largest = 2**63 - 1
    torch.Generator().manual_seed(largest)
    labels = np.arange(20) % 2
    stratified_split(labels, fraction=0.5, seed=largest)
    balanced_subset(labels, size=4, seed=largest)
    assert Config(seed=largest).seed == largest
