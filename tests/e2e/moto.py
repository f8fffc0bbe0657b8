"""A VPC in moto, and what its route tables say. usage: moto.py ENDPOINT make|routes"""

import json
import sys

import boto3

VIP = "192.168.77.10/32"
ec2 = boto3.client(
    "ec2",
    endpoint_url=sys.argv[1],
    region_name="eu-west-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
)


def make():
    """Three subnets, each with an ENI and a route table; the VIP's routes name the first ENI."""
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    enis, tables = [], []
    for number, letter in enumerate("abc", start=1):
        cidr, zone = f"10.0.{number}.0/24", f"eu-west-1{letter}"
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=cidr, AvailabilityZone=zone)["Subnet"]["SubnetId"]
        eni = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
        ec2.modify_network_interface_attribute(NetworkInterfaceId=eni, SourceDestCheck={"Value": False})
        table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
        enis.append(eni)
        tables.append(table)
    for table in tables:
        ec2.create_route(RouteTableId=table, DestinationCidrBlock=VIP, NetworkInterfaceId=enis[0])
    return {"enis": enis, "tables": tables}


def routes():
    """The ENI of each VIP route."""
    tables = ec2.describe_route_tables()["RouteTables"]
    found = [route for table in tables for route in table["Routes"] if route.get("DestinationCidrBlock") == VIP]
    return [route.get("NetworkInterfaceId") for route in found]


print(json.dumps({"make": make, "routes": routes}[sys.argv[2]]()))
