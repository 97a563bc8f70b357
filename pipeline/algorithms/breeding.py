"""Steps that algorithms share: bred candidates, random ones, neighbours."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from pipeline.algorithms.history import History
from snn.search_space import Architecture, CategoricalSpace

Child = tuple[Architecture, tuple[int, ...]]
"""An architecture and the ids of its parents."""

# Attempts per candidate to breed one that was not seen before; random candidates replace those that fail.
_MAX_ATTEMPTS = 50


def add_bred(history: History, generation: int, number: int, breed: Callable[[], Child]) -> None:
    """Adds up to `number` children that were not seen before; `breed` is called for one at a time."""
    attempts = number * _MAX_ATTEMPTS
    while number > 0 and attempts > 0:
        attempts -= 1
        architecture, parents = breed()
        if history.id_of(architecture) is None:
            history.add(architecture, generation, parents)
            number -= 1


def fill_up(history: History, generation: int, end: int, rng: random.Random) -> None:
    """Adds random candidates until there are `end` in all."""
    while len(history.candidates) < end:
        history.add(random_unseen(history, rng), generation)


def random_unseen(history: History, rng: random.Random) -> Architecture:
    """Draws uniformly from the architectures that are no candidates."""
    assert history.num_unseen > 0, "the space is exhausted"
    if history.num_unseen < len(history.space) / 2:  # rejection sampling would miss too often
        return history.unseen(rng.choice(range(history.num_unseen)))
    while history.id_of(architecture := history.space.sample(rng)) is not None:
        pass
    return architecture


def neighbours(space: CategoricalSpace, architecture: Architecture) -> Iterator[Architecture]:
    """The architectures that differ in exactly one layer's block."""
    blocks = architecture.blocks
    for layer, choices in enumerate(space.choices):
        for block in choices:
            if block != blocks[layer]:
                yield Architecture((*blocks[:layer], block, *blocks[layer + 1 :]))
