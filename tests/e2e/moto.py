"""A VPC in moto, and what its route tables say.

usage: moto.py ENDPOINT make|bare|routes [--role ARN] [VIP...]

make: three subnets, each with an ENI and a route table; the VIPs' routes name the first ENI; bare: no such routes.
routes: the ENI of each VIP's route in each table. With --role in the account of that role.
"""

import json
import sys

import boto3

endpoint, verb, *rest = sys.argv[1:]
role = rest[1] if rest[:1] == ["--role"] else None
vips = rest[2:] if role else rest
vips = vips or ["192.168.77.10/32"]


def client(service, key="test", secret="test", token=None):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
    )


if role:
    got = client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    ec2 = client("ec2", got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])
else:
    ec2 = client("ec2")


def key(vip):
    return "DestinationIpv6CidrBlock" if ":" in vip else "DestinationCidrBlock"


def bare():
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    enis, tables = [], []
    for number, letter in enumerate("abc", start=1):
        cidr, zone = f"10.0.{number}.0/24", f"eu-west-1{letter}"
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=cidr, AvailabilityZone=zone)["Subnet"]["SubnetId"]
        eni = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
        ec2.modify_network_interface_attribute(NetworkInterfaceId=eni, SourceDestCheck={"Value": False})
        tag = {"ResourceType": "route-table", "Tags": [{"Key": "vipd:cluster", "Value": "edge"}]}
        table = ec2.create_route_table(VpcId=vpc, TagSpecifications=[tag])["RouteTable"]["RouteTableId"]
        ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
        enis.append(eni)
        tables.append(table)
    return {"enis": enis, "tables": tables}


def make():
    made = bare()
    for table in made["tables"]:
        for vip in vips:
            ec2.create_route(RouteTableId=table, NetworkInterfaceId=made["enis"][0], **{key(vip): vip})
    return made


def routes():
    tables = ec2.describe_route_tables()["RouteTables"]
    found = [route for table in tables for route in table["Routes"] for vip in vips if route.get(key(vip)) == vip]
    return [route.get("NetworkInterfaceId") for route in found]


print(json.dumps({"make": make, "bare": bare, "routes": routes}[verb]()))
