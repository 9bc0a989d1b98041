//! Which authorities may issue certificates for a name (RFC 8659, RFC 8657).

use super::{DnsClient, DnsError, Name, RecordData, RecordType};

/// The rules that hold for a name: those of the closest name above it that has any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caa {
    /// Where they stand. `None`: nowhere, so any authority may issue.
    pub found_at: Option<Name>,
    /// Them.
    pub records: Vec<CaaRecord>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaaRecord {
    /// Who does not know the tag must not issue.
    pub is_critical: bool,
    /// `issue`, `issuewild`, `iodef`, …
    pub tag: String,
    /// For the first two: an authority, `;`, and conditions.
    pub value: String,
}

/// Who wants to issue, and how.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct CaaRequest<'a> {
    /// The names by which the authority goes in such rules: `letsencrypt.org`.
    pub identities: &'a [&'a str],
    /// Whether a certificate for `*.` is wanted.
    pub is_wildcard: bool,
    /// The account at the authority, if known (RFC 8657 §3).
    pub account_url: Option<&'a str>,
    /// How control is to be shown, if known: `http-01` (RFC 8657 §4).
    pub method: Option<&'a str>,
}

/// What the rules say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CaaVerdict {
    /// A rule names the authority.
    Allowed,
    /// Who runs the zone must change the rules, or another authority must be chosen.
    Forbidden {
        /// Where the rules stand.
        found_at: Name,
        /// Who may issue instead; nobody if empty.
        allowed: Vec<String>,
        /// What exactly is in the way.
        why: &'static str,
    },
    /// No rule restricts anybody.
    Unrestricted,
}

impl<'a> CaaRequest<'a> {
    /// A certificate from an authority that goes by these names.
    #[must_use]
    pub fn new(identities: &'a [&'a str], is_wildcard: bool) -> Self {
        Self { identities, is_wildcard, ..Self::default() }
    }
}

impl Caa {
    /// Whether the authority may issue.
    #[must_use]
    pub fn verdict(&self, request: &CaaRequest<'_>) -> CaaVerdict {
        let Some(found_at) = &self.found_at else { return CaaVerdict::Unrestricted };
        let forbidden =
            |allowed, why| CaaVerdict::Forbidden { found_at: found_at.clone(), allowed, why };
        let knows = |tag: &str| KNOWN_TAGS.contains(&tag);
        if self.records.iter().any(|record| record.is_critical && !knows(&record.tag)) {
            return forbidden(Vec::new(), "a critical rule that nobody knows");
        }
        let with_tag = |tag| self.records.iter().filter(move |record| record.tag == tag);
        // RFC 8659 §4.3: for wildcards `issuewild` replaces `issue`, where there is any.
        let has_wild = request.is_wildcard && with_tag("issuewild").next().is_some();
        let rules: Vec<_> = with_tag(if has_wild { "issuewild" } else { "issue" })
            .map(|record| Rule::parse(&record.value))
            .collect();
        if rules.is_empty() {
            return CaaVerdict::Unrestricted;
        }
        let names_it = |rule: &&Rule<'_>| {
            request.identities.iter().any(|name| rule.authority.eq_ignore_ascii_case(name))
        };
        let mut ours = rules.iter().filter(names_it).peekable();
        let is_named = ours.peek().is_some();
        if ours.any(|rule| rule.is_met(request)) {
            return CaaVerdict::Allowed;
        }
        let allowed =
            rules.iter().map(|rule| rule.authority.to_owned()).filter(|name| !name.is_empty());
        let why = match is_named {
            true => "the authority may issue, but not for this account or by this method",
            false => "the authority is not among those that may issue",
        };
        forbidden(allowed.collect(), why)
    }
}

impl DnsClient {
    /// The rules that hold for a name, a leading `*.` left out.
    ///
    /// # Errors
    /// The error of the resolvers; an authority that meets the same must refuse (RFC 8659 §3).
    pub async fn caa(&self, name: &Name) -> Result<Caa, DnsError> {
        let is_wildcard = name.labels().next() == Some(b"*");
        for candidate in name.ancestors().skip(usize::from(is_wildcard)) {
            let answer = self.lookup(&candidate, RecordType::Caa).await?;
            let records: Vec<_> = answer.data(RecordType::Caa).filter_map(read).collect();
            if !records.is_empty() {
                return Ok(Caa { found_at: Some(candidate), records });
            }
        }
        Ok(Caa::default())
    }
}

