"""Recorded trajectories: every algorithm proposes the same candidates in the same order as ever."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json

import pytest
from toys import ask_all, make_search, toy_evaluation

from pipeline.algorithms.ask_tell import ArchitectureSearch
from snn.search_space import SearchSpace

SEEDS = range(3)
# Spaces and settings that differ from those of test_evolution; num_failed of every ten candidates fail.
CASES = {
    "plain": {},
    "failures": {"num_failed": 3},
    "only failures": {"num_failed": 10},
    "budget": {"max_spikes": 90, "num_failed": 1},
    "lambdas": {"more_exponents": (0.0, -1.0), "num_failed": 1},
    "lambdas and budget": {"more_exponents": (-1.0, -0.08), "max_spikes": 70},
    "large population": {"population_size": 40, "num_parents": 20, "num_mutants": 10},
    "small population": {"population_size": 2, "num_parents": 1, "num_mutants": 1},
    "no mutants": {"num_mutants": 0},
    "exhausted space": {"space": SearchSpace(3), "num_failed": 1},
    "two blocks": {"space": SearchSpace(6, ("skip_connect", "SRB_k5")), "population_size": 7},
}
# SHA-256 of the trajectories of the seeds, its first 7 digits, by algorithm in the order of CASES.
RECORDED = {
    "evolution": "3c1d3ad 4ef376e 918215c fc377a4 6e35daa 4686853 76c17ea 43efe5b 0f05269 84cdf37 c0a9712",
    "random": "918215c 918215c 918215c 918215c 918215c 918215c 00bec35 3399efa 918215c cf908b9 da9b9a6",
    "aging": "cb1c63f 80cfbae 918215c 1713fad 1a2c353 a25d866 3924bed 4e14670 cb1c63f ae791d8 b17c7ce",
    "nsga2": "3434aab 4170645 918215c e1e1f4c 80d4940 4f25c99 01105fc 2f31b9a 3434aab c571fd3 524a108",
    "exhaustive": "3a67180 3a67180 3a67180 3a67180 3a67180 3a67180 3a67180 3a67180 3a67180 75e7c14 82658b6",
    "optuna": "a59e651 dfca7e3 43d4382 1ae7248 422c306 d9761fc a36a506 063225e a59e651 b91b195 e2aa959",
}
# TPE's trajectories belong to a version of Optuna.
OPTUNA_VERSION = "5.0.0"
# SHA-256 of the candidates of the plain evolution, by seed, as they have been since the first version.
FIRST_RECORDED = {
    0: "19a6fff804d4f1b638252b5ff83c921bf80ae18b1bb080ae35d69412207eca38",
    1: "b37ed0331dc8e3d8213c4c72745c28af2b3326a9d5310ba5e74f49a5dbdd24db",
}


def candidates(search: ArchitectureSearch, num_failed: int = 0) -> list[list]:
    """Runs a search, the first `num_failed` of every ten candidates fail, and lists its candidates."""
    while asked := ask_all(search):
        for candidate in asked:
            failed = candidate.id % 10 < num_failed
            search.tell(candidate.id, None if failed else toy_evaluation(candidate.architecture))
    assert search.finished
    return [[c.id, c.generation, str(c.architecture), list(c.parents)] for c in search.candidates]


def digest(trajectories: list) -> str:
    return hashlib.sha256(json.dumps(trajectories).encode()).hexdigest()


def trajectories(algorithm: str, num_failed: int = 0, **changes) -> list[list[list]]:
    return [candidates(make_search(algorithm=algorithm, seed=seed, **changes), num_failed) for seed in SEEDS]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("algorithm", RECORDED)
def test_trajectory_is_the_recorded_one(algorithm: str, case: str) -> None:
    if algorithm == "optuna":
        if importlib.util.find_spec("optuna") is None:
            pytest.skip("optuna is missing")
        if (version := importlib.metadata.version("optuna")) != OPTUNA_VERSION:
            pytest.skip(f"recorded with optuna {OPTUNA_VERSION}, this is {version}")
    recorded = dict(zip(CASES, RECORDED[algorithm].split(), strict=True))
    assert digest(trajectories(algorithm, **CASES[case]))[:7] == recorded[case]


@pytest.mark.parametrize("seed", FIRST_RECORDED)
def test_evolution_is_that_of_the_first_version(seed: int) -> None:
    assert digest(candidates(make_search(seed=seed))) == FIRST_RECORDED[seed]
