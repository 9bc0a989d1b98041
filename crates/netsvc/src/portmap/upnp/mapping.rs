//! Mappings and pinholes by UPnP, with what routers are known to do.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    time::Duration,
};

use super::igd::{CallError, Igd, value};
use crate::portmap::{
    Handle, ListedMapping, MapError, MapRequest, Mapping, Method, Presence, Protocol, RouterCode,
};

/// What stands at one port of the router's table.
struct Entry {
    client: Option<IpAddr>,
    internal_port: u16,
    description: String,
    lease: Option<Duration>,
}

impl Igd {
    /// Makes or renews a mapping, and looks whether it is there.
    ///
    /// A mapping of another machine is never replaced, although many routers would do so.
    pub(crate) async fn map(
        &self,
        request: &MapRequest,
        internal: SocketAddrV4,
    ) -> Result<Mapping, MapError> {
        let mut taken = None;
        for external_port in request.external_ports() {
            match self.map_port(request, internal, external_port).await {
                Err(error @ MapError::PortTaken { .. }) => {
                    taken.get_or_insert(error);
                }
                result => return result,
            }
        }
        Err(taken.expect("at least one port is tried"))
    }

    async fn map_port(
        &self,
        request: &MapRequest,
        internal: SocketAddrV4,
        external_port: u16,
    ) -> Result<Mapping, MapError> {
        let existing = self.entry(request.protocol, external_port).await;
        if let Ok(Some(entry)) = &existing
            && !entry.is_ours(request, internal)
        {
            return Err(entry.taken(request.protocol, external_port));
        }
        let lease = self.add_with_some_lease(request, internal, external_port).await?;
        let mut mapping = Mapping {
            protocol: request.protocol,
            internal: internal.into(),
            external_port,
            external_address: None,
            lease: (lease > 0).then(|| Duration::from_secs(lease.into())),
            method: Method::Upnp,
            description: request.plain_description(),
            is_verified: false,
            handle: Handle::None,
        };
        self.confirm(&mut mapping, request, internal).await?;
        Ok(mapping)
    }

    /// A router's "yes" is worth what its table says.
    async fn confirm(
        &self,
        mapping: &mut Mapping,
        request: &MapRequest,
        internal: SocketAddrV4,
    ) -> Result<(), MapError> {
        let (protocol, external_port) = (mapping.protocol, mapping.external_port);
        for pause in [Duration::ZERO, Duration::from_millis(300)] {
            // Some routers take a moment to write their table.
            tokio::time::sleep(pause).await;
            match self.entry(protocol, external_port).await {
                Ok(Some(entry)) if entry.leads_to(internal) => {
                    mapping.is_verified = true;
                    // Some cap leases and tell so only here.
                    if let (Some(asked), Some(granted)) = (mapping.lease, entry.lease) {
                        mapping.lease = Some(asked.min(granted));
                    }
                    return Ok(());
                }
                Ok(Some(entry)) if !entry.is_ours(request, internal) => {
                    return Err(entry.taken(protocol, external_port));
                }
                Ok(_) => {}
                // A router that cannot show its table is believed.
                Err(_) => return Ok(()),
            }
        }
        Err(MapError::NotKept { protocol, external_port })
    }

    /// Tries the lease that is asked for, then shorter ones, then none; answers what was accepted.
    async fn add_with_some_lease(
        &self,
        request: &MapRequest,
        internal: SocketAddrV4,
        external_port: u16,
    ) -> Result<u32, MapError> {
        let asked = request.lease_secs().min(LEASE_SECS_MAX);
        let mut ladder = vec![asked];
        ladder.extend((asked > LEASE_SECS_FALLBACK).then_some(LEASE_SECS_FALLBACK));
        ladder.push(0);
        let mut is_conflict_resolved = false;
        let mut rung = 0;
        let mut refusal = None;
        while let Some(lease) = ladder.get(rung).copied() {
            let error = match self.add(request, internal, external_port, lease).await {
                Ok(()) => return Ok(lease),
                Err(CallError::Other(error)) => return Err(error),
                Err(CallError::Fault(code)) => code,
            };
            match error.number {
                // Invalid arguments: in this case usually the lease.
                402 => rung += 1,
                // OnlyPermanentLeasesSupported.
                725 if lease > 0 => rung = ladder.len() - 1,
                718 if !is_conflict_resolved => {
                    is_conflict_resolved = true;
                    self.resolve_conflict(request, internal, external_port, &error).await?;
                }
                _ => return Err(self.translate(request, internal, external_port, error)),
            }
            refusal = Some(error);
        }
        let code = refusal.expect("the ladder has a rung");
        Err(MapError::LeaseRefused { code })
    }

