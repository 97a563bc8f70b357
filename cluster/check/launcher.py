"""Checks files of Ray's cluster launcher (AWS and Google Cloud)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from cluster.check.document import Document
from cluster.check.finding import Finding
from cluster.check.mounts import mount_findings
from cluster.check.schema import schema_findings, unknown_keys

_DESCRIBED = "Ray's documentation of the cluster launcher lists the keys."
_OF_RAY = {"SubnetIds", "NetworkInterfaces"}  # Ray takes them apart before it calls RunInstances


def check_launcher(document: Document) -> list[Finding]:
    """The mistakes of a file for `ray up`."""
    return [
        *_against_schema(document),
        *_instances(document),
        *_nodes(document),
        *_security(document),
        *mount_findings(document),
    ]


def _against_schema(document: Document) -> Iterator[Finding]:
    import json
    from importlib.resources import files

    schema = json.loads(files("ray.autoscaler").joinpath("ray-schema.json").read_text())
    yield from schema_findings(document, schema, _DESCRIBED)


def _instances(document: Document) -> Iterator[Finding]:
    """Ray's schema leaves `node_config` open; on AWS it holds the arguments of RunInstances."""
    if document.get("provider", "type") != "aws" or find_spec("botocore") is None:
        return
    from botocore.loaders import Loader

    model = Loader().load_service_model("ec2", "service-2")
    known = {*model["shapes"]["RunInstancesRequest"]["members"], *_OF_RAY}
    for name in document.get("available_node_types") or {}:
        path = ["available_node_types", name, "node_config"]
        yield from unknown_keys(document, path, known, "They are the arguments of EC2's RunInstances.")


def _nodes(document: Document) -> Iterator[Finding]:
    types = document.get("available_node_types") or {}
    head, most = document.get("head_node_type"), document.get("max_workers")
    if head not in types:
        yield document.finding(
            ["head_node_type"],
            expected=f"one of available_node_types ({', '.join(types)})",
            got=str(head),
            cure="Name the type of the head.",
        )
    for name in types:
        path = ["available_node_types", name]
        least, limit = document.get(*path, "min_workers") or 0, document.get(*path, "max_workers")
        if limit is not None and least > limit:
            yield document.finding(
                [*path, "min_workers"],
                expected=f"at most max_workers ({limit})",
                got=str(least),
                cure="Lower min_workers or raise max_workers.",
            )
        if name != head and limit == 0:
            yield document.finding(
                [*path, "max_workers"], expected="at least 1", got="0", cure="Raise it, or remove the type."
            )
    if most == 0:
        yield document.finding(
            ["max_workers"], expected="at least 1", got="0", cure="Raise it: no worker could start."
        )
    if head in types and (document.get("available_node_types", head, "resources", "CPU") or 0) != 0:
        yield document.finding(
            ["available_node_types", head, "resources", "CPU"],
            expected="0",
            got=str(document.get("available_node_types", head, "resources", "CPU")),
            cure="Keep trials off the head: when they fill its memory, the whole run dies.",
        )


def _security(document: Document) -> Iterator[Finding]:
    head = document.get("head_node_type")
    if document.get("provider", "type") == "aws":
        for name in document.get("available_node_types") or {}:
            path = ["available_node_types", name, "node_config"]
            if not document.get(*path, "SecurityGroupIds"):
                yield document.finding(
                    [*path, "SecurityGroupIds"],
                    expected="a security group of your own",
                    got="none",
                    cure="Name one: the group that Ray makes opens ssh to the whole internet.",
                )
            if name == head and not document.get(*path, "IamInstanceProfile"):
                yield document.finding(
                    [*path, "IamInstanceProfile"],
                    expected="an instance profile of your own",
                    got="none",
                    cure="Name one: the one that Ray makes may do everything with EC2 and S3.",
                )
    mounts = document.get("file_mounts") or {}
    if not any("token" in str(target) for target in mounts):
        yield document.finding(
            ["file_mounts"],
            expected="the token's file, such as ~/.ray/auth_token",
            got=", ".join(map(str, mounts)) or "none",
            cure="Mount it on all nodes.",
        )
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        commands = document.get(key) or []
        starts = [number for number, command in enumerate(commands) if "ray start" in str(command)]
        if not starts:
            yield document.finding(
                [key], expected="a command with `ray start`", got="none", cure="Start Ray on the node."
            )
        for number in starts:
            if "RAY_AUTH_MODE=token" not in str(commands[number]):
                yield document.finding(
                    [key, number],
                    expected="RAY_AUTH_MODE=token before `ray start`",
                    got="a Ray that lets everybody in",
                    cure="Set it, and mount the token.",
                )
