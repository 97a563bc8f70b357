"""Seeded mistakes in rendered files are named, each with its line; the rendered files have none."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from cluster.check import check_file
from cluster.command import Check
from cluster.render import ClusterRun, Place, render
from pipeline.config.named import CONFIGS

ROOT = Path(__file__).resolve().parents[1]
RUN = ClusterRun(CONFIGS["cifar10"], workers=8, gpus_per_worker=1)
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
# A small part of KubeRay's definition, for where the whole one is not at hand.
GROUP = {
    "groupName": {"type": "string"},
    "replicas": {"type": "integer"},
    "minReplicas": {"type": "integer"},
    "maxReplicas": {"type": "integer"},
    "rayStartParams": {"type": "object", "additionalProperties": {"type": "string"}},
    "template": OPEN,
}
CLUSTER = {
    "rayVersion": {"type": "string"},
    "authOptions": OPEN,
    "autoscalerOptions": OPEN,
    "networkPolicy": OPEN,
    "enableInTreeAutoscaling": {"type": "boolean"},
    "headGroupSpec": {"type": "object", "properties": GROUP},
    "workerGroupSpecs": {"type": "array", "items": {"type": "object", "properties": GROUP}},
}
JOB = {
    "entrypoint": {"type": "string"},
    "backoffLimit": {"type": "integer"},
    "suspend": {"type": "boolean"},
    "shutdownAfterJobFinishes": {"type": "boolean"},
    "ttlSecondsAfterFinished": {"type": "integer"},
    "rayClusterSpec": {"type": "object", "properties": CLUSTER},
}
TOP = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
SCHEMA = {"type": "object", "properties": {**TOP, "spec": {"type": "object", "properties": JOB}}}
CRD = {
    "spec": {
        "names": {"kind": "RayJob"},
        "versions": [{"name": "v1", "schema": {"openAPIV3Schema": SCHEMA}}],
    }
}
# Place, what stands in the rendered file, what is written instead, the key that the finding must name.
MISTAKES = [
    ("aws", "\nmax_workers: 8", "\nmax_worker: 8", "max_worker"),
    ("aws", "idle_timeout_minutes: 5", "idle_timeout_minutes: five", "idle_timeout_minutes"),
    ("aws", "head_node_type: head", "head_node_type: haed", "head_node_type"),
    ("aws", "    min_workers: 0\n", "    min_workers: 99\n", "gpu-spot.min_workers"),
    ("aws", "resources: {CPU: 0}", "resources: {CPU: 8}", "head.resources.CPU"),
    ("aws", "resources: {CPU: 8}", "resources: {CPU: 8.5}", "cpu-spot.resources.CPU"),
    ("aws", "SecurityGroupIds: &group", "SecurityGroupId: &group", "head.node_config.SecurityGroupId"),
    ("aws", "IamInstanceProfile:", "IamInstanceProfil:", "head.node_config.IamInstanceProfil"),
    ("aws", "InstanceMarketOptions: {", "InstanceMarketOption: {", "node_config.InstanceMarketOption"),
    ("aws", "  ~/.ray/auth_token: ~", "  ~/.ray/autht: ~", "file_mounts"),
    ("aws", "RAY_AUTH_MODE=token RAY_enable_metrics_collection=0 ~/", "~/", "head_start_ray_commands.1"),
    ("gcp", "worker_start_ray_commands", "worker_start_commands", "worker_start_commands"),
    ("kuberay", "maxReplicas: 8", "maxReplica: 8", "workerGroupSpecs.0.maxReplica"),
    ("kuberay", "minReplicas: 0", "minReplicas: 9", "workerGroupSpecs.0.minReplicas"),
    ("kuberay", "minReplicas: 0", "minReplicas: -1", "workerGroupSpecs.0.minReplicas"),
    ("kuberay", "Seconds: 60", "Seconds: 30", "spec.terminationGracePeriodSeconds"),
    ("kuberay", "{mode: token}", "{mode: disabled}", "authOptions.mode"),
    ("kuberay", "rayVersion: 2.6", "rayVersion: 2.4", "rayVersion"),
    ("kuberay", "rayVersion: 2.60.0", "rayVersion: 2.6", "rayVersion"),
    ("kuberay", "      idleTimeoutSeconds: 120", "      idleTimeoutSeconds: -1", "idleTimeoutSeconds"),
    ("kuberay", "shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: no", "ttlSecondsAfterFinished"),
    ("kuberay", "backoffLimit: 20", "backoffLimit: -1", "backoffLimit"),
    ("kuberay", "{name: autosnn-cifar10}", "{name: AutoSNN}", "metadata.name"),
    ("kuberay", 'num-cpus: "0"', 'num-cpus: "2"', "num-cpus"),
    ("kuberay", "# networkPolicy", "networkPolicy", "networkPolicy"),
    ("kuberay", "autosnn:2.60.0", "autosnn:latest", "containers.0.image"),
    ("kuberay", "runAsNonRoot: true, ", "", "runAsNonRoot"),
    ("sky", "num_nodes:", "num_node:", "num_node"),
    ("sky", "  disk_size: 100", "  disk_size: 100\n  ports: 6379", "resources.ports"),
]
# Lines between what was changed and where the finding points: the start of a command, the key beside it, the
# end of what was added.
ELSEWHERE = {
    "head_start_ray_commands.1": -1,
    "file_mounts": -2,
    "ttlSecondsAfterFinished": 1,
    "resources.ports": 1,
}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of someone who has the data and a token, and calls from a folder in it."""
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").touch(mode=0o600)
    (home / "data").mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def crd(tmp_path: Path) -> Path:
    """The definition that AUTOSNN_RAYJOB_CRD names, or a small part of it."""
    if named := os.environ.get("AUTOSNN_RAYJOB_CRD"):
        return Path(named)
    file = tmp_path / "crd.yaml"
    file.write_text(yaml.safe_dump(CRD))
    return file


