//! Aliases, and where the answer to a DNS-01 challenge belongs.

use super::{DnsClient, DnsError, Name, RecordData, RecordType};

impl DnsClient {
    /// Follows the aliases of a name to its end, which is the name itself if it has none.
    ///
    /// # Errors
    /// [`DnsError::AliasLoop`] after 8 steps, or the error of the resolvers.
    pub async fn follow_aliases(&self, name: &Name) -> Result<Name, DnsError> {
        let mut current = name.clone();
        for _ in 0..STEPS_MAX {
            let answer = self.lookup(&current, RecordType::Cname).await?;
            let next = answer.records.iter().find_map(|record| match &record.data {
                RecordData::Cname(target) if record.name == current => Some(target.clone()),
                _ => None,
            });
            match next {
                Some(target) => current = target,
                None => return Ok(current),
            }
        }
        Err(DnsError::AliasLoop { name: name.clone() })
    }
}

/// As many as authorities follow.
const STEPS_MAX: usize = 8;
