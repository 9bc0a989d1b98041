//! Signatures of transactions (RFC 8945), with HMAC-SHA256 alone.
//!
//! Older algorithms are not offered: every server that is maintained knows this one.
#![deny(clippy::indexing_slicing)]

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{
    Name, Rcode,
    message::{Message, MessageError, Reader, put_u16},
};
use crate::ddns::Secret;

/// A key shared with a name server.
#[derive(Clone)]
pub struct TsigKey {
    name: Name,
    secret: Vec<u8>,
}

/// Why a key cannot be used. Who configured it must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the TSIG key is not base64")]
pub struct InvalidTsigKey;

/// Why a signed answer is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TsigError {
    /// The server does not know a key of this name.
    #[error("the name server does not know the key")]
    BadKey,
    /// The server computes another signature: the secret or the algorithm differs.
    #[error("the name server finds the signature wrong: the secret or its algorithm differs")]
    BadSignature,
    /// The clocks differ by more than is allowed.
    #[error("the clock differs from the name server's by {} s", .0.unsigned_abs())]
    BadTime(
        /// How many seconds the server's clock is ahead of ours.
        i64,
    ),
    /// The answer is not signed, or not by who holds the key.
    #[error("the answer is not signed with the key")]
    Forged,
}

/// What was sent, to check the answer against.
pub(crate) struct Signed {
    pub(crate) bytes: Vec<u8>,
    mac: Vec<u8>,
}

/// The fields of a signature record.
struct Signature<'a> {
    time: u64,
    fudge: u16,
    mac: &'a [u8],
    original_id: u16,
    error: Rcode,
    other: &'a [u8],
}

impl TsigKey {
    /// A key by its name and its secret in base64, as `tsig-keygen` prints them.
    ///
    /// # Errors
    /// [`InvalidTsigKey`] where `secret` is not base64.
    pub fn new(name: Name, secret: &Secret) -> Result<Self, InvalidTsigKey> {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let secret = BASE64_STANDARD.decode(secret.expose().trim()).map_err(|_| InvalidTsigKey)?;
        Ok(Self { name, secret })
    }

    /// Signs a message at a time, in seconds since 1970.
    pub(crate) fn sign(&self, message: &Message, now: u64) -> Signed {
        let mut bytes = message.encode();
        let mac = self.mac(None, &bytes, &self.variables(now, FUDGE_SECONDS, Rcode::NO_ERROR, &[]));
        bytes.extend_from_slice(self.name.wire());
        put_u16(&mut bytes, 250);
        put_u16(&mut bytes, 255);
        bytes.extend_from_slice(&0_u32.to_be_bytes());
        let mut data = ALGORITHM.to_vec();
        data.extend_from_slice(&time_bytes(now));
        put_u16(&mut data, FUDGE_SECONDS);
        put_u16(&mut data, u16::try_from(mac.len()).expect("32 bytes"));
        data.extend_from_slice(&mac);
        put_u16(&mut data, message.id);
        put_u16(&mut data, 0);
        put_u16(&mut data, 0);
        put_u16(&mut bytes, u16::try_from(data.len()).expect("some 70 bytes"));
        bytes.extend_from_slice(&data);
        add_to_additional_count(&mut bytes, 1);
        Signed { bytes, mac }
    }

    /// Checks the signature of an answer to `signed`.
    ///
    /// An error about key or signature comes unsigned (RFC 8945 §5.3.2), so it is believed as an error
    /// and as nothing else.
    pub(crate) fn verify(
        &self,
        signed: &Signed,
        answer: &[u8],
        message: &Message,
        now: u64,
    ) -> Result<(), TsigError> {
        let at = message.tsig_at.ok_or(TsigError::Forged)?;
        let signature = Signature::read(answer, at).map_err(|_| TsigError::Forged)?;
        match signature.error {
            Rcode::BAD_KEY => return Err(TsigError::BadKey),
            Rcode::BAD_SIGNATURE => return Err(TsigError::BadSignature),
            _ => {}
        }
        let mut unsigned = answer.get(..at).ok_or(TsigError::Forged)?.to_vec();
        let Some(id) = unsigned.get_mut(..2) else { return Err(TsigError::Forged) };
        id.copy_from_slice(&signature.original_id.to_be_bytes());
        add_to_additional_count(&mut unsigned, -1);
        let variables =
            self.variables(signature.time, signature.fudge, signature.error, signature.other);
        let hmac = self.hmac(Some(&signed.mac), &unsigned, &variables);
        hmac.verify_slice(signature.mac).map_err(|_| TsigError::Forged)?;
        if signature.error == Rcode::BAD_TIME {
            let server = signature.other.iter().fold(0, |time, &byte| time << 8 | u64::from(byte));
            return Err(TsigError::BadTime(difference(server, now)));
        }
        let ahead = difference(signature.time, now);
        if ahead.unsigned_abs() > u64::from(signature.fudge.max(FUDGE_SECONDS)) {
            return Err(TsigError::BadTime(ahead));
        }
        Ok(())
    }

    fn mac(&self, request: Option<&[u8]>, message: &[u8], variables: &[u8]) -> Vec<u8> {
        self.hmac(request, message, variables).finalize().into_bytes().to_vec()
    }

