//! Routes and addresses where the system is not Linux.

use std::{io, net::IpAddr};

use netdev::Interface;

use crate::gateway::{Gateway, LocalAddress, same_network};

pub(super) fn default_gateway(is_v6: bool) -> io::Result<Option<Gateway>> {
    let interfaces = netdev::get_interfaces();
    Ok(interfaces.iter().find_map(|interface| {
        let device = interface.gateway.as_ref()?;
        let address: IpAddr =
            if is_v6 { (*device.ipv6.first()?).into() } else { (*device.ipv4.first()?).into() };
        let locals = || addresses_of(interface).filter(|local| local.address.is_ipv6() == is_v6);
        let shares = |local: &LocalAddress| same_network(local.address, address, local.prefix_bits);
        let local = locals().find(shares).or_else(|| locals().next())?;
        Some(Gateway {
            address,
            local: local.address,
            prefix_bits: local.prefix_bits,
            interface: local.interface,
            interface_index: interface.index,
        })
    }))
}

pub(super) fn addresses() -> io::Result<Vec<LocalAddress>> {
    Ok(netdev::get_interfaces().iter().flat_map(addresses_of).collect())
}

fn addresses_of(interface: &Interface) -> impl Iterator<Item = LocalAddress> {
    let v4 = interface.ipv4.iter().map(|net| (IpAddr::V4(net.addr()), net.prefix_len()));
    let v6 = interface.ipv6.iter().map(|net| (IpAddr::V6(net.addr()), net.prefix_len()));
    v4.chain(v6).map(|(address, prefix_bits)| LocalAddress {
        address,
        prefix_bits,
        interface: interface.name.clone(),
        interface_index: interface.index,
        is_temporary: false,
        is_deprecated: false,
        is_tentative: false,
        preferred: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways to ask agree, wherever this runs.
    #[test]
    fn says_what_the_kernel_says() {
        let kernel = crate::gateway::linux::addresses().unwrap();
        let key =
            |local: &LocalAddress| (local.interface.clone(), local.address, local.prefix_bits);
        let mut wanted: Vec<_> = kernel.iter().map(key).collect();
        let mut found: Vec<_> = addresses().unwrap().iter().map(key).collect();
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted);
        let wanted = crate::gateway::linux::default_gateway(false).unwrap();
        let found = default_gateway(false).unwrap();
        let key = |gateway: Gateway| (gateway.address, gateway.local, gateway.interface);
        assert_eq!(found.map(key), wanted.map(key));
    }
}
