//! Routes and addresses by rtnetlink(7).

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::{
    gateway::{Gateway, LocalAddress, same_network},
    netlink::{self, Message, attributes, read_u32},
};

struct Route {
    gateway: IpAddr,
    interface_index: u32,
    metric: u32,
    /// The address that the kernel prefers as source on this route.
    source: Option<IpAddr>,
}

pub(super) fn default_gateway(is_v6: bool) -> io::Result<Option<Gateway>> {
    let family = if is_v6 { AF_INET6 } else { AF_INET };
    let mut request = [0; ROUTE_BYTES];
    request[0] = family;
    let mut routes: Vec<_> = netlink::dump(None, RTM_GETROUTE, &request)?
        .iter()
        .filter_map(|message| parse_default_route(message, family))
        .collect();
    routes.sort_by_key(|route| route.metric);
    let addresses = addresses()?;
    Ok(routes.into_iter().find_map(|route| {
        let local = local_address(&route, &addresses)?;
        Some(Gateway {
            address: route.gateway,
            local: local.address,
            prefix_bits: local.prefix_bits,
            interface: local.interface.clone(),
            interface_index: route.interface_index,
        })
    }))
}

pub(super) fn addresses() -> io::Result<Vec<LocalAddress>> {
    let messages = netlink::dump(None, RTM_GETADDR, &[0; ADDRESS_BYTES])?;
    let names = InterfaceNames::open()?;
    let mut known = HashMap::new();
    let parsed = messages.iter().filter_map(parse_address);
    Ok(parsed
        .map(|mut local| {
            let index = local.interface_index;
            local.interface = known.entry(index).or_insert_with(|| names.name(index)).clone();
            local
        })
        .collect())
}

/// Our address that faces the route's gateway: the kernel's choice, else the one of its network,
/// else the first of the interface.
fn local_address<'a>(route: &Route, addresses: &'a [LocalAddress]) -> Option<&'a LocalAddress> {
    let is_v6 = route.gateway.is_ipv6();
    let of_interface = || {
        addresses.iter().filter(move |local| {
            local.interface_index == route.interface_index && local.address.is_ipv6() == is_v6
        })
    };
    let of_network =
        |local: &&LocalAddress| same_network(local.address, route.gateway, local.prefix_bits);
    of_interface()
        .find(|local| Some(local.address) == route.source)
        .or_else(|| of_interface().find(of_network))
        .or_else(|| of_interface().next())
}

/// The route of a message, if it is a default route of the main table by way of a gateway.
fn parse_default_route(message: &Message, family: u8) -> Option<Route> {
    let [found_family, destination_bits, _, _, table, _, _, kind, ..] = *message.payload.as_slice()
    else {
        return None;
    };
    if message.kind != RTM_NEWROUTE
        || found_family != family
        || destination_bits != 0
        || kind != RTN_UNICAST
    {
        return None;
    }
    let (mut gateway, mut interface_index, mut metric, mut source) = (None, None, 0, None);
    let mut table = u32::from(table);
    for (kind, value) in attributes(message.payload.get(ROUTE_BYTES..)?) {
        match kind {
            RTA_GATEWAY => gateway = address(value),
            RTA_OIF => interface_index = read_u32(value, 0),
            RTA_PRIORITY => metric = read_u32(value, 0)?,
            RTA_PREFSRC => source = address(value),
            RTA_TABLE => table = read_u32(value, 0)?,
            // Several gateways share the load: any of them will do, so the first.
            RTA_MULTIPATH => {
                interface_index = read_u32(value, 4);
                let first = attributes(value.get(8..)?).find(|(kind, _)| *kind == RTA_GATEWAY);
                gateway = first.and_then(|(_, value)| address(value));
            }
            _ => {}
        }
    }
    if table != RT_TABLE_MAIN {
        return None;
    }
    Some(Route { gateway: gateway?, interface_index: interface_index?, metric, source })
}

fn parse_address(message: &Message) -> Option<LocalAddress> {
    let [family, prefix_bits, flags, _, ..] = *message.payload.as_slice() else { return None };
    if message.kind != RTM_NEWADDR {
        return None;
    }
    let interface_index = read_u32(&message.payload, 4)?;
    let (mut local, mut peer, mut preferred) = (None, None, None);
    let mut flags = u32::from(flags);
    for (kind, value) in attributes(message.payload.get(ADDRESS_BYTES..)?) {
        match kind {
            // On point-to-point links IFA_ADDRESS is the other end, and IFA_LOCAL ours.
            IFA_ADDRESS => peer = address(value),
            IFA_LOCAL => local = address(value),
            IFA_FLAGS => flags = read_u32(value, 0)?,
            IFA_CACHEINFO => preferred = read_u32(value, 0).filter(|secs| *secs != u32::MAX),
            _ => {}
        }
    }
    Some(LocalAddress {
        address: local.or(peer)?,
        prefix_bits,
        interface: String::new(),
        interface_index,
        // For IPv4 the same bit says "secondary", which is no reason not to use an address.
        is_temporary: family == AF_INET6 && flags & IFA_F_TEMPORARY != 0,
        is_deprecated: flags & IFA_F_DEPRECATED != 0,
        is_tentative: flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) != 0,
        preferred: preferred.map(|secs| Duration::from_secs(secs.into())),
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// Names of interfaces, by a socket that exists for nothing else.
struct InterfaceNames(std::net::UdpSocket);

impl InterfaceNames {
    fn open() -> io::Result<Self> {
        std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map(Self)
    }

    fn name(&self, index: u32) -> String {
        rustix::net::netdevice::index_to_name(&self.0, index).unwrap_or_else(|_| index.to_string())
    }
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
/// Bytes of `struct rtmsg` and `struct ifaddrmsg`.
const ROUTE_BYTES: usize = 12;
const ADDRESS_BYTES: usize = 8;
const RTN_UNICAST: u8 = 1;
const RT_TABLE_MAIN: u32 = 254;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_F_TEMPORARY: u32 = 0x01;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
