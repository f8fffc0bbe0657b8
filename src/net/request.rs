//! One request to the kernel: its own socket, one deadline.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, CacheInfo};
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkInfo};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use super::NetError;
use super::error::{Asked, is_absent, is_there};
use super::loops::{Family, Link, Rule};
use crate::model::Vip;

/// The kernel answers within microseconds, unless others hold its RTNL lock: a second is far above
/// what is seen, and short enough for the next tick to decide again.
const DEADLINE: Duration = Duration::from_secs(1);

/// A lifetime that never ends (INFINITY_LIFE_TIME in net/addrconf.h).
const FOREVER: u32 = u32::MAX;

/// Does `work` with a socket of its own, within the deadline. A socket costs a few microseconds; it
/// saves the state of one that is shared: answers that never came, and its reopening once it is
/// broken.
pub(super) async fn ask<T, F>(work: impl FnOnce(Handle) -> F) -> Result<T, NetError>
where
    F: Future<Output = Result<T, NetError>>,
{
    // The receiver lives until the end: without it the connection ends with its last handle,
    // which can be before the answer.
    fault!(wait "net.socket", error(e) => return Err(NetError::Socket(e)));
    let (connection, handle, _unasked) = rtnetlink::new_connection().map_err(NetError::Socket)?;
    let asked = async {
        tokio::select! {
            biased;
            answer = work(handle) => answer,
            () = connection => Err(NetError::Closed),
        }
    };
    tokio::time::timeout(DEADLINE, asked).await.unwrap_or(Err(NetError::Timeout(DEADLINE)))
}

/// The interface's index now. Names are looked up for each request, since an interface can be
/// deleted and made again under the same name.
pub(super) async fn find_interface(handle: &Handle, name: &str) -> Result<u32, NetError> {
    let asked = Asked::FindInterface(name);
    let request = handle
        .link()
        .get()
        .match_name(name)
        .set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats])
        .execute();
    let found = std::pin::pin!(request).try_next().await.map_err(|e| asked.failed(e))?;
    found.map(|link| link.header.index).ok_or_else(|| NetError::NoInterface(name.to_owned()))
}

/// How long the kernel keeps an address without a refresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lifetime {
    Forever,
    Ends,
}

/// What the kernel holds for some of `vips` on the interface with this index, at whatever prefix
/// length: a packet for the address is taken in at any.
pub(super) async fn list(
    handle: &Handle,
    index: u32,
    vips: &[Vip],
) -> Result<Vec<(Vip, AddressMessage)>, NetError> {
    let mut found = Vec::new();
    let mut answers = std::pin::pin!(handle.address().get().set_link_index_filter(index).execute());
    while let Some(message) = answers.try_next().await.map_err(|e| Asked::List.failed(e))? {
        let Some(ip) = local(&message) else { continue };
        if let Some(vip) = vips.iter().find(|vip| vip.ip() == ip) {
            found.push((*vip, message));
        }
    }
    Ok(found)
}

/// The address itself. On a point-to-point link IFA_ADDRESS is the other end's, and IFA_LOCAL ours
/// (linux/if_addr.h); IPv6 has mostly no IFA_LOCAL.
fn local(message: &AddressMessage) -> Option<IpAddr> {
    let of = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Local(ip) => Some((0, *ip)),
        AddressAttribute::Address(ip) => Some((1, *ip)),
        _ => None,
    };
    message.attributes.iter().filter_map(of).min_by_key(|(rank, _)| *rank).map(|(_, ip)| ip)
}

/// The lifetime of each VIP that was found; `Forever` where one of its entries is.
pub(super) fn lifetimes(found: &[(Vip, AddressMessage)]) -> BTreeMap<Vip, Lifetime> {
    let mut seen = BTreeMap::new();
    for (vip, message) in found {
        let ends = message.attributes.iter().any(
            |attribute| matches!(attribute, AddressAttribute::CacheInfo(info) if info.ifa_valid != FOREVER),
        );
        let lifetime = if ends { Lifetime::Ends } else { Lifetime::Forever };
        seen.entry(*vip)
            .and_modify(|known| {
                if lifetime == Lifetime::Forever {
                    *known = lifetime;
                }
            })
            .or_insert(lifetime);
    }
    seen
}

