//! Generators and oracles for property tests and fuzz targets. Outside semver.

use std::{net::IpAddr, time::Duration};

use crate::{
    address::stun::BindingRequest,
    portmap::{
        Handle, MapRequest, Mapping, Method, natpmp, pcp,
        upnp::{LocalUrl, description::Description, soap::Answer, ssdp::SearchResponse},
    },
};

/// A mapping as a router would grant it by UPnP, for stand-ins of routers.
#[must_use]
pub fn mapping(request: &MapRequest, lease: Option<Duration>) -> Mapping {
    let address = request.internal_address.unwrap_or(IpAddr::from([192, 168, 1, 2]));
    Mapping {
        protocol: request.protocol,
        internal: (address, request.internal_port).into(),
        external_port: request.external_port,
        external_address: None,
        lease,
        method: Method::Upnp,
        description: request.description.clone(),
        is_verified: true,
        handle: Handle::None,
    }
}

/// Whatever a datagram says, what was read from it means the same when it is written again.
///
/// # Panics
/// When it does not.
pub fn datagrams(bytes: &[u8]) {
    if let Some(response) = pcp::Response::parse(bytes)
        && !matches!(response.answer, pcp::Answer::UnsupportedVersion { .. })
    {
        assert_eq!(pcp::Response::parse(&response.encode()), Some(response));
    }
    if let Some(response) = natpmp::Response::parse(bytes) {
        assert_eq!(natpmp::Response::parse(&response.encode()), Some(response));
    }
}

/// Whatever a device answers to a search, its location is on the machine that answered.
///
/// # Panics
/// When it is not.
pub fn ssdp(bytes: &[u8]) {
    let sender = IpAddr::from([192, 168, 1, 1]);
    if let Ok(response) = SearchResponse::parse(bytes, sender) {
        assert_eq!(response.location.host().to_canonical(), sender);
        let again = LocalUrl::parse(&response.location.to_string());
        assert_eq!(again, Some(response.location));
    }
}

/// Whatever a device's XML says, every service is on that machine, and its type fits into a field.
///
/// # Panics
/// When one is not, or does not.
pub fn xml(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let location = LocalUrl::parse("http://192.168.1.1:5000/root.xml").expect("it is one");
    if let Ok(description) = Description::parse(&text, &location) {
        for service in description.connections.iter().chain(&description.firewall) {
            assert_eq!(service.control.host(), location.host());
            assert!(service.service_type.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
    let _ = Answer::parse(&text, "GetExternalIPAddress");
}

/// Whatever follows the head of an answer to our request, it is an address or nothing.
pub fn stun(bytes: &[u8]) {
    let request = BindingRequest::random();
    let _ = request.parse_response(bytes);
    // Random bytes never guess the transaction, so the attributes are put behind the right head.
    let mut datagram = request.response(([11, 0, 0, 1], 1).into());
    datagram.truncate(20);
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    if let Some(place) = datagram.get_mut(2..4) {
        place.copy_from_slice(&length);
    }
    datagram.extend(bytes);
    let _ = request.parse_response(&datagram);
}
