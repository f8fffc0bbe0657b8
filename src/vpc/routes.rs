//! From EC2's route tables to what the VIPs' entries say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aws_sdk_ec2::types::{Route, RouteState, RouteTable};

use super::ec2::TableFacts;
use super::{CloudError, Sight};
use crate::model::{EniId, Observed, RouteKey, RouteTableId, Vip};

const ACTION: &str = "DescribeRouteTables";

/// What a look showed, from the tables that were found by id and those found by tag.
pub(super) fn sight(
    listed: &[RouteTableId],
    vips: &[Vip],
    found: Vec<RouteTable>,
) -> Result<Sight, CloudError> {
    let mut tables = BTreeMap::new();
    for table in found {
        let id = table.route_table_id().unwrap_or_default();
        let id: RouteTableId = id
            .parse()
            .map_err(|error| CloudError::Garbled { action: ACTION, message: format!("{error}") })?;
        tables.insert(id, table);
    }
    let mut sight = Sight::default();
    for id in listed {
        match tables.get(id) {
            Some(_) if sight.tables.contains(id) => {}
            Some(_) => sight.tables.push(id.clone()),
            None => {
                sight.absent.insert(id.clone());
            }
        }
    }
    sight.tables.extend(tables.keys().filter(|id| !listed.contains(id)).cloned());
    for (table, found) in &tables {
        for &vip in vips {
            let route = found.routes().iter().find(|route| leads_to(route, vip));
            let key = RouteKey { table: table.clone(), vip };
            sight.routes.insert(key, route.map_or(Observed::Missing, observed));
        }
    }
    Ok(sight)
}

/// What the doctor wants to know of a table.
pub(super) fn facts(found: &RouteTable) -> Option<TableFacts> {
    let local = found.routes().iter().filter(|route| route.gateway_id() == Some("local"));
    let cidrs = local.flat_map(|r| [r.destination_cidr_block(), r.destination_ipv6_cidr_block()]);
    Some(TableFacts {
        id: found.route_table_id()?.parse().ok()?,
        vpc: found.vpc_id().unwrap_or_default().to_owned(),
        owner: found.owner_id().unwrap_or_default().to_owned(),
        local: cidrs.flatten().filter_map(|text| text.parse().ok()).collect(),
    })
}

/// Whether the entry is the VIP's. Addresses are compared as addresses: IPv6 has many spellings.
fn leads_to(route: &Route, vip: Vip) -> bool {
    let destination = match vip.ip() {
        IpAddr::V4(_) => route.destination_cidr_block(),
        IpAddr::V6(_) => route.destination_ipv6_cidr_block(),
    };
    let Some((ip, len)) = destination.and_then(|text| text.split_once('/')) else {
        return false;
    };
    ip.parse() == Ok(vip.ip()) && len.parse() == Ok(vip.prefix_len())
}

fn observed(route: &Route) -> Observed {
    let eni: Option<EniId> = route.network_interface_id().and_then(|eni| eni.parse().ok());
    match route.state() {
        None | Some(RouteState::Active) => Observed::Active(eni),
        // "blackhole", or a state in which EC2 does not forward either ("filtered").
        Some(_) => Observed::Blackhole(eni),
    }
}
