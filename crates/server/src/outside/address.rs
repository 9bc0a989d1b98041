//! The public address, by the word of others.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use hearth_http_client::ClientRequest;
use hearth_netsvc::{
    gateway,
    portmap::{MapperOptions, PortMapper},
};

use super::client;
use crate::plan::network::Network;

/// The address that most echoes tell.
pub async fn echoes(network: &Network) -> Option<IpAddr> {
    let urls = network.echo.clone().unwrap_or_else(|| ECHOES.map(str::to_owned).to_vec());
    let client = client(network.echo_roots.as_deref()).ok()?;
    let asked = urls.into_iter().take(ECHOES_MAX).map(|url| {
        let client = client.clone();
        tokio::spawn(async move {
            let request = ClientRequest::get(&url).ok()?.with_timeout(ECHO_TIMEOUT);
            let response = client.send(request).await.ok()?;
            let text = response.text(ECHO_BYTES_MAX).await.ok()?;
            text.trim().parse::<IpAddr>().ok().filter(|ip| gateway::is_public(*ip))
        })
    });
    let mut votes: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for task in asked.collect::<Vec<_>>() {
        if let Ok(Some(ip)) = task.await {
            *votes.entry(ip).or_default() += 1;
        }
    }
    // One alone is never believed.
    let (address, count) = votes.into_iter().max_by_key(|(_, count)| *count)?;
    (count >= 2).then_some(address)
}

/// The public IPv4 address, if the router and at least two echoes agree on it, or the echoes alone where the router
/// says nothing.
pub async fn public_v4(network: &Network) -> Option<Ipv4Addr> {
    let Some(IpAddr::V4(echoed)) = echoes(network).await else { return None };
    let mapper = PortMapper::discover(MapperOptions::default()).await.ok();
    let external = match &mapper {
        Some(mapper) => mapper.external_address().await.ok(),
        None => None,
    };
    external.is_none_or(|external| external == echoed).then_some(echoed)
}

/// Operators of their own, none of them ours.
const ECHOES: [&str; 3] =
    ["https://api4.ipify.org/", "https://ipv4.icanhazip.com/", "https://v4.ident.me/"];
const ECHOES_MAX: usize = 8;
const ECHO_BYTES_MAX: u64 = 256;
const ECHO_TIMEOUT: Duration = Duration::from_secs(5);
