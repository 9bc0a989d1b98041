//! Finds what the router speaks, and asks it.

mod datagram;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use tokio::time::{Instant, timeout};

use self::datagram::Datagrams;
use super::{
    Handle, ListedMapping, MapError, MapRequest, Mapping, Method, Presence, Protocol, RouterClock,
    udp::Schedule,
    upnp::{Igd, ssdp},
};
use crate::gateway::{self, Gateway};

/// Options of a [`PortMapper`]. Start from the default and change fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MapperOptions {
    /// The router. Default `None`: the system's default gateway, looked up at each discovery.
    pub gateway: Option<Gateway>,
    /// What is spoken. Each is tried in the order PCP, NAT-PMP, UPnP. Default all three.
    pub methods: Vec<Method>,
    /// The port of PCP and NAT-PMP. Default 5351.
    pub pcp_port: u16,
    /// Where SSDP searches. Default 239.255.255.250:1900.
    pub ssdp_group: SocketAddrV4,
    /// How long PCP and NAT-PMP are probed. Default 500 ms.
    pub probe_timeout: Duration,
    /// How long SSDP searches. Default 1 s.
    pub search_timeout: Duration,
    /// How long a request may take, repeats included. Default 4 s.
    pub request_timeout: Duration,
    /// For how long the result of a discovery is trusted. Default 10 min.
    pub trust: Duration,
    /// Makes PCP's nonces, so that a later process can change what this one left behind. Default
    /// `None`: random, and mappings that were left behind stay until their lease ends.
    pub pcp_secret: Option<[u8; 32]>,
}

/// A router that maps ports.
///
/// Cheap to share behind an `Arc`; methods take `&self`. Nothing runs in the background.
#[derive(Debug)]
pub struct PortMapper {
    options: MapperOptions,
    pcp_secret: [u8; 32],
    found: RwLock<Arc<Found>>,
}

/// What a discovery found.
struct Found {
    at: Instant,
    gateway: Gateway,
    pcp: Option<Datagrams>,
    natpmp: Option<Datagrams>,
    igd: Option<Igd>,
}

impl Default for MapperOptions {
    fn default() -> Self {
        Self {
            gateway: None,
            methods: vec![Method::Pcp, Method::NatPmp, Method::Upnp],
            pcp_port: 5351,
            ssdp_group: SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900),
            probe_timeout: Duration::from_millis(500),
            search_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(4),
            trust: Duration::from_secs(600),
            pcp_secret: None,
        }
    }
}

impl PortMapper {
    /// Finds the router and what it speaks, all protocols at once.
    ///
    /// # Errors
    /// [`MapError::NoGateway`], [`MapError::NoRouter`], or why the only answer was refused.
    ///
    /// # Cancel safety
    /// Nothing is changed anywhere by dropping the future.
    pub async fn discover(options: MapperOptions) -> Result<Self, MapError> {
        let pcp_secret = match options.pcp_secret {
            Some(secret) => secret,
            None => crate::random::bytes(),
        };
        let found = discover(&options).await?;
        Ok(Self { options, pcp_secret, found: RwLock::new(Arc::new(found)) })
    }

    /// Looks again, for example after a change of network.
    ///
    /// # Errors
    /// As [`discover`](Self::discover); then what was found earlier stays in use.
    ///
    /// # Cancel safety
    /// What was found earlier stays in use.
    pub async fn rediscover(&self) -> Result<(), MapError> {
        let found = discover(&self.options).await?;
        *self.found.write() = Arc::new(found);
        Ok(())
    }

    /// The router, and our address on its network.
    #[must_use]
    pub fn gateway(&self) -> Gateway {
        self.found.read().gateway.clone()
    }

    /// What the router speaks, in the order in which it is used.
    #[must_use]
    pub fn methods(&self) -> Vec<Method> {
        let found = self.found.read();
        let known = [
            found.pcp.is_some().then_some(Method::Pcp),
            found.natpmp.is_some().then_some(Method::NatPmp),
            found.igd.is_some().then_some(Method::Upnp),
        ];
        known.into_iter().flatten().collect()
    }

    /// Manufacturer and model as the router tells by UPnP; empty where it does not.
    #[must_use]
    pub fn router_name(&self) -> String {
        self.found.read().igd.as_ref().map(|igd| igd.name.clone()).unwrap_or_default()
    }