@pytest.mark.parametrize("place", get_args(Place))
def test_rendered_files_have_no_mistake(tmp_path: Path, crd: Path, place: Place) -> None:
    file = tmp_path / "file"
    file.write_text(render(place, RUN))
    assert check_file(file, crd) == []


@pytest.mark.parametrize(("place", "right", "wrong", "key"), MISTAKES, ids=lambda value: str(value)[:40])
def test_seeded_mistake_is_named_with_its_line(
    tmp_path: Path, crd: Path, place: Place, right: str, wrong: str, key: str
) -> None:
    text = render(place, RUN)
    assert right in text
    file = tmp_path / "file.yaml"
    file.write_text(text.replace(right, wrong, 1))
    findings = check_file(file, crd)
    named = next(finding for finding in findings if finding.key.endswith(key))
    changed = text[: text.index(right)].count("\n") + 1 + right.startswith("\n")
    assert named.line == changed + ELSEWHERE.get(key, 0)
    assert str(named).startswith(f"{file}:{named.line}: ") and named.expected and named.got and named.cure


def test_places_to_fill_in_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(render("kuberay", dataclasses.replace(RUN, storage="s3://bucket/runs")))
    Check(file).run()
    [first, second] = re.findall(r"\d+", capsys.readouterr().out.partition("FILL_IN in lines ")[2])
    lines = file.read_text().splitlines()
    assert "image:" in lines[int(first) - 1] and "secretRef:" in lines[int(second) - 1]


@pytest.mark.parametrize("place", ["aws", "gcp", "sky"])
def test_file_that_this_machine_lacks_is_named(tmp_path: Path, machine: Path, place: Place) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(render(place, RUN))
    (machine / "data").rmdir()
    [finding] = check_file(file)
    assert finding.key == "file_mounts.~/data" and finding.got == "nothing at 'data'"
    file.write_text(render(place, dataclasses.replace(RUN, config=CONFIGS["demo"])))
    assert check_file(file) == [], "the data of the demo come with the environment"
    token = machine / ".ray" / "auth_token"
    token.chmod(0o644)
    [finding] = check_file(file)
    assert finding.got == "-rw-r--r--" and finding.cure == "chmod 600 ~/.ray/auth_token"
    token.unlink()
    [finding] = check_file(file)
    assert finding.got == "nothing at '~/.ray/auth_token'" and "--generate" in finding.cure


@pytest.mark.parametrize(
    ("right", "wrong", "key"),
    [
        ("USER autosnn", "USER root", "USER"),
        ("USER autosnn", "", "USER"),
        ("3.11.13-slim-bookworm", "latest", "FROM"),
    ],
)
def test_mistake_in_the_dockerfile_is_named(tmp_path: Path, right: str, wrong: str, key: str) -> None:
    text = (ROOT / "cluster" / "Dockerfile").read_text()
    assert check_file(ROOT / "cluster" / "Dockerfile") == []
    file = tmp_path / "Dockerfile"
    file.write_text(text.replace(right, wrong))
    assert [
        finding.key for finding in check_file(file) if finding.key.isupper() and finding.key.isalpha()
    ] == [key]


def test_file_of_no_kind_is_refused(tmp_path: Path, crd: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("kind: Pod\n")
    with pytest.raises(ValueError, match=r"file.yaml: expected a file for `ray up`.*got Pod"):
        check_file(file)
    file.write_text("a: [1,\nb: 2")
    with pytest.raises(ValueError, match=r"file.yaml:2: expected YAML"):
        check_file(file)
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({"spec": {"names": {"kind": "RayCluster"}, "versions": []}}))
    file.write_text(render("kuberay", RUN))
    with pytest.raises(ValueError, match=r"--crd: expected .* of RayJobs with version v1, got RayCluster"):
        check_file(file, other)
