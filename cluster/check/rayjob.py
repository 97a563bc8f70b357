"""Checks RayJob files for KubeRay: its schema made strict, the operator's own rules, and our traps.

The operator checks much that its schema does not say (ray-operator/controllers/ray/utils/validation.go of
KubeRay 1.7.0); each of those rules that a RayJob can break is here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cluster.check.document import Document, Path
from cluster.check.finding import Finding
from cluster.check.schema import schema_findings

_SPEC: Path = ("spec", "rayClusterSpec")
_HEAD: Path = (*_SPEC, "headGroupSpec")
_GROUPS: Path = (*_SPEC, "workerGroupSpecs")
_LONGEST_NAME = 47
_RAY_DRAINS = 30
_LEAST_RAY_FOR_TOKENS = (2, 52)
_LEAST_RAY_FOR_PRIORITIES = (2, 56)
_FEATURE_GATES = {"networkPolicy": "RayClusterNetworkPolicy", "tlsOptions": "RayClusterMTLS"}


def check_rayjob(document: Document, crd: dict[str, Any] | None) -> list[Finding]:
    """The mistakes of a RayJob.

    Args:
        document: The RayJob.
        crd: KubeRay's CustomResourceDefinition of RayJobs; None leaves its schema out.
    """
    rules = (_job, _deletion, _submission, _groups, _autoscaling, _token, _gates, _traps)
    findings = [finding for rule in rules for finding in rule(document)]
    if crd is not None:
        schema = strict(_schema_of(crd, str(document.get("apiVersion"))))
        findings += schema_findings(document, schema, "`kubectl explain rayjob.spec` lists the keys.")
    return findings


def strict(schema: Any) -> Any:
    """A Kubernetes schema that refuses keys it does not know; the API server drops them silently."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not is_open:
        closed["additionalProperties"] = False
    return closed


def _schema_of(crd: dict[str, Any], api_version: str) -> dict[str, Any]:
    name = api_version.rpartition("/")[2]
    versions = {version["name"]: version for version in crd["spec"]["versions"]}
    if crd["spec"]["names"]["kind"] != "RayJob" or name not in versions:
        raise ValueError(
            f"--crd: expected the CustomResourceDefinition of RayJobs with version {name}, got "
            f"{crd['spec']['names']['kind']} with {', '.join(versions)}. It is "
            "ray-operator/config/crd/bases/ray.io_rayjobs.yaml in KubeRay's repository."
        )
    schema: dict[str, Any] = versions[name]["schema"]["openAPIV3Schema"]
    return schema


def _job(document: Document) -> Iterator[Finding]:
    name = str(document.get("metadata", "name") or "")
    if len(name) > _LONGEST_NAME or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield document.finding(
            ["metadata", "name"],
            expected=f"at most {_LONGEST_NAME} lower-case letters, digits and '-', a letter first",
            got=name or "none",
            cure="Choose another name.",
        )
    for key, least in (
        ("backoffLimit", 0),
        ("ttlSecondsAfterFinished", 0),
        ("activeDeadlineSeconds", 1),
        ("preRunningDeadlineSeconds", 1),
    ):
        value = document.get("spec", key)
        if isinstance(value, int) and value < least:
            yield document.finding(
                ["spec", key], expected=f"at least {least}", got=str(value), cure="Raise it."
            )
    if document.get("spec", "rayClusterSpec") is None and not document.get("spec", "clusterSelector"):
        yield document.finding(
            _SPEC,
            expected="a cluster",
            got="neither rayClusterSpec nor clusterSelector",
            cure="Describe one.",
        )
    if not document.get("spec", "entrypoint"):
        yield document.finding(
            ["spec", "entrypoint"], expected="the driver's command", got="none", cure="Add it."
        )