/// Sets the address, or renews it where it is. `lifetime_s` 0: forever, which also lifts the
/// lifetime of one that is adopted.
pub(super) async fn add(
    handle: &Handle,
    index: u32,
    vip: Vip,
    interface: &str,
    lifetime_s: u32,
) -> Result<(), NetError> {
    let mut request = handle.address().add(index, vip.ip(), vip.prefix_len()).replace();
    let message = request.message_mut();
    if vip.ip().is_ipv6() {
        // Duplicate address detection would keep it unusable for a second (RFC 4862, section 5.4),
        // and an overlay address has no link on which to be a duplicate.
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_valid = if lifetime_s == 0 { FOREVER } else { lifetime_s };
    lifetime.ifa_preferred = lifetime.ifa_valid;
    message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    request.execute().await.map_err(|e| Asked::Add(vip, interface).failed(e))
}

/// Removes what [`list`] found. Ok where it has gone meanwhile.
pub(super) async fn remove(handle: &Handle, found: AddressMessage) -> Result<(), NetError> {
    match handle.address().del(found).execute().await {
        Err(error) if !is_absent(&error) => Err(Asked::Remove.failed(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Every interface.
pub(super) async fn list_links(handle: &Handle) -> Result<Vec<Link>, NetError> {
    let request = handle.link().get().set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
    let mut answers = std::pin::pin!(request.execute());
    let mut found = Vec::new();
    while let Some(message) = answers.try_next().await.map_err(|e| Asked::ListLinks.failed(e))? {
        let (mut name, mut is_virtual) = (None, false);
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text),
                LinkAttribute::LinkInfo(infos) => {
                    is_virtual = infos.iter().any(|info| matches!(info, LinkInfo::Kind(_)));
                }
                _ => {}
            }
        }
        found.extend(name.map(|name| Link { index: message.header.index, name, is_virtual }));
    }
    Ok(found)
}

/// Every route of every table.
pub(super) async fn list_routes(handle: &Handle) -> Result<Vec<RouteMessage>, NetError> {
    let mut found = Vec::new();
    let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
    for message in [v4, v6] {
        let answers = handle.route().get(message).execute();
        found.extend(answers.try_collect::<Vec<_>>().await.map_err(|e| Asked::ListRoutes.failed(e))?);
    }
    Ok(found)
}

pub(super) async fn list_rules(handle: &Handle, family: Family) -> Result<Vec<RuleMessage>, NetError> {
    let version = match family {
        Family::V4 => IpVersion::V4,
        Family::V6 => IpVersion::V6,
    };
    handle.rule().get(version).execute().try_collect().await.map_err(|e| Asked::ListRules.failed(e))
}

/// `ip rule add iif DEV to VIP blackhole`. Ok where it is there already.
pub(super) async fn add_rule(handle: &Handle, rule: &Rule, protocol: RouteProtocol) -> Result<(), NetError> {
    let mut request = handle.rule().add().input_interface(&rule.interface).priority(rule.priority);
    let message = request.message_mut();
    message.header.family = if rule.vip.ip().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.action = RuleAction::Blackhole;
    message.header.table = 0;
    message.header.dst_len = rule.vip.prefix_len();
    message.attributes.push(RuleAttribute::Destination(rule.vip.ip()));
    message.attributes.push(RuleAttribute::Protocol(protocol));
    match request.execute().await {
        Err(error) if !is_there(&error) => Err(Asked::AddRule.failed(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes what [`list_rules`] found. Ok where it has gone meanwhile.
pub(super) async fn remove_rule(handle: &Handle, found: RuleMessage) -> Result<(), NetError> {
    match handle.rule().del(found).execute().await {
        Err(error) if !is_absent(&error) => Err(Asked::RemoveRule.failed(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(any(test, fuzzing))]
pub mod fuzz;
