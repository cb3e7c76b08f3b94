"""What is looked up in an account before anything starts."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import boto3
import pytest

from daskflow.clusters import ec2_account
from daskflow.clusters.ec2_account import Account, Place
from daskflow.clusters.profiles import Ec2Profile
from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator


def profile(**values: object) -> Ec2Profile:
    return Ec2Profile(name="team", image="flows:1", **values)  # type: ignore[arg-type]


@pytest.mark.usefixtures("bucket")
def test_without_a_subnet_it_is_one_of_the_default_vpc_in_a_zone_that_has_the_types():
    account = Account("us-east-1")

    found = ec2_account.place(account, profile())

    [subnet] = account.call("describe_subnets", SubnetIds=[found.subnet])["Subnets"]
    assert subnet["DefaultForAz"]
    assert (subnet["VpcId"], subnet["CidrBlock"]) == (found.vpc, found.block)
    with pytest.raises(
        ClusterError, match="No zone of the default VPC in us-east-1 has m6i.xlarge and p9.large"
    ):
        ec2_account.place(account, profile(scheduler_instance_type="p9.large"))


@pytest.mark.usefixtures("bucket")
def test_a_subnet_in_whose_zone_there_is_no_such_machine_is_told():
    account = Account("us-east-1")
    offered = account.pages(
        "describe_instance_type_offerings", "InstanceTypeOfferings", LocationType="availability-zone"
    )
    subnets = account.call("describe_subnets", Filters=[{"Name": "default-for-az", "Values": ["true"]}])
    zones = {each["AvailabilityZone"]: each["SubnetId"] for each in subnets["Subnets"]}
    has = {zone: {each["InstanceType"] for each in offered if each["Location"] == zone} for zone in zones}
    type_, zone = next((name, zone) for zone in zones for name in has["us-east-1a"] if name not in has[zone])

    with pytest.raises(ClusterError, match=f"EC2 has no {type_} in {zone}, the zone of {zones[zone]}"):
        ec2_account.place(account, profile(subnet=zones[zone], worker_instance_type=type_))


@pytest.mark.usefixtures("bucket")
def test_without_a_default_vpc_the_profile_has_to_name_a_subnet():
    client = boto3.client("ec2", region_name="eu-west-3")
    for each in client.describe_subnets()["Subnets"]:
        client.delete_subnet(SubnetId=each["SubnetId"])
    client.close()

    with pytest.raises(
        ClusterError, match="no default VPC with subnets in eu-west-3: set subnet in profile 'team'"
    ):
        ec2_account.place(Account("eu-west-3"), profile())


@pytest.mark.usefixtures("bucket")
def test_without_an_ami_it_is_amazons_for_the_types_processor():
    account = Account("us-east-1")
    names = ["m6i.large", "m7g.large", "g5.xlarge"]
    types = account.call("describe_instance_types", InstanceTypes=names)["InstanceTypes"]

    found = ec2_account.amazons_images(account, {each["InstanceType"]: each for each in types})

    assert set(found) == set(names)
    assert len(set(found.values())) == 3
    assert all(each.startswith("ami-") for each in found.values())


@pytest.fixture
def page() -> Iterator[list[str]]:
    """A page that says what is in the list; its address comes first."""
    says: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(says[-1].encode())

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        says.append(f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield says
        server.shutdown()
        thread.join()


def test_our_public_address_is_what_amazon_sees(page: list[str]):
    page.append("203.0.113.7\n")
    assert ec2_account.own_public_address(page[0]) == "203.0.113.7"

    page.append("<html>Please sign in")
    with pytest.raises(ClusterError, match='Set allow in the profile, such as allow = "203.0.113.7/32"'):
        ec2_account.own_public_address(page[0])


def test_who_may_reach_the_scheduler_is_what_the_profile_says_or_we_alone():
    here = Place("subnet-1", "vpc-1", "127.9.0.0/24")

    assert ec2_account.allowed(profile(private=True), here) == ("127.0.0.1/32",)
    assert ec2_account.allowed(profile(allow=("198.51.100.0/24",)), here) == ("198.51.100.0/24",)
    assert ec2_account.allowed(profile(allow=()), here) == ()


def test_a_machine_alone_is_a_network_too():
    assert ec2_account.own_address_towards("127.9.0.7/32") == "127.0.0.1"