def _deletion(document: Document) -> Iterator[Finding]:
    ends = document.get("spec", "shutdownAfterJobFinishes")
    strategy = document.get("spec", "deletionStrategy")
    for key in ("suspend", "ttlSecondsAfterFinished"):
        if document.get("spec", key) and not ends:
            yield document.finding(
                ["spec", key],
                expected="shutdownAfterJobFinishes: true beside it",
                got=str(ends),
                cure="Set shutdownAfterJobFinishes to true.",
            )
    if strategy is None:
        return
    path = ["spec", "deletionStrategy"]
    rules, old = strategy.get("deletionRules"), [k for k in ("onSuccess", "onFailure") if k in strategy]
    if (rules and old) or (not rules and len(old) != 2):
        yield document.finding(
            path,
            expected="deletionRules, or both onSuccess and onFailure",
            got=", ".join(strategy) or "nothing",
            cure="Use deletionRules alone.",
        )
    if rules and ends:
        yield document.finding(
            [*path, "deletionRules"],
            expected="either deletionRules or shutdownAfterJobFinishes",
            got="both",
            cure="Remove one of them.",
        )
    for number, rule in enumerate(rules or []):
        condition = rule.get("condition") or {}
        if len({"jobStatus", "jobDeploymentStatus"} & condition.keys()) != 1:
            yield document.finding(
                [*path, "deletionRules", number, "condition"],
                expected="either jobStatus or jobDeploymentStatus",
                got=", ".join(condition) or "none",
                cure="Name one.",
            )
        if rule.get("policy") == "DeleteWorkers" and document.get(*_SPEC, "enableInTreeAutoscaling"):
            yield document.finding(
                [*path, "deletionRules", number, "policy"],
                expected="DeleteCluster, DeleteSelf or DeleteNone, as the cluster has an autoscaler",
                got="DeleteWorkers",
                cure="Use DeleteCluster.",
            )


def _submission(document: Document) -> Iterator[Finding]:
    mode = document.get("spec", "submissionMode")
    if mode == "InteractiveMode" and document.get("spec", "backoffLimit"):
        yield document.finding(
            ["spec", "backoffLimit"],
            expected="0 with submissionMode InteractiveMode",
            got=str(document.get("spec", "backoffLimit")),
            cure="Use K8sJobMode, so that an interrupted run is started again.",
        )
    for key in ("submitterPodTemplate", "submitterConfig"):
        if mode == "SidecarMode" and document.get("spec", key) is not None:
            yield document.finding(
                ["spec", key], expected="nothing with SidecarMode", got="a value", cure="Remove it."
            )


def _groups(document: Document) -> Iterator[Finding]:
    autoscaled = document.get(*_SPEC, "enableInTreeAutoscaling")
    for path in _group_paths(document):
        if not document.get(*path, "template", "spec", "containers"):
            yield document.finding(
                [*path, "template", "spec", "containers"],
                expected="a container",
                got="none",
                cure="Add Ray's container.",
            )
        start = document.get(*path, "rayStartParams") or {}
        if (
            document.get(*path, "resources")
            and {"num-cpus", "num-gpus", "memory", "resources"} & start.keys()
        ):
            yield document.finding(
                [*path, "resources"],
                expected="either resources or rayStartParams",
                got="both",
                cure="Remove one of them.",
            )
    for path in _group_paths(document)[1:]:
        least, most = document.get(*path, "minReplicas"), document.get(*path, "maxReplicas")
        if not autoscaled and (least is None or most is None):
            yield document.finding(
                path,
                expected="minReplicas and maxReplicas, as there is no autoscaler",
                got="one of them or none",
                cure="Add both.",
            )
        for key, value in (("minReplicas", least), ("maxReplicas", most)):
            if isinstance(value, int) and value < 0:
                yield document.finding([*path, key], expected="at least 0", got=str(value), cure="Raise it.")
        if isinstance(least, int) and isinstance(most, int) and least > most:
            yield document.finding(
                [*path, "minReplicas"],
                expected=f"at most maxReplicas ({most})",
                got=str(least),
                cure="Lower minReplicas or raise maxReplicas.",
            )


def _autoscaling(document: Document) -> Iterator[Finding]:
    version = document.get(*_SPEC, "autoscalerOptions", "version")
    if version == "v2":
        for path in _group_paths(document):
            policy = document.get(*path, "template", "spec", "restartPolicy")
            if policy not in (None, "Never"):
                yield document.finding(
                    [*path, "template", "spec", "restartPolicy"],
                    expected="Never with autoscaler v2",
                    got=str(policy),
                    cure="Remove the key.",
                )
    for path in _group_paths(document)[1:]:
        if document.get(*path, "idleTimeoutSeconds") is not None and version != "v2":
            yield document.finding(
                [*path, "idleTimeoutSeconds"],
                expected="autoscalerOptions.version v2",
                got=str(version),
                cure="Set it, or use autoscalerOptions.idleTimeoutSeconds.",
            )
        if document.get(*path, "priority") and (
            version != "v2" or _ray_version(document) < _LEAST_RAY_FOR_PRIORITIES
        ):
            yield document.finding(
                [*path, "priority"],
                expected="Ray 2.56 or later and autoscalerOptions.version v2",
                got=f"Ray {document.get(*_SPEC, 'rayVersion')}, {version}",
                cure="Remove the priority.",
            )
    idle = document.get(*_SPEC, "autoscalerOptions", "idleTimeoutSeconds")
    if isinstance(idle, int) and idle < 0:
        yield document.finding(
            [*_SPEC, "autoscalerOptions", "idleTimeoutSeconds"],
            expected="at least 0",
            got=str(idle),
            cure="Raise it.",
        )


