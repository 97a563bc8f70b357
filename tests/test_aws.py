"""Ray's own AWS code on a rendered file, against a simulated EC2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.render import ClusterRun, render
from pipeline.config.named import CONFIGS

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
moto = pytest.importorskip("moto", reason="moto is not installed")

REGION = "eu-central-1"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """An AWS account with a subnet, a security group and an instance profile; the values to fill in."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    with moto.mock_aws():
        ec2, iam = boto3.client("ec2", REGION), boto3.client("iam", REGION)
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone=f"{REGION}a")
        ec2.modify_subnet_attribute(
            SubnetId=subnet["Subnet"]["SubnetId"], MapPublicIpOnLaunch={"Value": True}
        )
        group = ec2.create_security_group(GroupName="ours", Description="ours", VpcId=vpc)
        iam.create_instance_profile(InstanceProfileName="ours")
        yield {
            "region": REGION,
            "image": ec2.describe_images(Owners=["099720109477"])["Images"][0]["ImageId"],
            "subnet": subnet["Subnet"]["SubnetId"],
            "group": group["GroupId"],
            "profile": "ours",
        }


def filled_in(text: str, account: dict[str, str]) -> dict[str, Any]:
    for line, value in (
        ("region: ", account["region"]),
        ("ImageId: &image ", account["image"]),
        ("SubnetIds: &subnets [", account["subnet"]),
        ("SecurityGroupIds: &group [", account["group"]),
        ("{Name: ", account["profile"]),
    ):
        assert f"{line}FILL_IN" in text
        text = text.replace(f"{line}FILL_IN", f"{line}{value}")
    return yaml.safe_load(text)


def test_rendered_file_makes_spot_machines_with_our_group_and_ends_them(account: dict[str, str]) -> None:
    from ray.autoscaler._private.providers import _NODE_PROVIDERS, _get_node_provider
    from ray.autoscaler._private.util import prepare_config, validate_config

    values = filled_in(render("aws", ClusterRun(CONFIGS["cifar10"], workers=8, gpus_per_worker=1)), account)
    config = prepare_config(values)
    validate_config(config)
    provider_class = _NODE_PROVIDERS["aws"](config["provider"])
    config = provider_class.bootstrap_config(config)
    ec2 = boto3.client("ec2", REGION)
    groups = {
        group["GroupId"]: group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]
    }
    assert "ours" in groups.values() and not any("ray" in name for name in groups.values())

    provider = _get_node_provider(config["provider"], config["cluster_name"], use_cache=False)
    for name in ("head", "gpu-spot", "cpu-spot", "cpu-on-demand"):
        kind = config["available_node_types"][name]
        tags = {"ray-user-node-type": name, "ray-node-type": "head" if name == "head" else "worker"}
        provider.create_node(kind["node_config"], tags, 1)
    machines = {
        next(tag["Value"] for tag in machine["Tags"] if tag["Key"] == "ray-user-node-type"): machine
        for reservation in ec2.describe_instances()["Reservations"]
        for machine in reservation["Instances"]
    }
    assert {name: machine.get("InstanceLifecycle") for name, machine in machines.items()} == {
        "head": None,
        "gpu-spot": "spot",
        "cpu-spot": "spot",
        "cpu-on-demand": None,
    }
    for name, machine in machines.items():
        assert [group["GroupId"] for group in machine["SecurityGroups"]] == [account["group"]]
        assert ("IamInstanceProfile" in machine) == (name == "head")
        assert machine["SubnetId"] == account["subnet"]

    provider.terminate_nodes(provider.non_terminated_nodes({}))
    states = [
        machine["State"]["Name"]
        for reservation in ec2.describe_instances()["Reservations"]
        for machine in reservation["Instances"]
    ]
    assert states == ["terminated"] * 4
