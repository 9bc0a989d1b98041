//! The side of who wants to be seen.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use hearth_http_client::Client;
use hearth_netsvc::reach::{self, Challenges, ProbeClient, ProbeError, Reach};
use tokio::task::JoinSet;

use crate::{doctor::facts::Seen, plan::network::Probe};

/// A port, and what is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    /// The port.
    pub port: u16,
    /// Whether clients speak TLS.
    pub is_tls: bool,
}

/// Asks a probe to look at this machine.
pub struct Asker {
    probe: ProbeClient,
    challenges: Challenges,
}

impl Door {
    fn origin(self, domain: &str) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{domain}:{}", self.port)
    }
}

impl Asker {
    /// Asks `probe` by `client`; the site answers `challenges`.
    #[must_use]
    pub fn new(client: Client, probe: &Probe, challenges: Challenges) -> Self {
        let probe = ProbeClient::new(client, &probe.url, probe.token.clone());
        Self { probe, challenges }
    }

    /// What the probe meets at each of these ports, and where it sees this machine.
    ///
    /// # Errors
    /// [`ProbeError`], which says nothing about the site.
    ///
    /// # Cancel safety
    /// The probe may look all the same.
    pub async fn ask(
        &self,
        domain: &str,
        doors: &[Door],
    ) -> Result<(Option<IpAddr>, BTreeMap<u16, Seen>), ProbeError> {
        let mut questions = JoinSet::new();
        for door in doors.iter().copied() {
            let (probe, challenge) = (self.probe.clone(), self.challenges.challenge());
            let origin = door.origin(domain);
            questions.spawn(async move { (door.port, probe.check(&origin, &challenge).await) });
        }
        let (mut address, mut met) = (None, BTreeMap::new());
        while let Some(answer) = questions.join_next().await {
            // A question that panicked has no answer, and its port stays unseen.
            let Ok((port, answer)) = answer else { continue };
            let (reach, seen_from) = answer?;
            address = address.or(seen_from);
            met.insert(port, reach);
        }
        Ok((address, judge(met)))
    }
}

/// What a connection from this machine to `address` meets: whether the router leads its public address back inside.
pub async fn look(
    client: &Client,
    address: SocketAddr,
    domain: &str,
    door: Door,
    challenges: &Challenges,
) -> Seen {
    seen(reach::look(client, &door.origin(domain), address, &challenges.challenge()).await)
}

fn judge(met: BTreeMap<u16, Reach>) -> BTreeMap<u16, Seen> {
    // A TLS port whose certificate the probe does not trust yet proves nothing by itself, but beside one that did, at
    // the same address, it is this machine's.
    let is_proven = met.values().any(|reach| *reach == Reach::Open);
    let here = |reach| match reach {
        Reach::Tls if is_proven => Seen::Here,
        reach => seen(reach),
    };
    met.into_iter().map(|(port, reach)| (port, here(reach))).collect()
}

fn seen(reach: Reach) -> Seen {
    match reach {
        Reach::Open => Seen::Here,
        Reach::Other => Seen::Another,
        Reach::Closed => Seen::Failed("the connection is refused".to_owned()),
        Reach::Silent => Seen::Failed("no answer, not even a refusal".to_owned()),
        _ => Seen::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_without_proof_counts_beside_one_with() {
        let check = |http, https, want: [Seen; 2]| {
            let judged = judge([(80, http), (443, https)].into());
            assert_eq!(judged.into_values().collect::<Vec<_>>(), want, "{http} {https}");
        };
        let silent = || Seen::Failed("no answer, not even a refusal".to_owned());
        check(Reach::Open, Reach::Open, [Seen::Here, Seen::Here]);
        check(Reach::Open, Reach::Tls, [Seen::Here, Seen::Here]);
        check(Reach::Silent, Reach::Tls, [silent(), Seen::Unknown]);
        check(Reach::Other, Reach::Tls, [Seen::Another, Seen::Unknown]);
        check(Reach::Open, Reach::Unknown, [Seen::Here, Seen::Unknown]);
        check(Reach::Open, Reach::Silent, [Seen::Here, silent()]);
    }
}