    /// After 718: makes room where the mapping in the way is our own.
    async fn resolve_conflict(
        &self,
        request: &MapRequest,
        internal: SocketAddrV4,
        external_port: u16,
        code: &RouterCode,
    ) -> Result<(), MapError> {
        match self.entry(request.protocol, external_port).await {
            Ok(Some(entry)) if entry.is_ours(request, internal) => {
                self.remove(request.protocol, external_port).await
            }
            Ok(Some(entry)) => Err(entry.taken(request.protocol, external_port)),
            // miniupnpd speaks of a conflict when it is asked for another machine than the sender.
            Ok(None) if *internal.ip() != self.local => {
                let internal = (*internal.ip()).into();
                Err(MapError::SecureMode { internal, code: code.clone() })
            }
            // The router does not say who is in the way: nothing of ours, as far as we know.
            _ => Err(MapError::PortTaken {
                protocol: request.protocol,
                external_port,
                owner: None,
                description: String::new(),
            }),
        }
    }

    async fn add(
        &self,
        request: &MapRequest,
        internal: SocketAddrV4,
        external_port: u16,
        lease: u32,
    ) -> Result<(), CallError> {
        let arguments = [
            ("NewRemoteHost", ""),
            ("NewExternalPort", &external_port.to_string()),
            ("NewProtocol", &request.protocol.to_string()),
            ("NewInternalPort", &internal.port().to_string()),
            ("NewInternalClient", &internal.ip().to_string()),
            ("NewEnabled", "1"),
            ("NewPortMappingDescription", &request.plain_description()),
            ("NewLeaseDuration", &lease.to_string()),
        ];
        self.call(&self.connection, "AddPortMapping", &arguments).await.map(|_| ())
    }

    /// What a refusal of `AddPortMapping` means.
    fn translate(
        &self,
        request: &MapRequest,
        internal: SocketAddrV4,
        external_port: u16,
        code: RouterCode,
    ) -> MapError {
        let protocol = request.protocol;
        match code.number {
            606 | 501 if *internal.ip() != self.local => {
                MapError::SecureMode { internal: (*internal.ip()).into(), code }
            }
            718 => MapError::PortTaken {
                protocol,
                external_port,
                owner: None,
                description: String::new(),
            },
            724 => MapError::PortsMustMatch,
            729 => MapError::ManualForward { protocol, external_port },
            _ => CallError::Fault(code).into_map_error(),
        }
    }

