//! Sessions that outlive the process: the keys of their tickets wait in the state folder for the next one.

use hearth_tls_acme::{AdoptTicketsError, Code, TicketFile, TicketFileError, TicketSecret};

use crate::{plan::Plan, state};

/// The secret of session tickets, and where the next process finds it.
#[derive(Debug, Clone)]
pub(super) struct Tickets {
    secret: TicketSecret,
    /// `None` where nobody could find it.
    file: Option<TicketFile>,
}

impl Tickets {
    /// Takes over what the process before this one left for the same addresses. That it could not be had is told, and
    /// is no reason not to serve.
    pub(super) fn new(plan: &Plan) -> Self {
        let secret = TicketSecret::new();
        let Some((folder, service)) = state::own_folder().zip(service(plan)) else {
            return Self { secret, file: None };
        };
        let file = TicketFile::new(&folder, &service);
        match file.load(&secret) {
            Ok(true) => tracing::info!(target: "hearth", "sessions of before are resumed"),
            Ok(false) => {}
            // As it should be after a long rest.
            Err(TicketFileError::Adopt { reason: AdoptTicketsError::Ended, .. }) => {
                tracing::info!(target: "hearth", "sessions of before have ended meanwhile");
            }
            Err(error) => {
                let (code, fix) = (Code::TicketsRefused.as_str(), Code::TicketsRefused.fix());
                tracing::warn!(
                    target: "hearth", code, fix,
                    "sessions of before are not resumed: {error}"
                );
            }
        }
        Self { secret, file: Some(file) }
    }

    /// For the configurations of TLS.
    pub(super) fn for_tls(&self) -> hearth_net::Tickets {
        self.secret.tickets()
    }

    /// Leaves the keys for the next process whenever there are new ones.
    pub(super) async fn keep(self) {
        if let Some(file) = self.file {
            file.keep(self.secret).await;
        }
    }

    /// Leaves the keys of this moment.
    pub(super) fn leave(&self) {
        if let Some(file) = &self.file
            && let Err(error) = file.store(&self.secret)
        {
            tracing::warn!(target: "hearth", "visitors' sessions end with this process: {error}");
        }
    }
}

/// What the next process is known by: the addresses that it listens at. One that the system chooses is never
/// the same again.
fn service(plan: &Plan) -> Option<String> {
    let addresses = plan.listeners.iter().filter(|listener| listener.is_tls);
    let mut addresses: Vec<_> = addresses.map(|listener| listener.address).collect();
    addresses.sort_unstable();
    let is_known = !addresses.is_empty() && addresses.iter().all(|address| address.port() != 0);
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    (plan.keeps_tickets && is_known).then(|| texts.join(" "))
}
