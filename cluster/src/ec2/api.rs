//! The actions: parameters in, XML out.

use super::Refusal;
use super::params::Params;
use super::state::{Entry, Mode, State};
use super::xml::Xml;
use crate::spec::{ACCOUNT, VPC_CIDR, VPC_CIDR_V6, VPC_ID, Zone};

/// Executes an action now. Reads show the state as it was at `read_at_ns`.
pub async fn execute(
    state: &mut State,
    params: &Params,
    now_ns: u64,
    read_at_ns: u64,
) -> Result<Xml, Refusal> {
    match params.need("Action")? {
        "DescribeRouteTables" => route_tables(state, params, read_at_ns),
        "DescribeNetworkInterfaces" => interfaces(state, params),
        "DescribeVpcs" => Ok(vpcs()),
        "DescribeSubnets" => Ok(subnets(state)),
        "ReplaceRoute" => change(state, params, Mode::Replace, now_ns).await,
        "CreateRoute" => change(state, params, Mode::Create, now_ns).await,
        "ModifyNetworkInterfaceAttribute" => modify(state, params),
        other => Err(Refusal::BadAction(other.into())),
    }
}

fn done() -> Xml {
    let mut xml = Xml::default();
    xml.text("return", "true");
    xml
}

async fn change(state: &mut State, params: &Params, mode: Mode, now_ns: u64) -> Result<Xml, Refusal> {
    let table = params.need("RouteTableId")?;
    let destination = match params.get("DestinationIpv6CidrBlock") {
        Some(v6) => v6,
        None => params.need("DestinationCidrBlock")?,
    };
    let eni = params.need("NetworkInterfaceId")?;
    if params.flag("DryRun") {
        // EC2 checks ids and permission before it says that it would have done it.
        state.check(table, destination, eni, mode)?;
        return Err(Refusal::DryRun);
    }
    state.set(table, destination, eni, mode, now_ns).await?;
    Ok(done())
}

fn modify(state: &mut State, params: &Params) -> Result<Xml, Refusal> {
    let eni = params.need("NetworkInterfaceId")?;
    let value = params.need("SourceDestCheck.Value")?;
    state.eni(eni)?;
    if params.flag("DryRun") {
        return Err(Refusal::DryRun);
    }
    state.set_checked(eni, value.eq_ignore_ascii_case("true"))?;
    Ok(done())
}

fn bad_filter(name: &str) -> Refusal {
    Refusal::BadValue(format!("The filter '{name}' is invalid"))
}

fn route_tables(state: &State, params: &Params, read_at_ns: u64) -> Result<Xml, Refusal> {
    let ids = params.list("RouteTableId");
    if let Some(unknown) = ids.iter().find(|id| !state.spec.tables.iter().any(|t| t.id == **id)) {
        return Err(Refusal::NoTable((*unknown).into()));
    }
    if params.flag("DryRun") {
        return Err(Refusal::DryRun);
    }
    let filters = params.filters();
    let mut chosen = Vec::new();
    for table in &state.spec.tables {
        let mut fits = ids.is_empty() || ids.contains(&table.id.as_str());
        for (name, values) in &filters {
            fits &= match *name {
                "route-table-id" => values.contains(&table.id.as_str()),
                "vpc-id" => values.contains(&VPC_ID),
                tag => {
                    let key = tag.strip_prefix("tag:").ok_or_else(|| bad_filter(tag))?;
                    state.tags(&table.id).iter().any(|(k, v)| k == key && values.contains(&v.as_str()))
                }
            };
        }
        if fits {
            chosen.push(table);
        }
    }
    let entries = state.entries(read_at_ns);
    let mut xml = Xml::default();
    xml.items("routeTableSet", chosen, |xml, table| {
        xml.text("routeTableId", &table.id).text("vpcId", VPC_ID).text("ownerId", ACCOUNT);
        xml.nest("routeSet", |xml| {
            xml.nest("item", |xml| {
                xml.text("destinationCidrBlock", VPC_CIDR).text("gatewayId", "local");
                xml.text("state", "active").text("origin", "CreateRouteTable");
            });
            xml.nest("item", |xml| {
                xml.text("destinationIpv6CidrBlock", VPC_CIDR_V6).text("gatewayId", "local");
                xml.text("state", "active").text("origin", "CreateRouteTable");
            });
            for entry in entries.iter().filter(|e| e.table == table.id) {
                xml.nest("item", |xml| route(state, xml, entry));
            }
        });
        xml.items("associationSet", &table.subnets, |xml, subnet| {
            xml.text("routeTableAssociationId", &subnet.replace("subnet", "rtbassoc"));
            xml.text("routeTableId", &table.id).text("subnetId", subnet).text("main", "false");
        });
        xml.nest("propagatingVgwSet", |_| {});
        xml.items("tagSet", state.tags(&table.id), |xml, (key, value)| {
            xml.text("key", &key).text("value", &value);
        });
    });
    Ok(xml)
}