    /// What the router's table says about a port. `Ok(None)`: nothing.
    async fn entry(&self, protocol: Protocol, port: u16) -> Result<Option<Entry>, CallError> {
        let arguments = [
            ("NewRemoteHost", ""),
            ("NewExternalPort", &port.to_string()),
            ("NewProtocol", &protocol.to_string()),
        ];
        let call = self.call(&self.connection, "GetSpecificPortMappingEntry", &arguments).await;
        let results = match call {
            Ok(results) => results,
            Err(error) if error.number() == Some(NO_SUCH_ENTRY) => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = |name| value(&results, name).unwrap_or_default();
        let lease = text("NewLeaseDuration").parse().unwrap_or(0);
        Ok(Some(Entry {
            client: text("NewInternalClient").parse().ok(),
            internal_port: text("NewInternalPort").parse().unwrap_or(0),
            description: text("NewPortMappingDescription").to_owned(),
            lease: (lease > 0).then(|| Duration::from_secs(lease)),
        }))
    }

    /// Whether a mapping is still in the table.
    pub(crate) async fn check(&self, mapping: &Mapping) -> Result<Presence, MapError> {
        let internal = match (mapping.internal, mapping.handle) {
            (SocketAddr::V4(internal), _) => internal,
            (SocketAddr::V6(internal), Handle::Pinhole(id)) => {
                return self.check_pinhole(*internal.ip(), id).await;
            }
            (SocketAddr::V6(_), _) => return Ok(Presence::Unknown),
        };
        match self.entry(mapping.protocol, mapping.external_port).await {
            Ok(Some(entry)) if entry.leads_to(internal) => Ok(Presence::Present),
            Ok(_) => Ok(Presence::Absent),
            Err(CallError::Fault(_)) => Ok(Presence::Unknown),
            Err(CallError::Other(error)) => Err(error),
        }
    }

    /// Deletes a mapping that leads to this machine. That there is none is no error.
    pub(crate) async fn unmap(
        &self,
        protocol: Protocol,
        external_port: u16,
        internal: Ipv4Addr,
    ) -> Result<(), MapError> {
        if let Ok(entry) = self.entry(protocol, external_port).await {
            match entry {
                None => return Ok(()),
                Some(Entry { client: Some(owner), .. }) if owner != IpAddr::V4(internal) => {
                    return Err(MapError::Foreign { protocol, external_port, owner });
                }
                Some(_) => {}
            }
        }
        self.remove(protocol, external_port).await
    }

    async fn remove(&self, protocol: Protocol, external_port: u16) -> Result<(), MapError> {
        let arguments = [
            ("NewRemoteHost", ""),
            ("NewExternalPort", &external_port.to_string()),
            ("NewProtocol", &protocol.to_string()),
        ];
        match self.call(&self.connection, "DeletePortMapping", &arguments).await {
            Err(error) if error.number() != Some(NO_SUCH_ENTRY) => Err(error.into_map_error()),
            _ => Ok(()),
        }
    }

    /// Every mapping in the table, of this machine and of others.
    pub(crate) async fn list(&self) -> Result<Vec<ListedMapping>, MapError> {
        let mut listed: Vec<ListedMapping> = Vec::new();
        for index in 0..ENTRIES_MAX {
            let arguments = [("NewPortMappingIndex", &*index.to_string())];
            let call = self.call(&self.connection, "GetGenericPortMappingEntry", &arguments).await;
            let results = match call {
                Ok(results) => results,
                // SpecifiedArrayIndexInvalid, NoSuchEntryInArray, and what others say at the end.
                Err(error) if matches!(error.number(), Some(713 | NO_SUCH_ENTRY | 402)) => break,
                Err(error) => return Err(error.into_map_error()),
            };
            let Some(mapping) = listed_mapping(&results) else { continue };
            // Some routers repeat their last entry for ever.
            if listed.last() == Some(&mapping) {
                break;
            }
            listed.push(mapping);
        }
        Ok(listed)
    }

    /// Opens the firewall for an IPv6 address.
    pub(crate) async fn open_pinhole(
        &self,
        request: &MapRequest,
        internal: SocketAddrV6,
    ) -> Result<Mapping, MapError> {
        let method = Method::Upnp;
        let address = *internal.ip();
        let status = self.call_firewall(address, "GetFirewallStatus", &[]).await;
        let status = status.map_err(CallError::into_map_error)?;
        let is_set = |name| matches!(value(&status, name), Some("1" | "true" | "yes"));
        if is_set("FirewallEnabled") && !is_set("InboundPinholeAllowed") {
            let code = RouterCode::named(703, "InboundPinholeNotAllowed");
            return Err(MapError::Refused { method, code });
        }
        let lease = request.lease_secs().min(PINHOLE_SECS_MAX);
        let arguments = [
            ("RemoteHost", ""),
            ("RemotePort", "0"),
            ("InternalClient", &*internal.ip().to_string()),
            ("InternalPort", &*internal.port().to_string()),
            ("Protocol", &*request.protocol.number().to_string()),
            ("LeaseTime", &*lease.to_string()),
        ];
        let results = self.call_firewall(address, "AddPinhole", &arguments).await;
        let results = results.map_err(CallError::into_map_error)?;
        let id = value(&results, "UniqueID").and_then(|id| id.parse().ok());
        let id = id.ok_or(MapError::Protocol { method, what: "a pinhole without an id" })?;
        let is_verified = self.check_pinhole(address, id).await == Ok(Presence::Present);
        Ok(Mapping {
            protocol: request.protocol,
            internal: internal.into(),
            external_port: internal.port(),
            external_address: Some((*internal.ip()).into()),
            lease: Some(Duration::from_secs(lease.into())),
            method,
            description: request.plain_description(),
            is_verified,
            handle: Handle::Pinhole(id),
        })
    }

    /// Prolongs a pinhole, and answers for how long. An error means that it has to be opened anew.
    pub(crate) async fn renew_pinhole(
        &self,
        internal: Ipv6Addr,
        id: u16,
        request: &MapRequest,
    ) -> Result<Duration, MapError> {
        let lease = request.lease_secs().min(PINHOLE_SECS_MAX);
        let arguments = [("UniqueID", &*id.to_string()), ("NewLeaseTime", &*lease.to_string())];
        let call = self.call_firewall(internal, "UpdatePinhole", &arguments).await;
        call.map_err(CallError::into_map_error)?;
        Ok(Duration::from_secs(lease.into()))
    }

    pub(crate) async fn close_pinhole(&self, internal: Ipv6Addr, id: u16) -> Result<(), MapError> {
        let arguments = [("UniqueID", &*id.to_string())];
        match self.call_firewall(internal, "DeletePinhole", &arguments).await {
            Err(error) if error.number() != Some(NO_SUCH_PINHOLE) => Err(error.into_map_error()),
            _ => Ok(()),
        }
    }

    /// Packets through a pinhole are counted, which tells whether it exists; `CheckPinholeWorking`
    /// would need traffic.
    async fn check_pinhole(&self, internal: Ipv6Addr, id: u16) -> Result<Presence, MapError> {
        let arguments = [("UniqueID", &*id.to_string())];
        match self.call_firewall(internal, "GetPinholePackets", &arguments).await {
            Ok(_) => Ok(Presence::Present),
            Err(error) if error.number() == Some(NO_SUCH_PINHOLE) => Ok(Presence::Absent),
            Err(CallError::Fault(_)) => Ok(Presence::Unknown),
            Err(CallError::Other(error)) => Err(error),
        }
    }
}

impl Entry {
    fn leads_to(&self, internal: SocketAddrV4) -> bool {
        self.client == Some((*internal.ip()).into()) && self.internal_port == internal.port()
    }

