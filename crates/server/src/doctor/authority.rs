//! What keeps the authorities from issuing: all of them, or some while others can.

use super::{
    diagnose::{Finding, list, say, span},
    facts::{AuthorityFacts, Facts},
};

/// What is wrong with an authority, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It takes only those who have an account there.
    Account,
    /// CAA records of the name forbid it.
    Caa,
    /// It takes no orders for now.
    Limit,
    /// Its directory cannot be had.
    Unreachable,
}

/// Nobody can issue, and this is what is wrong with the one that is asked first.
pub(super) fn nobody(facts: &Facts, trouble: Trouble) -> Finding {
    let authorities = &facts.certificate.authorities;
    let (first, others) = authorities.split_first()?;
    let is_first = found(first) == Some(trouble);
    if !is_first || others.iter().any(|other| found(other).is_none()) {
        return None;
    }
    let mut cause = describe(facts, first, trouble, "the certification authority");
    for other in others {
        let Some(trouble) = found(other) else { continue };
        let who = format!("the fallback {}", other.host());
        cause = format!("{cause}; {}", describe(facts, other, trouble, &who));
    }
    say(cause, fix(trouble))
}

/// Somebody can issue, but this is wrong with another.
pub(super) fn not_all(facts: &Facts, trouble: Trouble) -> Finding {
    let authorities = &facts.certificate.authorities;
    let good = authorities.iter().find(|authority| found(authority).is_none())?;
    let bad = authorities.iter().find(|authority| found(authority) == Some(trouble))?;
    let is_first = authorities.first().is_some_and(|first| first.name == bad.name);
    let who = if is_first { bad.host().to_owned() } else { format!("the fallback {}", bad.host()) };
    let meanwhile = if is_first { "is asked in its place" } else { "is asked" };
    let cause = describe(facts, bad, trouble, &who);
    say(format!("{cause}; {} {meanwhile}", good.host()), fix(trouble))
}

/// By how many seconds the clock is ahead of the authorities', where they do not differ among themselves.
pub(super) fn clock(facts: &Facts) -> Option<i64> {
    let authorities = facts.certificate.authorities.iter();
    // One that is right is enough: a wrong clock of ours would be off from all.
    authorities.filter_map(|one| one.clock_ahead_seconds).min_by_key(|ahead| ahead.unsigned_abs())
}

fn found(authority: &AuthorityFacts) -> Option<Trouble> {
    let AuthorityFacts { error, limited, lacks_binding, caa_forbids, .. } = authority;
    let rows = [
        (caa_forbids.is_some(), Trouble::Caa),
        (*lacks_binding, Trouble::Account),
        (limited.is_some(), Trouble::Limit),
        (error.is_some(), Trouble::Unreachable),
    ];
    rows.into_iter().find(|(is_so, _)| *is_so).map(|(_, trouble)| trouble)
}

fn describe(facts: &Facts, authority: &AuthorityFacts, trouble: Trouble, who: &str) -> String {
    match trouble {
        Trouble::Account => {
            format!("{who} takes only those who bring the key of an account there")
        }
        Trouble::Caa => {
            let allowed = authority.caa_forbids.as_deref().unwrap_or_default();
            let allowed = if allowed.is_empty() { "nobody".to_owned() } else { list(allowed) };
            let domain = &facts.domain;
            format!("the CAA records of {domain} let only {allowed} issue, not {who}")
        }
        Trouble::Limit => {
            let (wait, why) = authority.limited.clone().unwrap_or_default();
            format!("{who} asks to wait {}: {why}", span(wait))
        }
        Trouble::Unreachable => {
            let why = authority.error.as_deref().unwrap_or_default();
            format!("{who} cannot be reached: {why}")
        }
    }
}

fn fix(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Account => {
            "copy key identifier and HMAC key from the authority's page to `eab_key_id` and `eab_hmac_key`, or use \
             another authority"
        }
        Trouble::Caa => {
            "add a CAA record for the certification authority in use, or use one that is allowed"
        }
        Trouble::Limit => {
            "nothing: the order is made when the authority allows it. `tls.acme.fallback` can name another authority"
        }
        Trouble::Unreachable => {
            "check that this machine may connect to port 443 elsewhere, and that `directory` and `ca_file` in \
             `tls.acme` are right"
        }
    }
}
