//! What every authoritative server says about a record.

use std::{fmt, net::IpAddr, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{Answer, Authority, AuthorityServer, DnsClient, DnsError, Name, RecordType};

/// What the servers are expected to show.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// No record of the type.
    Absent,
    /// This address and no other of its family.
    Address(IpAddr),
    /// This text, alone or beside others.
    Text(String),
}

/// What each authoritative server of a zone shows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Propagation {
    /// The zone.
    pub zone: Name,
    /// Its servers. Never empty.
    pub servers: Vec<ServerState>,
}

/// What one server shows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerState {
    /// The name of the server.
    pub server: String,
    /// What it shows.
    pub shows: Shows,
}

/// What a server shows, compared with what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shows {
    /// What is expected.
    Expected,
    /// It answers, but is not in charge of the zone. Who runs the zone must act.
    Lame,
    /// No such record.
    Nothing,
    /// Other records, as text.
    Other(Vec<String>),
    /// It does not answer.
    Unreachable(String),
}

impl Expected {
    /// The type of record that is looked at. For [`Absent`](Self::Absent) say it yourself.
    fn kind(&self) -> Option<RecordType> {
        match self {
            Self::Absent => None,
            Self::Address(IpAddr::V4(_)) => Some(RecordType::A),
            Self::Address(IpAddr::V6(_)) => Some(RecordType::Aaaa),
            Self::Text(_) => Some(RecordType::Txt),
        }
    }

    fn is_met(&self, answer: &Answer, kind: RecordType) -> bool {
        match self {
            Self::Absent => answer.data(kind).next().is_none(),
            Self::Address(address) => {
                let mut addresses = answer.data(kind).filter_map(super::RecordData::address);
                addresses.next() == Some(*address) && addresses.next().is_none()
            }
            Self::Text(text) => answer.texts().any(|found| found == *text),
        }
    }
}

impl Propagation {
    /// Whether every server shows what is expected.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.servers.iter().all(|server| server.shows == Shows::Expected)
    }

    /// Whether every server that answers shows it, and at least one does.
    ///
    /// A server that is down does not hold up others who ask, either: they go to the next one.
    #[must_use]
    pub fn is_complete_among_reachable(&self) -> bool {
        let is_down = |server: &&ServerState| matches!(server.shows, Shows::Unreachable(_));
        let mut reachable = self.servers.iter().filter(|server| !is_down(server)).peekable();
        reachable.peek().is_some() && reachable.all(|server| server.shows == Shows::Expected)
    }

    /// The servers that do not show it yet.
    pub fn lagging(&self) -> impl Iterator<Item = &ServerState> {
        self.servers.iter().filter(|server| server.shows != Shows::Expected)
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = self.servers.len() - self.lagging().count();
        write!(f, "{done} of {} name servers of {} show it", self.servers.len(), self.zone)?;
        for server in self.lagging() {
            write!(f, "; {} {}", server.server, server.shows)?;
        }
        Ok(())
    }
}

impl fmt::Display for Shows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected => f.write_str("shows it"),
            Self::Lame => f.write_str("is not in charge of the zone"),
            Self::Nothing => f.write_str("shows no record"),
            Self::Other(records) => write!(f, "shows {}", records.join(", ")),
            Self::Unreachable(why) => write!(f, "does not answer ({why})"),
        }
    }
}

impl DnsClient {
    /// What every authoritative server of a name's zone shows now.
    ///
    /// # Errors
    /// That the zone or its servers cannot be found. A server that fails is a state, no error.
    pub async fn propagation(
        &self,
        name: &Name,
        kind: RecordType,
        expected: &Expected,
    ) -> Result<Propagation, DnsError> {
        let authority = self.authority(name).await?;
        Ok(self.propagation_at(&authority, name, kind, expected).await)
    }

    /// The same for servers that are known already.
    ///
    /// # Cancel safety
    /// Dropping the future ends all questions.
    pub async fn propagation_at(
        &self,
        authority: &Authority,
        name: &Name,
        kind: RecordType,
        expected: &Expected,
    ) -> Propagation {
        let mut tasks = JoinSet::new();
        for (index, server) in authority.servers.iter().enumerate() {
            let (client, server, name) = (self.clone(), server.clone(), name.clone());
            let expected = expected.clone();
            tasks.spawn(async move {
                let shows = client.shows(&server, &name, kind, &expected).await;
                (index, ServerState { server: server.name, shows })
            });
        }
        let mut states = Vec::with_capacity(authority.servers.len());
        while let Some(done) = tasks.join_next().await {
            states.push(done.expect("the task neither panics nor is aborted"));
        }
        states.sort_by_key(|(index, _)| *index);
        let servers = states.into_iter().map(|(_, state)| state).collect();
        Propagation { zone: authority.zone.clone(), servers }
    }

    /// Waits until every authoritative server shows a record, asking every `interval`.
    ///
    /// Servers that never answered during `patience_unreachable` are waited for no longer, as long as
    /// another one shows the record. The state at the end of `timeout` is the answer, complete or not.
    ///
    /// # Errors
    /// As [`propagation`](Self::propagation).
    ///
    /// # Cancel safety
    /// Dropping the future ends all questions.
    pub async fn wait_for_propagation(
        &self,
        name: &Name,
        expected: &Expected,
        waiting: Waiting,
    ) -> Result<Propagation, DnsError> {
        let kind = expected.kind().unwrap_or(RecordType::Txt);
        let authority = self.authority(name).await?;
        let start = Instant::now();
        loop {
            let asked_at = Instant::now();
            let state = self.propagation_at(&authority, name, kind, expected).await;
            let is_patient = start.elapsed() < waiting.patience_unreachable;
            let is_done = state.is_complete() || !is_patient && state.is_complete_among_reachable();
            if is_done || start.elapsed() >= waiting.timeout {
                return Ok(state);
            }
            let end = start + waiting.timeout;
            sleep_until((asked_at + waiting.interval).min(end)).await;
        }
    }

    async fn shows(
        &self,
        server: &AuthorityServer,
        name: &Name,
        kind: RecordType,
        expected: &Expected,
    ) -> Shows {
        match self.query_server(server, name, kind).await {
            Err(DnsError::NoAuthority { .. }) => Shows::Unreachable("it has no address".to_owned()),
            Err(DnsError::Rcode { rcode, .. }) if rcode == super::Rcode::REFUSED => Shows::Lame,
            Err(error) => Shows::Unreachable(error.to_string()),
            Ok(answer) if !answer.is_authoritative => Shows::Lame,
            Ok(answer) if expected.is_met(&answer, kind) => Shows::Expected,
            Ok(answer) if answer.records.is_empty() => Shows::Nothing,
            Ok(answer) => {
                Shows::Other(answer.records.iter().map(|record| record.data.to_string()).collect())
            }
        }
    }
}

/// How long [`wait_for_propagation`](DnsClient::wait_for_propagation) waits.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Waiting {
    /// Between questions. Default 2 s.
    pub interval: Duration,
    /// How long servers that do not answer are waited for. Default 30 s.
    pub patience_unreachable: Duration,
    /// In all. Default 5 min: some services write their zones that slowly.
    pub timeout: Duration,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            patience_unreachable: Duration::from_secs(30),
            timeout: Duration::from_secs(300),
        }
    }
}
