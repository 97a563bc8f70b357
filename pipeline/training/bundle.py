"""Describes a retrained network for those who use it outside its run: network.json and model card."""

from __future__ import annotations

import json
import math
from functools import cache

from jinja2 import Environment as Templates

from pipeline import formats
from pipeline.config.tree import Config
from pipeline.data import RunData, frame_settings, load_data
from pipeline.storage.records import Environment, RetrainResult
from snn.datasets import Dataset, EventDataset, look_up_dataset
from snn.description import FORMAT, Bundle, Description, EventInput, ImageInput, Origin, Structure
from snn.search_space import Architecture, stem_for_size
from snn.templates import text_templates


def make_bundle(config: Config, environment: Environment, result: RetrainResult) -> Bundle:
    """What a network's folder needs beside its weights.

    Args:
        config: Settings of the run; the data must exist here.
        environment: Where the run began.
        result: What was measured of the network.
    """
    description = _describe(config, load_data(config), environment, result)
    return Bundle(description, _card(config, description, result))


def _describe(config: Config, data: RunData, environment: Environment, result: RetrainResult) -> Description:
    network, (_, height, width) = config.network, data.input_shape
    test = result.test
    measured = {
        "accuracy": test.accuracy,
        "num_samples": test.num_samples,
        "spikes": test.spikes,
        "firing_rate": test.firing_rate,
        "synops": test.synops,
        "macs": test.macs,
        "energy_joules": result.energy_joules,
        "num_parameters": result.num_parameters,
    }
    return Description(
        format=FORMAT,
        name=f"{config.name}, {result.label}, seed {result.seed}",
        structure=Structure(
            backbone=network.backbone,
            architecture=Architecture.parse(result.architecture).blocks,
            channels=network.channels,
            stem=stem_for_size(height, width) if network.stem == "auto" else network.stem,
            input_shape=data.input_shape,
            time_steps=network.time_steps,
            neuron=network.neuron,
            v_threshold=network.v_threshold,
            init_tau=network.init_tau,
        ),
        class_names=data.train.class_names,
        images=None if config.data.is_events else ImageInput(*data.normalisation),
        events=_event_input(config, data) if config.data.is_events else None,
        weights_sha256="",
        metrics={name: value for name, value in measured.items() if value is not None},
        origin=Origin(
            dataset=config.data.dataset,
            train_fingerprint=data.train.fingerprint,
            test_fingerprint=data.test.fingerprint,
            seed=result.seed,
            settings={name: json.dumps(value) for name, value in config.identity().items()},
            versions={"python": environment.python, **environment.versions},
            created=environment.created,
            commit=environment.commit,
        ),
    )


def _event_input(config: Config, data: RunData) -> EventInput:
    entry = look_up_dataset(config.data.dataset, EventDataset)
    assert data.train.sensor_size is not None
    return EventInput(data.train.sensor_size, frame_settings(config), config.data.event_values, entry.form)


def _card(config: Config, description: Description, result: RetrainResult) -> str:
    test = result.test
    return (
        _templates()
        .get_template("card.md.j2")
        .render(
            it=description,
            result=result,
            entry=look_up_dataset(config.data.dataset, Dataset),
            epochs=config.retrain.epochs,
            margin=1.96 * math.sqrt(test.accuracy * (1 - test.accuracy) / test.num_samples),
            loading="recording.bin" if config.data.is_events else "picture.png",
        )
    )


@cache
def _templates() -> Templates:
    templates = text_templates("pipeline.training")
    templates.filters |= {name: getattr(formats, name) for name in ("count", "percent", "energy", "large")}
    return templates
