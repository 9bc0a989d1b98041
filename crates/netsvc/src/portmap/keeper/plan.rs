//! When a mapping is next looked after.

use std::time::Duration;

use tokio::time::Instant;

use super::{KeeperOptions, KeptMapping, MapError, MapRequest, Mapping, MappingStatus};

/// A request, what has become of it, and when it is due.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) request: MapRequest,
    pub(super) status: MappingStatus,
    pub(super) due: Instant,
    pub(super) was_active: bool,
    /// When the router forgets the mapping that it has granted.
    expires: Option<Instant>,
    failure_count: u32,
}

impl Kept {
    pub(super) fn new(request: MapRequest, now: Instant) -> Self {
        Self {
            request,
            status: MappingStatus::Pending,
            due: now,
            was_active: false,
            expires: None,
            failure_count: 0,
        }
    }

    pub(super) fn publish(&self) -> KeptMapping {
        KeptMapping { request: self.request.clone(), status: self.status.clone() }
    }

    /// Takes in the result of making or renewing, and decides when to do so again.
    pub(super) fn settle(
        &mut self,
        result: Result<Mapping, MapError>,
        options: &KeeperOptions,
        now: Instant,
    ) {
        match result {
            Ok(mapping) => {
                self.failure_count = 0;
                self.expires = mapping.lease.map(|lease| now + lease);
                self.due = now + renewal_pause(mapping.lease, options);
                self.was_active = true;
                self.status = MappingStatus::Active(mapping);
            }
            Err(error) => {
                self.due = now + retry_pause(self.failure_count, options);
                self.failure_count = self.failure_count.saturating_add(1);
                // A renewal that failed has not ended the mapping yet.
                let is_alive = matches!(self.status, MappingStatus::Active(_))
                    && self.expires.is_none_or(|expires| now < expires)
                    && error.is_transient();
                if !is_alive {
                    self.was_active = false;
                    self.status = MappingStatus::Failed(error);
                }
            }
        }
    }
}

/// Half the lease. What stays for ever is looked after by the checks, and asked for again each day.
fn renewal_pause(lease: Option<Duration>, options: &KeeperOptions) -> Duration {
    const DAY: Duration = Duration::from_secs(86_400);
    // A router that grants no time shall not be asked without pause.
    lease.map_or(DAY, |lease| (lease / 2).max(options.retry_min))
}

fn retry_pause(failure_count: u32, options: &KeeperOptions) -> Duration {
    options.retry_min.saturating_mul(1 << failure_count.min(20)).min(options.retry_max)
}

/// When the first of them is due.
pub(super) fn earliest(kept: &[Kept]) -> Option<Instant> {
    kept.iter().map(|kept| kept.due).min()
}