    /// The router's external IPv4 address. It may be a private one: then there is another router
    /// behind it, which maps nothing.
    ///
    /// # Errors
    /// Why nobody told.
    ///
    /// # Cancel safety
    /// Nothing is changed by dropping the future, but PCP's mapping of port 9 may stay for its 30 s.
    pub async fn external_address(&self) -> Result<Ipv4Addr, MapError> {
        let found = self.fresh().await?;
        let mut worst = None;
        if let Some(natpmp) = &found.natpmp {
            match natpmp.natpmp_external_address().await {
                Ok(address) => return Ok(address),
                Err(error) => worst = heavier(worst, error),
            }
        }
        if let Some(igd) = &found.igd {
            match igd.external_address().await {
                Ok(address) => return Ok(address),
                Err(error) => worst = heavier(worst, error),
            }
        }
        if let Some(pcp) = &found.pcp {
            match pcp.pcp_external_address(&self.pcp_secret).await {
                Ok(address) => return Ok(address),
                Err(error) => worst = heavier(worst, error),
            }
        }
        Err(worst.unwrap_or(MapError::NoRouter { gateway: found.gateway.address }))
    }

    /// Makes a mapping, or renews the one that is there for the same port.
    ///
    /// The protocols are tried in order until one agrees; where none does, the error is the one
    /// that tells most. A mapping of another machine is never replaced.
    ///
    /// # Errors
    /// [`MapError`].
    ///
    /// # Cancel safety
    /// The router may or may not have made the mapping; it ends with its lease. Asking again for the
    /// same is harmless.
    pub async fn add(&self, request: &MapRequest) -> Result<Mapping, MapError> {
        let found = self.fresh().await?;
        if let Some(IpAddr::V6(address)) = request.internal_address {
            let internal = SocketAddrV6::new(address, request.internal_port, 0, 0);
            return self.open_pinhole(&found, request, internal).await;
        }
        let own = ipv4(found.gateway.local)?;
        let internal = match request.internal_address {
            Some(IpAddr::V4(address)) => address,
            _ => own,
        };
        let internal = SocketAddrV4::new(internal, request.internal_port);
        let mut worst = None;
        // PCP and NAT-PMP map to the sender only; for another machine there is UPnP.
        if internal.ip() == &own {
            if let Some(pcp) = &found.pcp {
                match pcp.pcp_map(request, &self.pcp_secret).await {
                    Ok(mapping) => return Ok(verified(mapping, &found).await),
                    Err(error) => worst = heavier(worst, error),
                }
            }
            if let Some(natpmp) = &found.natpmp {
                match natpmp.natpmp_map(request).await {
                    Ok(mapping) => return Ok(verified(mapping, &found).await),
                    Err(error) => worst = heavier(worst, error),
                }
            }
        }
        if let Some(igd) = &found.igd {
            match igd.map(request, internal).await {
                Ok(mapping) => return Ok(mapping),
                // UPnP knows whose a port is: among errors of the same weight its is the better.
                Err(error) if worst.as_ref().is_none_or(|w| w.weight() <= error.weight()) => {
                    worst = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(worst.unwrap_or(MapError::Unsupported {
            method: Method::Upnp,
            what: "be found, and only it maps ports for other machines",
        }))
    }

    /// Prolongs a mapping that [`add`](Self::add) made for the same request, in the way in which it was
    /// made; where that does not work any more, it is made anew.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    ///
    /// # Cancel safety
    /// As [`add`](Self::add).
    pub async fn renew(
        &self,
        mapping: &Mapping,
        request: &MapRequest,
    ) -> Result<Mapping, MapError> {
        let found = self.fresh().await?;
        // A renewal shall not move to another port.
        let same = MapRequest {
            external_port: mapping.external_port,
            external_port_choices: 1,
            ..request.clone()
        };
        let renewed = match (mapping.method, mapping.handle, mapping.internal, &found.igd) {
            (Method::Upnp, Handle::Pinhole(id), SocketAddr::V6(internal), Some(igd)) => igd
                .renew_pinhole(*internal.ip(), id, request)
                .await
                .map(|lease| Mapping { lease: Some(lease), ..mapping.clone() }),
            (Method::Upnp, Handle::None, SocketAddr::V4(internal), Some(igd)) => {
                igd.map(&same, internal).await
            }
            (Method::Pcp, ..) => match self.pcp_for(&found, mapping.internal) {
                Ok(pcp) => pcp.pcp_map(&same, &self.pcp_secret).await,
                Err(error) => Err(error),
            },
            (Method::NatPmp, ..) => self.datagrams(&found.gateway).natpmp_map(&same).await,
            _ => return self.add(request).await,
        };
        match renewed {
            Ok(renewed) if mapping.method != Method::Upnp => Ok(verified(renewed, &found).await),
            Ok(renewed) => Ok(renewed),
            Err(error) => {
                tracing::debug!(%error, method = %mapping.method, "a mapping cannot be renewed");
                self.add(request).await
            }
        }
    }

    /// Whether a mapping is still there.
    ///
    /// # Errors
    /// Why the router did not tell.
    ///
    /// # Cancel safety
    /// Nothing is changed by dropping the future.
    pub async fn check(&self, mapping: &Mapping) -> Result<Presence, MapError> {
        let found = self.found();
        let Some(igd) = &found.igd else { return Ok(Presence::Unknown) };
        match igd.check(mapping).await {
            // Not every router shows by UPnP what PCP and NAT-PMP made; one that did so, does.
            Ok(Presence::Absent) if mapping.method != Method::Upnp && !mapping.is_verified => {
                Ok(Presence::Unknown)
            }
            result => result,
        }
    }

    /// The mappings of this machine and of others. Only UPnP has such a list.
    ///
    /// # Errors
    /// [`MapError::Unsupported`] where the router does not speak UPnP.
    ///
    /// # Cancel safety
    /// Nothing is changed by dropping the future.
    pub async fn list(&self) -> Result<Vec<ListedMapping>, MapError> {
        let found = self.fresh().await?;
        let Some(igd) = &found.igd else {
            let method = if found.pcp.is_some() { Method::Pcp } else { Method::NatPmp };
            return Err(MapError::Unsupported { method, what: "list its mappings" });
        };
        igd.list().await
    }

    /// Takes a mapping away. That it is gone already is no error.
    ///
    /// # Errors
    /// [`MapError`].
    ///
    /// # Cancel safety
    /// The mapping may or may not be gone. Asking again is harmless.
    pub async fn delete(&self, mapping: &Mapping) -> Result<(), MapError> {
        let found = self.found();
        match (mapping.method, mapping.handle, &found.igd) {
            (Method::Pcp, Handle::PcpNonce(nonce), _) => {
                let pcp = self.pcp_for(&found, mapping.internal)?;
                pcp.pcp_unmap(mapping.protocol, mapping.internal.port(), nonce).await
            }
            (Method::NatPmp, _, _) => {
                let natpmp = self.datagrams(&found.gateway);
                natpmp.natpmp_unmap(mapping.protocol, mapping.internal.port()).await
            }
            (Method::Upnp, Handle::Pinhole(id), Some(igd)) => {
                igd.close_pinhole(ipv6(mapping.internal.ip())?, id).await
            }
            (Method::Upnp, _, Some(igd)) => {
                let internal = ipv4(mapping.internal.ip())?;
                igd.unmap(mapping.protocol, mapping.external_port, internal).await
            }
            (method, ..) => Err(MapError::Unsupported { method, what: "be found any more" }),
        }
    }

    /// Takes away whatever mapping of this machine stands at a port of the router.
    ///
    /// # Errors
    /// [`MapError::Foreign`] where it belongs to another machine, and the others.
    ///
    /// # Cancel safety
    /// As [`delete`](Self::delete).
    pub async fn delete_port(
        &self,
        protocol: Protocol,
        external_port: u16,
    ) -> Result<(), MapError> {
        let found = self.fresh().await?;
        let mut worst = None;
        let mut is_done = false;
        if let Some(igd) = &found.igd {
            let own = ipv4(found.gateway.local)?;
            match igd.unmap(protocol, external_port, own).await {
                Ok(()) => is_done = true,
                Err(error @ MapError::Foreign { .. }) => return Err(error),
                Err(error) => worst = heavier(worst, error),
            }
        }
        // These delete by the internal port, which usually is the same.
        if let Some(natpmp) = &found.natpmp {
            match natpmp.natpmp_unmap(protocol, external_port).await {
                Ok(()) => is_done = true,
                Err(error) => worst = heavier(worst, error),
            }
        }
        if let Some(pcp) = &found.pcp {
            let nonce = pcp.nonce(&self.pcp_secret, protocol, external_port);
            match pcp.pcp_unmap(protocol, external_port, nonce).await {
                Ok(()) => is_done = true,
                Err(error) => worst = heavier(worst, error),
            }
        }
        match worst {
            Some(error) if !is_done => Err(error),
            _ => Ok(()),
        }
    }

    /// The router's clock by one of its protocols, to notice that it was restarted.
    ///
    /// # Errors
    /// Why it did not tell.
    ///
    /// # Cancel safety
    /// Nothing is changed by dropping the future.
    pub async fn clock(&self, method: Method) -> Result<RouterClock, MapError> {
        let found = self.found();
        let seconds = match (method, &found.igd) {
            (Method::Pcp, _) => self.datagrams(&found.gateway).pcp_epoch().await?,
            (Method::NatPmp, _) => self.datagrams(&found.gateway).natpmp_epoch().await?,
            (Method::Upnp, Some(igd)) => {
                let uptime = igd.status().await?.uptime;
                uptime.ok_or(MapError::Unsupported { method, what: "tell its uptime" })?
            }
            (Method::Upnp, None) => {
                return Err(MapError::Unsupported { method, what: "be found any more" });
            }
        };
        Ok(RouterClock { seconds, read_at: Instant::now() })
    }

    /// Asks the firewall service of UPnP first: other than with PCP, what it opens can be looked at.
    async fn open_pinhole(
        &self,
        found: &Found,
        request: &MapRequest,
        internal: SocketAddrV6,
    ) -> Result<Mapping, MapError> {
        let mut worst = None;
        if let Some(igd) = &found.igd {
            match igd.open_pinhole(request, internal).await {
                Ok(mapping) => return Ok(mapping),
                Err(error) => worst = heavier(worst, error),
            }
        }
        if self.options.methods.contains(&Method::Pcp) {
            let asked = match self.pcp_for(found, internal.into()) {
                Ok(pcp) => pcp.pcp_map(request, &self.pcp_secret).await,
                Err(error) => Err(error),
            };
            match asked {
                Ok(mapping) => return Ok(mapping),
                Err(error) => worst = heavier(worst, error),
            }
        }
        Err(worst.unwrap_or(MapError::Unsupported {
            method: Method::Upnp,
            what: "open its firewall for IPv6",
        }))
    }

    /// PCP by the family of the address that the mapping leads to.
    fn pcp_for(&self, found: &Found, internal: SocketAddr) -> Result<Datagrams, MapError> {
        if internal.is_ipv4() {
            return Ok(self.datagrams(&found.gateway));
        }
        let gateway = gateway::default_ipv6()?.ok_or(MapError::NoGateway)?;
        // RFC 6887 §8.1: the mapping is for the sender, so the request comes from its address.
        let gateway = Gateway { local: internal.ip(), ..gateway };
        Ok(self.datagrams(&gateway))
    }

    fn datagrams(&self, gateway: &Gateway) -> Datagrams {
        Datagrams::new(gateway, &self.options)
    }

    fn found(&self) -> Arc<Found> {
        Arc::clone(&self.found.read())
    }

    /// What was found, if that is not too long ago; else what is found now.
    async fn fresh(&self) -> Result<Arc<Found>, MapError> {
        let found = self.found();
        if found.at.elapsed() >= self.options.trust {
            self.rediscover().await?;
            return Ok(self.found());
        }
        Ok(found)
    }
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found")
            .field("gateway", &self.gateway)
            .field("pcp", &self.pcp.is_some())
            .field("natpmp", &self.natpmp.is_some())
            .field("igd", &self.igd.as_ref().map(|igd| (&igd.name, igd.host)))
            .finish_non_exhaustive()
    }
}

async fn discover(options: &MapperOptions) -> Result<Found, MapError> {
    let gateway = match &options.gateway {
        Some(gateway) => gateway.clone(),
        None => gateway::default_ipv4()?.ok_or(MapError::NoGateway)?,
    };
    let datagrams = || {
        Datagrams::new(&gateway, options).with_schedule(Schedule {
            first: options.probe_timeout / 2,
            total: options.probe_timeout,
        })
    };
    let wants = |method| options.methods.contains(&method);
    let pcp = async {
        let is_there = wants(Method::Pcp) && datagrams().pcp_epoch().await.is_ok();
        is_there.then(|| Datagrams::new(&gateway, options))
    };
    let natpmp = async {
        let is_there = wants(Method::NatPmp) && datagrams().natpmp_probe().await;
        is_there.then(|| Datagrams::new(&gateway, options))
    };
    let igd =
        async { if wants(Method::Upnp) { find_igd(options, &gateway).await } else { Ok(None) } };
    let (pcp, natpmp, igd) = tokio::join!(pcp, natpmp, igd);
    let (igd, error) = match igd {
        Ok(igd) => (igd, None),
        Err(error) => (None, Some(error)),
    };
    if pcp.is_none() && natpmp.is_none() && igd.is_none() {
        return Err(error.unwrap_or(MapError::NoRouter { gateway: gateway.address }));
    }
    if let Some(error) = error {
        tracing::debug!(%error, "UPnP is of no use here");
    }
    Ok(Found { at: Instant::now(), gateway, pcp, natpmp, igd })
}

/// The device that is, or is next to, the default gateway; of several the one with a connection.
async fn find_igd(options: &MapperOptions, gateway: &Gateway) -> Result<Option<Igd>, MapError> {
    let (IpAddr::V4(address), IpAddr::V4(local)) = (gateway.address, gateway.local) else {
        return Ok(None);
    };
    let search = ssdp::Search {
        local,
        group: options.ssdp_group,
        gateway: address,
        duration: options.search_timeout,
    };
    let mut responses = ssdp::search(&search, |sender| is_trusted(gateway, sender)).await?;
    responses.sort_by_key(|response| response.location.host() != gateway.address);
    let (mut unconnected, mut worst) = (None, None);
    for response in responses.iter().take(DEVICES_MAX) {
        let described = Igd::describe(&response.location, local, options.request_timeout);
        // Several requests: a device that is slow at each shall not hold up the others for ever.
        let described = timeout(options.request_timeout * 2, described).await;
        match described.unwrap_or(Err(MapError::Timeout { method: Method::Upnp })) {
            Ok(igd) if igd.is_connected().await => return Ok(Some(igd)),
            Ok(igd) => {
                unconnected.get_or_insert(igd);
            }
            Err(error) => worst = heavier(worst, error),
        }
    }
    match (unconnected, worst) {
        (Some(igd), _) => Ok(Some(igd)),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(None),
    }
}

/// Whether an answer to a search is looked at. One from elsewhere cannot be about the way out that we use, and nobody
/// in the internet has a say in it.
fn is_trusted(gateway: &Gateway, sender: IpAddr) -> bool {
    let is_near = gateway::is_local(sender) && gateway.shares_network_with(sender);
    !gateway::is_public(sender) && (sender == gateway.address || is_near)
}

/// What PCP or NAT-PMP made, with a look at UPnP's table where there is one.
async fn verified(mut mapping: Mapping, found: &Found) -> Mapping {
    if let Some(igd) = &found.igd {
        mapping.is_verified = igd.check(&mapping).await == Ok(Presence::Present);
    }
    mapping
}

fn heavier(known: Option<MapError>, new: MapError) -> Option<MapError> {
    match known {
        Some(known) if known.weight() >= new.weight() => Some(known),
        _ => Some(new),
    }
}

fn ipv4(address: IpAddr) -> Result<Ipv4Addr, MapError> {
    match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(MapError::NoGateway),
    }
}

fn ipv6(address: IpAddr) -> Result<Ipv6Addr, MapError> {
    match address {
        IpAddr::V6(address) => Ok(address),
        IpAddr::V4(_) => Err(MapError::NoGateway),
    }
}

/// More gateways in one network would be a strange network.
const DEVICES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_answer_a_search() {
        let check = |gateway: &Gateway, sender: &str, want: bool| {
            assert_eq!(is_trusted(gateway, sender.parse().unwrap()), want, "{sender}");
        };
        let at = |router: [u8; 4], own: [u8; 4]| Gateway::new(router.into(), own.into(), 24);
        let usual = at([192, 168, 1, 1], [192, 168, 1, 2]);
        check(&usual, "192.168.1.1", true);
        check(&usual, "192.168.1.66", true); // a repeater
        for stranger in ["192.168.2.1", "10.0.0.1", "100.64.0.1", "8.8.8.8", "fe80::1"] {
            check(&usual, stranger, false);
        }
        let shared = at([100, 64, 0, 1], [100, 64, 0, 2]);
        check(&shared, "100.64.0.1", true);
        check(&shared, "100.64.0.66", false); // another customer of the same provider
        let public = at([11, 0, 0, 1], [11, 0, 0, 2]);
        check(&public, "11.0.0.1", false);
        check(&public, "11.0.0.66", false);
    }
}
