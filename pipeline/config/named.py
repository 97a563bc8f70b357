"""The named configs, from which `launch.py run NAME` starts."""

from __future__ import annotations

from dataclasses import replace

from pipeline.config.search import SearchConfig
from pipeline.config.training import RetrainConfig, SupernetConfig
from pipeline.config.tree import Config, DataConfig, NetworkConfig

_CIFAR10 = Config()
# After minutes a super-network ranks accuracies by chance; 4,000 images from scratch rank them (README).
_SHORT_TRAINING = SearchConfig(
    scoring="short_training",
    training_samples=4000,
    rungs=2,
    reduction_factor=4.0,
    statistics="recalibrated",
    population_size=16,
    num_parents=8,
    num_mutants=8,
    max_evaluations=48,
)

CONFIGS: dict[str, Config] = {
    "demo": Config(
        name="demo",
        data=DataConfig(dataset="digits", flip=False, crop_padding=2),
        network=NetworkConfig(channels=8, time_steps=2),
        supernet=SupernetConfig(epochs=15, batch_size=48, learning_rate=3e-3),
        search=SearchConfig(max_evaluations=60),
        retrain=RetrainConfig(
            epochs=10, batch_size=48, learning_rate=3e-3, learning_rate_schedule="cosine", eval_every=2
        ),
    ),
    "cifar10": _CIFAR10,
    "cifar10_small": replace(
        _CIFAR10,
        name="cifar10_small",
        data=DataConfig(max_train_samples=10_000, crop_padding=0),
        network=NetworkConfig(time_steps=2),
        supernet=SupernetConfig(epochs=12, batch_size=48, learning_rate=2e-3, checkpoint_every=1),
        search=_SHORT_TRAINING,
        retrain=RetrainConfig(
            architectures=("best", "autosnn", "all-SCB_k3"),
            seeds=(0, 1),
            epochs=4,
            batch_size=48,
            learning_rate=2e-3,
            learning_rate_schedule="cosine",
            eval_every=2,
            checkpoint_every=1,
        ),
    ),
    # What ranked best at the small scale, on all of CIFAR-10: short trainings on about 3 M images instead of
    # the 24 M of a super-network.
    "cifar10_best": replace(
        _CIFAR10,
        name="cifar10_best",
        search=SearchConfig(
            scoring="short_training", rungs=3, reduction_factor=4.0, statistics="recalibrated"
        ),
    ),
    "cifar100": replace(_CIFAR10, name="cifar100", data=DataConfig(dataset="cifar100")),
    "svhn": replace(_CIFAR10, name="svhn", data=DataConfig(dataset="svhn", flip=False)),
    "tiny_imagenet": replace(
        _CIFAR10, name="tiny_imagenet", data=DataConfig(dataset="tiny_imagenet", crop_padding=8)
    ),
    "demo_events": Config(
        name="demo_events",
        data=DataConfig(dataset="digits_events", flip=False, crop_padding=2, bin_by="time", max_count=4),
        network=NetworkConfig(channels=8, time_steps=4),
        supernet=SupernetConfig(epochs=10, batch_size=48, learning_rate=3e-3),
        search=SearchConfig(max_evaluations=60),
        retrain=RetrainConfig(
            epochs=6, batch_size=48, learning_rate=3e-3, learning_rate_schedule="cosine", eval_every=2
        ),
    ),
    "nmnist": replace(
        _CIFAR10,
        name="nmnist",
        data=DataConfig(dataset="nmnist", flip=False, crop_padding=2),
        supernet=SupernetConfig(epochs=100),
        retrain=RetrainConfig(epochs=100),
    ),
    "nmnist_small": replace(
        _CIFAR10,
        name="nmnist_small",
        data=DataConfig(dataset="nmnist", flip=False, crop_padding=2, bin_by="time", max_count=4),
        network=NetworkConfig(channels=8, time_steps=5),
        supernet=SupernetConfig(epochs=20, batch_size=32, learning_rate=3e-3),
        search=SearchConfig(max_evaluations=60),
        retrain=RetrainConfig(
            architectures=("best", "autosnn", "all-SRB_k5"),
            seeds=(0, 1),
            epochs=10,
            batch_size=32,
            learning_rate=3e-3,
            learning_rate_schedule="cosine",
            eval_every=2,
        ),
    ),
    "images": replace(
        _CIFAR10,
        name="images",
        data=DataConfig(dataset="images"),
        supernet=SupernetConfig(epochs=100),
        retrain=RetrainConfig(epochs=100),
    ),
    "recordings": replace(
        _CIFAR10,
        name="recordings",
        data=DataConfig(
            dataset="recordings",
            flip=False,
            crop_padding=2,
            bin_by="time",
            window_ms=200.0,
            downsample=4,
            max_count=15,
            event_values="normalised",
        ),
        supernet=SupernetConfig(epochs=100),
        retrain=RetrainConfig(epochs=100),
    ),
    "cifar10_dvs": replace(
        _CIFAR10,
        name="cifar10_dvs",
        data=DataConfig(dataset="cifar10_dvs", crop_padding=12),
        network=NetworkConfig(time_steps=20),
        search=SearchConfig(batch_size=16),
    ),
    "dvs128_gesture": replace(
        _CIFAR10,
        name="dvs128_gesture",
        data=DataConfig(dataset="dvs128_gesture", flip=False, crop_padding=12),
        network=NetworkConfig(time_steps=20),
        supernet=SupernetConfig(batch_size=16),
        search=SearchConfig(batch_size=16),
        retrain=RetrainConfig(batch_size=16),
    ),
    "ncaltech101": replace(
        _CIFAR10,
        name="ncaltech101",
        data=DataConfig(dataset="ncaltech101", crop_padding=12),
        network=NetworkConfig(time_steps=20),
        supernet=SupernetConfig(batch_size=16),
        search=SearchConfig(batch_size=16),
        retrain=RetrainConfig(batch_size=16),
    ),
}


def named_config(name: str) -> Config:
    """The named config `name`.

    Raises:
        ValueError: No config of that name.
    """
    if name not in CONFIGS:
        raise ValueError(f"Unknown config '{name}'; choose from: {', '.join(CONFIGS)}.")
    return CONFIGS[name]


def configs_table() -> str:
    """One line per named config: data set, backbone, time steps and the length of each stage."""
    numbers = f"{'T':>3} {'epochs':>7} {'evaluations':>12} {'retrain':>8}"
    lines = [f"{'name':<14} {'data':<14} {'backbone':<12} {numbers}"]
    for name, config in CONFIGS.items():
        backbone = f"{config.network.backbone}_{config.network.channels}"
        lines.append(
            f"{name:<14} {config.data.dataset:<14} {backbone:<12} {config.network.time_steps:>3} "
            f"{config.supernet.epochs:>7} {config.search.max_evaluations:>12} {config.retrain.epochs:>8}"
        )
    return "\n".join(lines)