def _token(document: Document) -> Iterator[Finding]:
    mode = document.get(*_SPEC, "authOptions", "mode")
    if mode != "token":
        yield document.finding(
            [*_SPEC, "authOptions", "mode"],
            expected="token",
            got=str(mode or "none"),
            cure="Without it whoever reaches the pods can run code in them.",
        )
    elif _ray_version(document) < _LEAST_RAY_FOR_TOKENS:
        yield document.finding(
            [*_SPEC, "rayVersion"],
            expected="2.52 or later, as authOptions.mode is token",
            got=str(document.get(*_SPEC, "rayVersion") or "none"),
            cure="Write the version of Ray in the image.",
        )
    if document.get(*_SPEC, "authOptions", "enableK8sTokenAuth"):
        yield document.finding(
            [*_SPEC, "authOptions", "enableK8sTokenAuth"],
            expected="false: RayJobs cannot use it",
            got="true",
            cure="Remove the key.",
        )


def _gates(document: Document) -> Iterator[Finding]:
    for key, gate in _FEATURE_GATES.items():
        if document.get(*_SPEC, key) is not None:
            yield document.finding(
                [*_SPEC, key],
                expected=f"nothing, unless the operator runs with the feature gate {gate}",
                got="a value",
                cure="Ask who runs the operator, or remove the key.",
            )


def _traps(document: Document) -> Iterator[Finding]:
    if str((document.get(*_HEAD, "rayStartParams") or {}).get("num-cpus")) != "0":
        yield document.finding(
            [*_HEAD, "rayStartParams", "num-cpus"],
            expected='"0"',
            got=str((document.get(*_HEAD, "rayStartParams") or {}).get("num-cpus", "none")),
            cure="Keep trials off the head: when they fill its memory, the whole run dies.",
        )
    if (service := document.get(*_HEAD, "serviceType")) in ("LoadBalancer", "NodePort"):
        yield document.finding(
            [*_HEAD, "serviceType"],
            expected="ClusterIP",
            got=str(service),
            cure="The dashboard would be open to the network; use kubectl port-forward.",
        )
    for path in _group_paths(document):
        pod: Path = (*path, "template", "spec")
        seconds = document.get(*pod, "terminationGracePeriodSeconds")
        if seconds is None or seconds <= _RAY_DRAINS:
            yield document.finding(
                [*pod, "terminationGracePeriodSeconds"],
                expected=f"more than {_RAY_DRAINS}, for which Ray drains a node",
                got=str(seconds if seconds is not None else "30, the default"),
                cure="Write 60.",
            )
        for number, container in enumerate(document.get(*pod, "containers") or []):
            yield from _container(document, pod, number, container)


def _container(document: Document, pod: Path, number: int, container: Any) -> Iterator[Finding]:
    path = (*pod, "containers", number)
    image = str(container.get("image", ""))
    if image.rpartition(":")[2] in ("", "latest", image):
        yield document.finding(
            [*path, "image"],
            expected="an image with a version",
            got=image or "none",
            cure="Name the version.",
        )
    contexts = [document.get(*where, "securityContext") or {} for where in (pod, path)]
    if not any(context.get("runAsNonRoot") for context in contexts):
        yield document.finding(
            [*pod, "securityContext", "runAsNonRoot"],
            expected="true",
            got="none",
            cure="Set it: a container needs no root.",
        )


def _group_paths(document: Document) -> list[Path]:
    """Paths of the head group and of each worker group."""
    return [_HEAD, *((*_GROUPS, number) for number in range(len(document.get(*_GROUPS) or [])))]


def _ray_version(document: Document) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", str(document.get(*_SPEC, "rayVersion") or ""))
    return tuple(map(int, found.groups())) if found else (0, 0)