    fn hmac(&self, request: Option<&[u8]>, message: &[u8], variables: &[u8]) -> Hmac<Sha256> {
        let mut hmac =
            <Hmac<Sha256> as Mac>::new_from_slice(&self.secret).expect("any length is a key");
        if let Some(mac) = request {
            hmac.update(&u16::try_from(mac.len()).expect("32 bytes").to_be_bytes());
            hmac.update(mac);
        }
        hmac.update(message);
        hmac.update(variables);
        hmac
    }

    /// RFC 8945 §4.3.3.
    fn variables(&self, time: u64, fudge: u16, error: Rcode, other: &[u8]) -> Vec<u8> {
        let mut out = self.name.wire().to_vec();
        put_u16(&mut out, 255);
        out.extend_from_slice(&0_u32.to_be_bytes());
        out.extend_from_slice(ALGORITHM);
        out.extend_from_slice(&time_bytes(time));
        put_u16(&mut out, fudge);
        put_u16(&mut out, error.0);
        put_u16(&mut out, u16::try_from(other.len()).unwrap_or(u16::MAX));
        out.extend_from_slice(other);
        out
    }
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TsigKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> Signature<'a> {
    fn read(answer: &'a [u8], at: usize) -> Result<Self, MessageError> {
        let mut reader = Reader { bytes: answer, at };
        let _key = reader.name()?;
        let _type_class_ttl_length = reader.take(10)?;
        let _algorithm = reader.name()?;
        let high = u64::from(reader.u16()?);
        let time = high << 32 | u64::from(reader.u32()?);
        let fudge = reader.u16()?;
        let mac_length = usize::from(reader.u16()?);
        let mac = reader.take(mac_length)?;
        let (original_id, error) = (reader.u16()?, Rcode(reader.u16()?));
        let other_length = usize::from(reader.u16()?);
        let other = reader.take(other_length)?;
        Ok(Self { time, fudge, mac, original_id, error, other })
    }
}

fn time_bytes(time: u64) -> [u8; 6] {
    let [_, _, rest @ ..] = time.to_be_bytes();
    rest
}

fn difference(theirs: u64, ours: u64) -> i64 {
    i64::try_from(i128::from(theirs) - i128::from(ours)).unwrap_or(i64::MAX)
}

/// The count of additional records are bytes 10 and 11.
fn add_to_additional_count(message: &mut [u8], difference: i16) {
    if let Some(count) = message.get_mut(10..12) {
        let now = u16::from_be_bytes(count.try_into().expect("two bytes"));
        count.copy_from_slice(&now.wrapping_add_signed(difference).to_be_bytes());
    }
}

/// `hmac-sha256.` on the wire.
const ALGORITHM: &[u8] = b"\x0bhmac-sha256\0";

/// How far the clocks may be apart (RFC 8945 §10 recommends it).
const FUDGE_SECONDS: u16 = 300;

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::dns::{Class, RecordType};

    fn key(secret: &str) -> TsigKey {
        TsigKey::new("key.example".parse().unwrap(), &secret.into()).unwrap()
    }

    /// An answer signed with a key, as a server makes it.
    fn answer(key: &TsigKey, request: &Signed, now: u64) -> Vec<u8> {
        let name = "example".parse().unwrap();
        let mut message = Message::query(7, name, RecordType::Soa, Class::Internet);
        message.is_response = true;
        let mut bytes = message.encode();
        let variables = key.variables(now, 300, Rcode::NO_ERROR, &[]);
        let mac = key.mac(Some(&request.mac), &bytes, &variables);
        let own = key.sign(&message, now);
        bytes = own.bytes;
        // The answer's own signature takes the place of one that a request would have.
        let at = bytes.len() - 6 - mac.len();
        bytes.splice(at..at + mac.len(), mac);
        bytes
    }

    #[test]
    fn an_answer_is_believed_from_who_holds_the_key() {
        let ours = key("c2VjcmV0c2VjcmV0");
        let name = "example".parse().unwrap();
        let question = Message::query(7, name, RecordType::Soa, Class::Internet);
        let request = ours.sign(&question, 1000);
        let check =
            |bytes: &[u8], now| ours.verify(&request, bytes, &Message::decode(bytes).unwrap(), now);
        assert_eq!(check(&answer(&ours, &request, 1000), 1000), Ok(()));
        assert_eq!(check(&answer(&ours, &request, 1300), 1000), Ok(()));
        assert_eq!(check(&answer(&ours, &request, 1301), 1000), Err(TsigError::BadTime(301)));
        assert_eq!(check(&answer(&ours, &request, 500), 1000), Err(TsigError::BadTime(-500)));
        let theirs = key("b3RoZXI=");
        assert_eq!(check(&answer(&theirs, &request, 1000), 1000), Err(TsigError::Forged));
        let mut changed = answer(&ours, &request, 1000);
        changed[3] ^= 1;
        assert_eq!(check(&changed, 1000), Err(TsigError::Forged));
        assert_eq!(check(&question.encode(), 1000), Err(TsigError::Forged));
    }

    #[test]
    fn keys() {
        let name = || "k".parse().unwrap();
        assert!(TsigKey::new(name(), &"not base64!".into()).is_err());
        let shown = format!("{:?}", TsigKey::new(name(), &"c2VjcmV0".into()).unwrap());
        assert_eq!(shown, "TsigKey { name: k, .. }");
    }
}
