//! The fuzz target's way in (`crate::fuzz`).

use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;

use super::{lifetimes, local};
use crate::model::Vip;
use crate::net::error::{Asked, is_absent};

/// One message of the kernel's, as the listing, an addition and a removal understand it.
pub fn netlink(data: &[u8]) {
    let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(data) else { return };
    match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address)) => {
            let vip = local(&address).and_then(|ip| {
                let len = if ip.is_ipv4() { 32 } else { 128 };
                format!("{ip}/{len}").parse::<Vip>().ok()
            });
            if let Some(vip) = vip {
                assert_eq!(lifetimes(&[(vip, address)]).len(), 1);
            }
        }
        NetlinkPayload::Error(refusal) => {
            let error = || rtnetlink::Error::NetlinkError(refusal.clone());
            let _: bool = is_absent(&error());
            for asked in [Asked::List, Asked::Remove, Asked::FindInterface("lo")] {
                drop(asked.failed(error()).to_string());
            }
        }
        _ => {}
    }
}

/// Target, name, bytes. Beside them the corpus has what a kernel answered.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    use rtnetlink::packet_core::{NLM_F_MULTIPART, NetlinkHeader};
    use rtnetlink::packet_route::AddressFamily;
    use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};

    let with = |family, len, ip: &str, valid| {
        let mut address = AddressMessage::default();
        (address.header.family, address.header.prefix_len, address.header.index) = (family, len, 1);
        let ip = ip.parse().expect("an address");
        let mut lifetime = CacheInfo::default();
        (lifetime.ifa_valid, lifetime.ifa_preferred) = (valid, valid);
        address.attributes = vec![
            AddressAttribute::Address(ip),
            AddressAttribute::Local(ip),
            AddressAttribute::CacheInfo(lifetime),
        ];
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number) = (NLM_F_MULTIPART, 1);
        let mut message = NetlinkMessage::new(header, RouteNetlinkMessage::NewAddress(address).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    };
    vec![
        ("netlink", "v4", with(AddressFamily::Inet, 32, "192.168.77.10", u32::MAX)),
        ("netlink", "v4-lifetime", with(AddressFamily::Inet, 32, "192.168.77.10", 3)),
        ("netlink", "v6", with(AddressFamily::Inet6, 128, "fd00:77::10", u32::MAX)),
    ]
}
