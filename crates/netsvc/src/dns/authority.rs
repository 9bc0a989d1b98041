//! Who is in charge of a name.

use std::net::SocketAddr;

use super::{Answer, DnsClient, DnsError, Name, RecordData, RecordType};

/// A zone and the servers that are in charge of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authority {
    /// The zone that holds the name.
    pub zone: Name,
    /// Its servers, in order of their names.
    pub servers: Vec<AuthorityServer>,
}

/// One server of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthorityServer {
    /// Its name.
    pub name: String,
    /// Where it listens; empty if its name has no address.
    pub addresses: Vec<SocketAddr>,
}

impl DnsClient {
    /// The zone of a name and all its authoritative servers.
    ///
    /// # Errors
    /// [`DnsError::NoAuthority`] where no zone is found, or the error of the resolvers.
    pub async fn authority(&self, name: &Name) -> Result<Authority, DnsError> {
        if let Some(authority) = self.known_authority(name) {
            return Ok(authority);
        }
        let zone = self.zone_of(name).await?;
        let answer = self.lookup(&zone, RecordType::Ns).await?;
        let mut names: Vec<_> = answer
            .records
            .iter()
            .filter(|record| record.name == zone)
            .filter_map(|record| match &record.data {
                RecordData::Ns(server) => Some(server.clone()),
                _ => None,
            })
            .collect();
        names.sort();
        names.dedup();
        names.truncate(SERVERS_MAX);
        if names.is_empty() {
            return Err(DnsError::NoAuthority { name: name.clone() });
        }
        let mut servers = Vec::with_capacity(names.len());
        for server in names {
            let addresses = self.addresses(&server).await.unwrap_or_default();
            let v4 = addresses.v4.into_iter().map(Into::into);
            let ips = v4.chain(addresses.v6.into_iter().map(Into::into));
            let addresses = ips.map(|ip| SocketAddr::new(ip, self.options().port)).collect();
            servers.push(AuthorityServer { name: server.to_string(), addresses });
        }
        Ok(Authority { zone, servers })
    }

    /// The zone that holds a name, as the resolvers see it.
    ///
    /// # Errors
    /// [`DnsError::NoAuthority`], or the error of the resolvers.
    pub async fn zone_of(&self, name: &Name) -> Result<Name, DnsError> {
        for candidate in name.ancestors() {
            match self.lookup(&candidate, RecordType::Soa).await {
                Ok(answer) => {
                    if let Some(zone) = zone_in(&answer, &candidate) {
                        return Ok(zone);
                    }
                }
                // A server may fail for one name and answer for the one above it.
                Err(DnsError::Rcode { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(DnsError::NoAuthority { name: name.clone() })
    }

    /// The zone that holds a name, as one server sees it.
    pub(crate) async fn zone_at(&self, server: SocketAddr, name: &Name) -> Result<Name, DnsError> {
        for candidate in name.ancestors() {
            match self.query(server, &candidate, RecordType::Soa).await {
                Ok(answer) => {
                    if let Some(zone) = zone_in(&answer, &candidate) {
                        return Ok(zone);
                    }
                }
                Err(DnsError::Rcode { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(DnsError::NoAuthority { name: name.clone() })
    }

    /// Asks a server of a zone, at each of its addresses until one answers.
    pub(crate) async fn query_server(
        &self,
        server: &AuthorityServer,
        name: &Name,
        kind: RecordType,
    ) -> Result<Answer, DnsError> {
        let mut last = DnsError::NoAuthority { name: name.clone() };
        for &address in &server.addresses {
            match self.query(address, name, kind).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn known_authority(&self, name: &Name) -> Option<Authority> {
        let zones = self.options().zones.iter().filter(|(zone, _)| name.is_within(zone));
        let (zone, addresses) = zones.max_by_key(|(zone, _)| zone.label_count())?;
        let servers = addresses.iter().map(|&address| AuthorityServer {
            name: address.to_string(),
            addresses: vec![address],
        });
        Some(Authority { zone: zone.clone(), servers: servers.collect() })
    }
}

/// The zone that an answer about `candidate` tells of: as a record, or as the reason for none.
///
/// Only what lies above the name counts: behind an alias comes the zone of its target.
fn zone_in(answer: &Answer, candidate: &Name) -> Option<Name> {
    let starts = answer.records.iter().chain(&answer.authorities);
    let mut zones = starts.filter(|record| record.kind == RecordType::Soa);
    zones.find(|record| candidate.is_within(&record.name)).map(|record| record.name.clone())
}

/// Zones have at most 13 servers in practice; this bounds what a hostile one can make us ask.
const SERVERS_MAX: usize = 16;
