"""The search space and the backbones."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from pipeline.config.named import named_config
from snn.search_space import (
    AUTOSNN_BLOCKS,
    REFERENCE_ARCHITECTURES,
    Architecture,
    CategoricalSpace,
    SearchSpace,
    make_backbone,
    stem_for_size,
)


def test_autosnn_space_has_3125_architectures_each_once() -> None:
    space = SearchSpace(5)
    architectures = list(space)
    assert len(space) == len(set(architectures)) == 3125
    assert [space.index(architecture) for architecture in architectures] == list(range(3125))


def test_parse_is_the_inverse_of_str() -> None:
    for architecture in SearchSpace(2, (*AUTOSNN_BLOCKS, "SIB_k3_e6", "SRB_k7")):
        assert Architecture.parse(str(architecture)) == architecture


@pytest.mark.parametrize("name", REFERENCE_ARCHITECTURES)
def test_reference_architectures_are_in_the_space(name: str) -> None:
    assert Architecture.parse(name, 5) in SearchSpace(5)


def test_all_block_fills_every_layer() -> None:
    assert Architecture.parse("all-SCB_k3", 8).blocks == ("SCB_k3",) * 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SRB_k9-SRB_k3", r"Unknown block 'SRB_k9'; choose from: .*SCB_k3"),
        ("SRB_k3", "has 1 blocks; this backbone has 2"),
        ("", "Unknown block ''"),
        ("__import__('os')", "Unknown block"),
    ],
)
def test_error_of_an_invalid_architecture_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture.parse(text, 2)


def test_mutation_always_picks_a_different_block() -> None:
    space, rng = SearchSpace(5), random.Random(0)
    parent = space.sample(rng)
    mutant = space.mutate(parent, 1.0, rng)
    assert all(a != b for a, b in zip(parent.blocks, mutant.blocks, strict=True))
    assert space.mutate(parent, 1e-12, rng) == parent


def test_crossover_joins_a_head_of_one_parent_and_the_tail_of_the_other() -> None:
    space, rng = SearchSpace(5), random.Random(0)
    first, second = Architecture(("SCB_k3",) * 5), Architecture(("SRB_k5",) * 5)
    for _ in range(50):
        blocks = space.crossover(first, second, rng).blocks
        cut = blocks.count("SCB_k3")
        assert 1 <= cut <= 4
        assert blocks == ("SCB_k3",) * cut + ("SRB_k5",) * (5 - cut)


def test_official_crossover_cuts_the_list_that_includes_the_pools() -> None:
    space = named_config("cifar10").network.search_space()
    first, second = Architecture(("SCB_k3",) * 5), Architecture(("SRB_k5",) * 5)
    rng, number = random.Random(0), 14_000
    cuts = Counter(
        space.crossover(first, second, rng, official=True).blocks.count("SCB_k3") for _ in range(number)
    )
    shares = {1: 2 / 7, 2: 1 / 7, 3: 2 / 7, 4: 1 / 7, 5: 1 / 7}  # of 7 places between 5 layers and 3 pools
    assert cuts.keys() == shares.keys()
    for cut, share in shares.items():
        assert cuts[cut] / number == pytest.approx(share, abs=0.02)


def test_layers_of_a_categorical_space_may_have_different_choices() -> None:
    space, rng = CategoricalSpace((("a", "b", "c"), ("x",), ("1", "2"))), random.Random(0)
    architectures = list(space)
    assert len(space) == len(set(architectures)) == 6
    assert [space.index(architecture) for architecture in architectures] == list(range(6))
    assert all(space.sample(rng) in space for _ in range(20))
    assert all(space.mutate(parent, 1.0, rng) in space for parent in space)
    assert Architecture(("a", "x")) not in space and Architecture(("x", "a", "1")) not in space
    for choices, message in (((), "at least one layer"), ((("a", "a"),), "different"), (((),), "not empty")):
        with pytest.raises(ValueError, match=message):
            CategoricalSpace(choices)


def test_snn3_replaces_pools_by_searched_stride_2_layers() -> None:
    layers = make_backbone("SNN_3", channels=16).layers
    assert [layer.out_channels for layer in layers] == [16, 32, 32, 32, 64, 64, 64, 128]
    assert [layer.stride for layer in layers] == [1, 2, 1, 1, 2, 1, 1, 2]
    assert len(SearchSpace(len(layers))) == 390_625


@pytest.mark.parametrize(
    ("size", "stem"), [(32, "image"), (34, "image"), (64, "tiny_imagenet"), (128, "event")]
)
def test_stem_is_chosen_by_the_size_of_the_input(size: int, stem: str) -> None:
    assert stem_for_size(size, size) == stem


def test_invalid_search_spaces_are_rejected() -> None:
    with pytest.raises(ValueError, match="num_layers must be at least 1, got 0"):
        SearchSpace(0)
    with pytest.raises(ValueError, match="different from each other"):
        SearchSpace(2, ("SCB_k3", "SCB_k3"))
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        make_backbone("AutoSNN", channels=0)