    /// Made by us, now or in an earlier life.
    fn is_ours(&self, request: &MapRequest, internal: SocketAddrV4) -> bool {
        let is_same_machine = self.client == Some((*internal.ip()).into());
        let is_same_purpose = self.description == request.plain_description();
        is_same_machine && (is_same_purpose || self.internal_port == internal.port())
    }

    fn taken(&self, protocol: Protocol, external_port: u16) -> MapError {
        let plain = self.description.chars().filter(|char| !char.is_control()).take(80);
        let description = plain.collect();
        MapError::PortTaken { protocol, external_port, owner: self.client, description }
    }
}

fn listed_mapping(results: &[(String, String)]) -> Option<ListedMapping> {
    let text = |name| value(results, name).unwrap_or_default();
    let protocol = match text("NewProtocol") {
        protocol if protocol.eq_ignore_ascii_case("tcp") => Protocol::Tcp,
        protocol if protocol.eq_ignore_ascii_case("udp") => Protocol::Udp,
        _ => return None,
    };
    let client: IpAddr = text("NewInternalClient").parse().ok()?;
    let lease = text("NewLeaseDuration").parse().unwrap_or(0);
    let description = text("NewPortMappingDescription").chars();
    Some(ListedMapping {
        protocol,
        external_port: text("NewExternalPort").parse().ok()?,
        internal: SocketAddr::new(client, text("NewInternalPort").parse().ok()?),
        is_enabled: !matches!(text("NewEnabled"), "0" | "false" | "no"),
        description: description.filter(|char| !char.is_control()).take(128).collect(),
        lease: (lease > 0).then(|| Duration::from_secs(lease)),
        remote_host: text("NewRemoteHost").parse().ok(),
    })
}

/// A week: IGD:2 allows no more, and some routers of version 1 refuse more.
const LEASE_SECS_MAX: u32 = 604_800;
/// What routers accept that refuse two hours.
const LEASE_SECS_FALLBACK: u32 = 3600;
/// WANIPv6FirewallControl §2.2.9.
const PINHOLE_SECS_MAX: u32 = 86_400;
const NO_SUCH_ENTRY: u16 = 714;
const NO_SUCH_PINHOLE: u16 = 704;
const ENTRIES_MAX: u32 = 1024;
