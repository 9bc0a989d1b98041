//! What an authority's complaint means for us.

use instant_acme::{Error, Problem};

use crate::{
    attention::{Attention, Code, Failure, FailureKind},
    transport::Session,
};

const PREFIX: &str = "urn:ietf:params:acme:error:";

/// Calls, and calls again while the authority only dislikes the nonce: some do so at random, and
/// instant-acme gives up after three times.
macro_rules! again {
    ($session:expr, $subject:expr, $call:expr) => {{
        let mut left = 10_u32;
        loop {
            match $call.await {
                Ok(value) => break Ok(value),
                Err(error) => {
                    let failure = $crate::problem::of_request($session, $subject, error);
                    left -= 1;
                    if failure.kind != $crate::attention::FailureKind::BadNonce || left == 0 {
                        break Err(failure);
                    }
                }
            }
        }
    }};
}
pub(crate) use again;

/// What the failure of a request means.
pub(crate) fn of_request(session: &Session, subject: &str, error: Error) -> Failure {
    if let Some(failure) = session.take_failure() {
        return failure;
    }
    let mut failure = match error {
        Error::Api(problem) => of_problem(subject, &problem),
        Error::Json(_) | Error::InvalidUri(_) | Error::Http(_) | Error::Str(_) => {
            let mut failure = session.transport().garbage();
            failure.attention.sentence.push_str(&format!(" ({error})"));
            failure
        }
        other => {
            let sentence = format!("The authority's answer makes no sense: {other}.");
            Failure::of(FailureKind::Authority, Code::ServerError, subject, sentence)
        }
    };
    failure.retry_after = session.retry_after();
    failure
}

/// What a problem in the answer to a request means.
pub(crate) fn of_problem(subject: &str, problem: &Problem) -> Failure {
    let first = problem.subproblems.first().and_then(|sub| sub.r#type.as_deref());
    let outer = kind_of(problem.r#type.as_deref());
    // RFC 8555 §6.7.1: what a compound problem is about stands in its parts.
    let kind = if matches!(outer, "compound" | "malformed" | "") {
        first.map_or(outer, |kind| kind_of(Some(kind)))
    } else {
        outer
    };
    let (kind, code) = match (kind, problem.status) {
        ("badNonce", _) => (FailureKind::BadNonce, Code::ServerError),
        ("rateLimited", _) | (_, Some(429)) => (FailureKind::RateLimited, Code::RateLimited),
        ("accountDoesNotExist", _) => (FailureKind::AccountGone, Code::AccountRefused),
        ("alreadyReplaced", _) => (FailureKind::Replaces, Code::OrderLost),
        ("rejectedIdentifier" | "unsupportedIdentifier", _) => {
            (FailureKind::Permanent, Code::RejectedIdentifier)
        }
        ("caa", _) => (FailureKind::Permanent, Code::Caa),
        ("externalAccountRequired", _) => (FailureKind::Permanent, Code::EabRequired),
        ("userActionRequired", _) => (FailureKind::Permanent, Code::UserAction),
        ("invalidProfile", _) => (FailureKind::Permanent, Code::Profile),
        ("unauthorized" | "invalidContact" | "unsupportedContact" | "badSignatureAlgorithm", _) => {
            (FailureKind::Permanent, Code::AccountRefused)
        }
        ("badCSR" | "badPublicKey", _) => (FailureKind::Permanent, Code::ServerError),
        _ => (FailureKind::Authority, Code::ServerError),
    };
    Failure::new(kind, attention(code, subject, problem, "The authority refuses"))
}

/// What the error of a challenge means.
pub(crate) fn of_challenge(name: &str, how: &str, problem: &Problem) -> Failure {
    let (kind, code) = match kind_of(problem.r#type.as_deref()) {
        "connection" => (FailureKind::Validation, Code::ChallengeConnection),
        "dns" => (FailureKind::Validation, Code::ChallengeDns),
        "tls" => (FailureKind::Validation, Code::ChallengeTls),
        "unauthorized" | "incorrectResponse" => {
            (FailureKind::Validation, Code::ChallengeWrongAnswer)
        }
        _ => return of_problem(name, problem),
    };
    Failure::new(
        kind,
        attention(code, name, problem, &format!("The authority's check by {how} failed")),
    )
}

fn kind_of(text: Option<&str>) -> &str {
    let text = text.unwrap_or_default();
    text.strip_prefix(PREFIX).unwrap_or(text)
}

fn attention(code: Code, subject: &str, problem: &Problem, what: &str) -> Attention {
    let mut detail = problem.detail.clone().unwrap_or_default();
    for sub in problem.subproblems.iter().take(3) {
        detail.push_str(&format!(" {sub}"));
    }
    if detail.is_empty() {
        detail.push_str(kind_of(problem.r#type.as_deref()));
    }
    // What a peer says goes to a log and a terminal.
    let detail: String = detail.chars().filter(|c| !c.is_control()).take(500).collect();
    Attention::new(code, subject, format!("{what}: {}.", detail.trim().trim_end_matches('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str, status: u16) -> Problem {
        let text =
            format!(r#"{{"type":"{PREFIX}{kind}","detail":"why\u001b[2J","status":{status}}}"#);
        serde_json::from_str(&text).expect("a problem")
    }

    #[test]
    fn every_kind_has_its_meaning() {
        let rows = [
            ("badNonce", 400, FailureKind::BadNonce, "acme-server-error"),
            ("rateLimited", 429, FailureKind::RateLimited, "acme-rate-limited"),
            ("malformed", 429, FailureKind::RateLimited, "acme-rate-limited"),
            ("rejectedIdentifier", 400, FailureKind::Permanent, "acme-rejected-identifier"),
            ("caa", 403, FailureKind::Permanent, "acme-caa"),
            ("externalAccountRequired", 403, FailureKind::Permanent, "acme-eab-required"),
            ("accountDoesNotExist", 400, FailureKind::AccountGone, "account-refused"),
            ("unauthorized", 403, FailureKind::Permanent, "account-refused"),
            ("alreadyReplaced", 409, FailureKind::Replaces, "acme-order-lost"),
            ("serverInternal", 500, FailureKind::Authority, "acme-server-error"),
            ("whatever", 400, FailureKind::Authority, "acme-server-error"),
        ];
        for (kind, status, want, code) in rows {
            let failure = of_problem("a.test", &problem(kind, status));
            assert_eq!((failure.kind, failure.attention.code.as_str()), (want, code), "{kind}");
            assert_eq!(failure.attention.sentence, "The authority refuses: why[2J.");
        }
        let rows = [
            ("connection", FailureKind::Validation, "acme-challenge-connection"),
            ("dns", FailureKind::Validation, "acme-challenge-dns"),
            ("tls", FailureKind::Validation, "acme-challenge-tls"),
            ("unauthorized", FailureKind::Validation, "acme-challenge-wrong-answer"),
            ("caa", FailureKind::Permanent, "acme-caa"),
        ];
        for (kind, want, code) in rows {
            let failure = of_challenge("a.test", "http-01", &problem(kind, 400));
            assert_eq!((failure.kind, failure.attention.code.as_str()), (want, code), "{kind}");
        }
    }
}