fn route(state: &State, xml: &mut Xml, entry: &Entry) {
    let v6 = entry.destination.contains(':');
    xml.text(if v6 { "destinationIpv6CidrBlock" } else { "destinationCidrBlock" }, &entry.destination);
    if let Ok(zone) = state.eni(&entry.target) {
        xml.text("instanceId", &zone.instance).text("instanceOwnerId", ACCOUNT);
    }
    xml.text("networkInterfaceId", &entry.target);
    xml.text("state", entry.state).text("origin", "CreateRoute");
}

fn interfaces(state: &State, params: &Params) -> Result<Xml, Refusal> {
    let ids = params.list("NetworkInterfaceId");
    for id in &ids {
        state.eni(id)?;
    }
    if params.flag("DryRun") {
        return Err(Refusal::DryRun);
    }
    let filters = params.filters();
    let mut chosen = Vec::new();
    for zone in state.spec.zones.iter().filter(|z| state.eni(&z.eni).is_ok()) {
        let mut fits = ids.is_empty() || ids.contains(&zone.eni.as_str());
        for (name, values) in &filters {
            let have = match *name {
                "network-interface-id" => zone.eni.clone(),
                "attachment.instance-id" => zone.instance.clone(),
                "private-ip-address" | "addresses.private-ip-address" => zone.ip.to_string(),
                "mac-address" => zone.mac.clone(),
                "subnet-id" => zone.subnet.clone(),
                "availability-zone" => zone.zone.clone(),
                "vpc-id" => VPC_ID.into(),
                "status" => "in-use".into(),
                other => return Err(bad_filter(other)),
            };
            fits &= values.contains(&have.as_str());
        }
        if fits {
            chosen.push(zone);
        }
    }
    let mut xml = Xml::default();
    xml.items("networkInterfaceSet", chosen, |xml, zone| interface(state, xml, zone));
    Ok(xml)
}

fn interface(state: &State, xml: &mut Xml, zone: &Zone) {
    let ip = zone.ip.to_string();
    let checked = if state.checked.contains(&zone.eni) { "true" } else { "false" };
    xml.text("networkInterfaceId", &zone.eni).text("subnetId", &zone.subnet).text("vpcId", VPC_ID);
    xml.text("availabilityZone", &zone.zone).text("description", "").text("ownerId", ACCOUNT);
    xml.text("requesterManaged", "false").text("status", "in-use").text("macAddress", &zone.mac);
    xml.text("privateIpAddress", &ip).text("sourceDestCheck", checked);
    xml.nest("groupSet", |_| {});
    xml.nest("attachment", |xml| {
        xml.text("attachmentId", &zone.eni.replace("eni-", "eni-attach-")).text("instanceId", &zone.instance);
        xml.text("instanceOwnerId", ACCOUNT).text("deviceIndex", "0").text("status", "attached");
        xml.text("deleteOnTermination", "true");
    });
    xml.nest("tagSet", |_| {});
    xml.items("privateIpAddressesSet", [&ip], |xml, ip| {
        xml.text("privateIpAddress", ip).text("primary", "true");
    });
    xml.nest("ipv6AddressesSet", |_| {});
    xml.text("interfaceType", "interface");
}

fn vpcs() -> Xml {
    let mut xml = Xml::default();
    xml.items("vpcSet", [VPC_ID], |xml, id| {
        xml.text("vpcId", id).text("ownerId", ACCOUNT).text("state", "available").text("cidrBlock", VPC_CIDR);
        xml.items("cidrBlockAssociationSet", [VPC_CIDR], |xml, cidr| {
            xml.text("cidrBlock", cidr).text("associationId", "vpc-cidr-assoc-0lab");
            xml.nest("cidrBlockState", |xml| {
                xml.text("state", "associated");
            });
        });
        xml.text("instanceTenancy", "default").text("isDefault", "false");
    });
    xml
}

fn subnets(state: &State) -> Xml {
    let mut xml = Xml::default();
    xml.items("subnetSet", &state.spec.zones, |xml, zone| {
        xml.text("subnetId", &zone.subnet).text("state", "available").text("vpcId", VPC_ID);
        xml.text("cidrBlock", &zone.cidr).text("availabilityZone", &zone.zone);
    });
    xml
}