/// An `issue` value: the authority, and conditions.
struct Rule<'a> {
    authority: &'a str,
    conditions: Vec<(&'a str, &'a str)>,
}

impl<'a> Rule<'a> {
    fn parse(value: &'a str) -> Self {
        let mut parts = value.split(';').map(str::trim);
        let authority = parts.next().unwrap_or_default();
        let conditions = parts.filter_map(|part| part.split_once('='));
        Self {
            authority,
            conditions: conditions.map(|(name, value)| (name.trim(), value.trim())).collect(),
        }
    }

    fn is_met(&self, request: &CaaRequest<'_>) -> bool {
        self.conditions.iter().all(|(name, value)| match *name {
            "accounturi" => request.account_url.is_none_or(|url| url == *value),
            "validationmethods" => request
                .method
                .is_none_or(|method| value.split(',').any(|allowed| allowed.trim() == method)),
            // RFC 8659 §4.2: parameters are the authority's own matter.
            _ => true,
        })
    }
}

fn read(data: &RecordData) -> Option<CaaRecord> {
    let RecordData::Caa { flags, tag, value } = data else { return None };
    let value = String::from_utf8_lossy(value).into_owned();
    Some(CaaRecord { is_critical: flags & 0x80 != 0, tag: tag.clone(), value })
}

/// Tags that authorities know, even where they mean nothing to us.
const KNOWN_TAGS: &[&str] =
    &["issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        const OURS: &[&str] = &["letsencrypt.org"];
        for (rules, is_wildcard, expected) in [
            (&[][..], false, "unrestricted"),
            (&["issue letsencrypt.org"], false, "allowed"),
            (&["issue LetsEncrypt.org ; x=y"], true, "allowed"),
            (&["issue other.example"], false, "forbidden"),
            (&["issue ;"], false, "forbidden"),
            (&["issue other.example", "issue letsencrypt.org"], false, "allowed"),
            (&["issue letsencrypt.org", "issuewild ;"], true, "forbidden"),
            (&["issue letsencrypt.org", "issuewild ;"], false, "allowed"),
            (&["issuewild letsencrypt.org"], false, "unrestricted"),
            (&["issuewild letsencrypt.org"], true, "allowed"),
            (&["iodef mailto:a@b"], false, "unrestricted"),
            (&["!unknown x", "issue letsencrypt.org"], false, "forbidden"),
            (&["unknown x", "issue letsencrypt.org"], false, "allowed"),
            (&["!iodef x"], false, "unrestricted"),
            (&["issue letsencrypt.org; accounturi=https://ca/1"], false, "allowed"),
            (&["issue letsencrypt.org; accounturi=https://ca/2"], false, "forbidden"),
            (&["issue letsencrypt.org; validationmethods=dns-01,http-01"], false, "allowed"),
            (&["issue letsencrypt.org; validationmethods=dns-01"], false, "forbidden"),
        ] {
            let records: Vec<_> = rules
                .iter()
                .map(|rule| {
                    let (tag, value) = rule.split_once(' ').unwrap();
                    CaaRecord {
                        is_critical: tag.starts_with('!'),
                        tag: tag.trim_start_matches('!').to_owned(),
                        value: value.to_owned(),
                    }
                })
                .collect();
            let found_at = (!records.is_empty()).then(|| "example.com".parse().unwrap());
            let request = CaaRequest {
                account_url: Some("https://ca/1"),
                method: Some("http-01"),
                ..CaaRequest::new(OURS, is_wildcard)
            };
            let verdict = match (Caa { found_at, records }).verdict(&request) {
                CaaVerdict::Allowed => "allowed",
                CaaVerdict::Forbidden { .. } => "forbidden",
                CaaVerdict::Unrestricted => "unrestricted",
            };
            assert_eq!(verdict, expected, "{rules:?} {is_wildcard}");
        }
    }
}
