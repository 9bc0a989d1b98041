//! PCP and NAT-PMP as a mapper uses them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::MapperOptions;
use crate::{
    gateway::Gateway,
    portmap::{
        Handle, MapError, MapRequest, Mapping, Method, Protocol, RouterCode, natpmp, pcp,
        udp::{self, NoAnswer, Schedule},
    },
};

/// A server of either protocol: they share a port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Datagrams {
    server: SocketAddr,
    local: IpAddr,
    schedule: Schedule,
}

impl Datagrams {
    pub(super) fn new(gateway: &Gateway, options: &MapperOptions) -> Self {
        let server = match gateway.address {
            // Link-local addresses need their interface; for others the scope is ignored.
            IpAddr::V6(address) => {
                SocketAddrV6::new(address, options.pcp_port, 0, gateway.interface_index).into()
            }
            IpAddr::V4(address) => SocketAddr::new(address.into(), options.pcp_port),
        };
        // RFC 6886 §3.1 begins with 250 ms, which is better suited to a router next door than the
        // 3 s of RFC 6887.
        let schedule =
            Schedule { first: Duration::from_millis(250), total: options.request_timeout };
        Self { server, local: gateway.local, schedule }
    }

    pub(super) fn with_schedule(self, schedule: Schedule) -> Self {
        Self { schedule, ..self }
    }

    /// The router's epoch, which also shows that it speaks PCP.
    pub(super) async fn pcp_epoch(&self) -> Result<u32, MapError> {
        Ok(self.pcp(pcp::Operation::Announce).await?.epoch)
    }

    /// A mapping at one of the ports that will do.
    pub(super) async fn pcp_map(
        &self,
        request: &MapRequest,
        secret: &[u8; 32],
    ) -> Result<Mapping, MapError> {
        let (protocol, internal_port) = (request.protocol, request.internal_port);
        let nonce = self.nonce(secret, protocol, internal_port);
        let is_pinhole = self.local.is_ipv6();
        let wanted = if is_pinhole { internal_port } else { request.external_port };
        let lifetime = request.lease_secs();
        let operation = map(nonce, protocol, internal_port, wanted, self.local, lifetime);
        let response = self.pcp(operation).await.map_err(|error| taken(error, request))?;
        let pcp::Answer::Map { external_port, external_address, .. } = response.answer else {
            return Err(MapError::Protocol { method: Method::Pcp, what: "it is no mapping" });
        };
        // A server may give any other port. One that was not asked for is given back.
        if external_port != wanted
            && (is_pinhole || !request.external_ports().any(|port| port == external_port))
        {
            let _ = self.pcp_unmap(protocol, internal_port, nonce).await;
            return Err(port_taken(request));
        }
        Ok(Mapping {
            protocol,
            internal: SocketAddr::new(self.local, internal_port),
            external_port,
            external_address: Some(external_address),
            lease: Some(Duration::from_secs(response.lifetime.into())),
            method: Method::Pcp,
            description: request.plain_description(),
            is_verified: false,
            handle: Handle::PcpNonce(nonce),
        })
    }

    pub(super) async fn pcp_unmap(
        &self,
        protocol: Protocol,
        internal_port: u16,
        nonce: [u8; 12],
    ) -> Result<(), MapError> {
        let operation = map(nonce, protocol, internal_port, 0, self.local, 0);
        match self.pcp(operation).await {
            // RFC 6887 §15.1 wants success where nothing is there to be deleted, but miniupnpd says that
            // it has no resources, which a deletion does not need.
            Err(MapError::TableFull { .. }) => Ok(()),
            // It also forgets whose a pinhole is, and so refuses to close it. Then it shall at least
            // end soon: servers round this up to their minimum, usually two minutes.
            Err(MapError::Refused { .. }) if self.local.is_ipv6() => {
                let soon = map(nonce, protocol, internal_port, internal_port, self.local, 1);
                self.pcp(soon).await.map(|_| ())
            }
            result => result.map(|_| ()),
        }
    }

    /// RFC 6887 §11.6: a short mapping of the discard port tells the external address.
    pub(super) async fn pcp_external_address(
        &self,
        secret: &[u8; 32],
    ) -> Result<Ipv4Addr, MapError> {
        let nonce = self.nonce(secret, Protocol::Udp, DISCARD_PORT);
        let operation = map(nonce, Protocol::Udp, DISCARD_PORT, 0, self.local, 30);
        let response = self.pcp(operation).await?;
        let _ = self.pcp_unmap(Protocol::Udp, DISCARD_PORT, nonce).await;
        match response.answer {
            pcp::Answer::Map { external_address: IpAddr::V4(address), .. }
                if !address.is_unspecified() =>
            {
                Ok(address)
            }
            _ => Err(MapError::NotConnected { code: None }),
        }
    }

