//! Signatures of requests to AWS, version 4.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::ddns::Secret;

/// Who signs, and where.
pub(super) struct Signer<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) secret_access_key: &'a Secret,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// What is signed.
pub(super) struct Signable<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    /// The path, escaped once.
    pub(super) path: &'a str,
    /// The query, sorted and escaped.
    pub(super) query: &'a str,
    /// A session token, which becomes a field.
    pub(super) token: Option<&'a str>,
    pub(super) content: &'a [u8],
}

impl Signer<'_> {
    /// The value of `authorization` at a time, in seconds since 1970.
    pub(super) fn authorization(&self, request: &Signable<'_>, now: u64) -> String {
        let time = date_time(now);
        let date = time.split('T').next().unwrap_or_default();
        let mut fields = format!("host:{}\nx-amz-date:{time}\n", request.host);
        let mut names = "host;x-amz-date".to_owned();
        if let Some(token) = request.token {
            fields.push_str(&format!("x-amz-security-token:{token}\n"));
            names.push_str(";x-amz-security-token");
        }
        let canonical = format!(
            "{}\n{}\n{}\n{fields}\n{names}\n{}",
            request.method,
            request.path,
            request.query,
            hex(&Sha256::digest(request.content)),
        );
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let digest = hex(&Sha256::digest(canonical.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let mut key = hmac(format!("AWS4{}", self.secret_access_key.expose()).as_bytes(), date);
        for part in [self.region, self.service, "aws4_request"] {
            key = hmac(&key, part);
        }
        let signature = hex(&hmac(&key, &text));
        let id = self.access_key_id;
        format!(
            "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
    }
}

/// `20150830T123600Z`.
pub(super) fn date_time(now: u64) -> String {
    let (days, seconds) = (now / 86_400, now % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Year, month and day of a day since 1970, by counting in years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut hmac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("any length is a key");
    hmac.update(text.as_bytes());
    hmac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (now, expected) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_440_938_160, "20150830T123600Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(date_time(now), expected);
        }
    }

    /// `get-vanilla` and `get-vanilla-query-order-key-case` of the published test suite.
    #[test]
    fn published_vectors() {
        let secret = Secret::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let signer = Signer {
            access_key_id: "AKIDEXAMPLE",
            secret_access_key: &secret,
            region: "us-east-1",
            service: "service",
        };
        for (query, expected) in [
            ("", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                "Param1=value1&Param2=value2",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            let request = Signable {
                method: "GET",
                host: "example.amazonaws.com",
                path: "/",
                query,
                token: None,
                content: b"",
            };
            let value = signer.authorization(&request, 1_440_938_160);
            assert!(value.ends_with(expected), "{query}: {value}");
        }
    }
}