    /// The nonce of a mapping: the same for the same secret, so that it can be renewed and deleted.
    pub(super) fn nonce(&self, secret: &[u8; 32], protocol: Protocol, port: u16) -> [u8; 12] {
        let mut hash = Sha256::new();
        hash.update(secret);
        hash.update(self.local.to_string());
        hash.update([protocol.number()]);
        hash.update(port.to_be_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        *digest.first_chunk().expect("12 are less than 32")
    }

    async fn pcp(&self, operation: pcp::Operation) -> Result<pcp::Response, MapError> {
        let request = pcp::Request::new(self.local, operation);
        let accept = |datagram: &[u8]| {
            pcp::Response::parse(datagram).filter(|response| request.is_answered_by(response))
        };
        let bytes = request.encode();
        let answer = udp::exchange(self.server, self.local, &bytes, self.schedule, accept).await;
        let response = answer.map_err(|error| no_answer(error, Method::Pcp))?;
        match response.result {
            0 => Ok(response),
            result => Err(pcp_error(result, self.local)),
        }
    }

    /// Any answer shows that NAT-PMP is spoken, except that this version is not.
    pub(super) async fn natpmp_probe(&self) -> bool {
        match self.natpmp_external_address().await {
            Ok(_) | Err(MapError::NotConnected { .. } | MapError::Refused { .. }) => true,
            Err(_) => false,
        }
    }

    pub(super) async fn natpmp_external_address(&self) -> Result<Ipv4Addr, MapError> {
        match self.natpmp(natpmp::Request::ExternalAddress).await?.answer {
            natpmp::Answer::ExternalAddress(address) if !address.is_unspecified() => Ok(address),
            _ => Err(MapError::NotConnected { code: None }),
        }
    }

    pub(super) async fn natpmp_epoch(&self) -> Result<u32, MapError> {
        Ok(self.natpmp(natpmp::Request::ExternalAddress).await?.epoch)
    }

    pub(super) async fn natpmp_map(&self, request: &MapRequest) -> Result<Mapping, MapError> {
        let (protocol, internal_port) = (request.protocol, request.internal_port);
        let wish = natpmp::Request::Map {
            protocol,
            internal_port,
            external_port: request.external_port,
            lifetime: request.lease_secs(),
        };
        let response = self.natpmp(wish).await?;
        let natpmp::Answer::Map { external_port, lifetime, .. } = response.answer else {
            return Err(MapError::Protocol { method: Method::NatPmp, what: "it is no mapping" });
        };
        if !request.external_ports().any(|port| port == external_port) {
            let _ = self.natpmp_unmap(protocol, internal_port).await;
            return Err(port_taken(request));
        }
        Ok(Mapping {
            protocol,
            internal: SocketAddr::new(self.local, internal_port),
            external_port,
            external_address: None,
            lease: Some(Duration::from_secs(lifetime.into())),
            method: Method::NatPmp,
            description: request.plain_description(),
            is_verified: false,
            handle: Handle::None,
        })
    }

    pub(super) async fn natpmp_unmap(
        &self,
        protocol: Protocol,
        internal_port: u16,
    ) -> Result<(), MapError> {
        // RFC 6886 §3.4: a deletion asks for no external port.
        let wish = natpmp::Request::Map { protocol, internal_port, external_port: 0, lifetime: 0 };
        self.natpmp(wish).await.map(|_| ())
    }

    async fn natpmp(&self, request: natpmp::Request) -> Result<natpmp::Response, MapError> {
        let accept = |datagram: &[u8]| {
            natpmp::Response::parse(datagram).filter(|response| request.is_answered_by(response))
        };
        let bytes = request.encode();
        let answer = udp::exchange(self.server, self.local, &bytes, self.schedule, accept).await;
        let response = answer.map_err(|error| no_answer(error, Method::NatPmp))?;
        match response.answer {
            natpmp::Answer::Failed { result, .. } => Err(natpmp_error(result)),
            _ => Ok(response),
        }
    }
}

fn map(
    nonce: [u8; 12],
    protocol: Protocol,
    internal_port: u16,
    external_port: u16,
    local: IpAddr,
    lifetime: u32,
) -> pcp::Operation {
    pcp::Operation::Map {
        nonce,
        protocol,
        internal_port,
        external_port,
        external_address: pcp::any_address(local),
        lifetime,
        // Not every server knows the option; another port than the wanted one is given back instead.
        prefers_failure: false,
    }
}

fn no_answer(error: NoAnswer, method: Method) -> MapError {
    match error {
        NoAnswer::Io(error) => error.into(),
        NoAnswer::Refused => MapError::Unsupported { method, what: "be reached: nobody listens" },
        NoAnswer::Timeout => MapError::Timeout { method },
    }
}

fn pcp_error(result: u8, local: IpAddr) -> MapError {
    let method = Method::Pcp;
    let code = RouterCode::named(result.into(), pcp::result_name(result));
    match result {
        pcp::UNSUPPORTED_VERSION => MapError::Unsupported { method, what: "speak this version" },
        pcp::UNSUPPORTED_OPCODE => MapError::Unsupported { method, what: "map ports" },
        pcp::NOT_AUTHORIZED => MapError::Refused { method, code },
        pcp::NETWORK_FAILURE => MapError::NotConnected { code: Some(code) },
        pcp::NO_RESOURCES | pcp::USER_EX_QUOTA => MapError::TableFull { code },
        pcp::ADDRESS_MISMATCH => MapError::SecureMode { internal: local, code },
        _ => MapError::Router { method, code },
    }
}

fn natpmp_error(result: u16) -> MapError {
    let method = Method::NatPmp;
    let code = RouterCode::named(result, natpmp::result_name(result));
    match result {
        1 => MapError::Unsupported { method, what: "speak this version" },
        2 => MapError::Refused { method, code },
        3 => MapError::NotConnected { code: Some(code) },
        4 => MapError::TableFull { code },
        5 => MapError::Unsupported { method, what: "do what was asked" },
        _ => MapError::Router { method, code },
    }
}

/// PCP's name for a port that somebody else has.
fn taken(error: MapError, request: &MapRequest) -> MapError {
    match &error {
        MapError::Router { code, .. } if code.number == u16::from(pcp::CANNOT_PROVIDE_EXTERNAL) => {
            port_taken(request)
        }
        _ => error,
    }
}

fn port_taken(request: &MapRequest) -> MapError {
    MapError::PortTaken {
        protocol: request.protocol,
        external_port: request.external_port,
        owner: None,
        description: String::new(),
    }
}

/// RFC 863.
const DISCARD_PORT: u16 = 9;
