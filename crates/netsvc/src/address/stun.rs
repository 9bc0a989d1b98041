//! STUN binding (RFC 8489): requests to bytes, bytes to responses. No sockets here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A request for the address that we come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingRequest {
    transaction: [u8; 12],
}

impl BindingRequest {
    /// A request with a transaction id that nobody can guess.
    #[must_use]
    pub fn random() -> Self {
        Self { transaction: crate::random::bytes() }
    }

    /// The datagram.
    #[must_use]
    pub fn encode(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..2].copy_from_slice(&BINDING_REQUEST.to_be_bytes());
        bytes[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        bytes[8..].copy_from_slice(&self.transaction);
        bytes
    }

    /// Reads the datagram that answers this request. `None`: it does not, or is no success.
    ///
    /// Only `XOR-MAPPED-ADDRESS` counts: some routers rewrite the plain one (§14.1).
    #[must_use]
    pub fn parse_response(&self, datagram: &[u8]) -> Option<SocketAddr> {
        let (head, mut attributes) = datagram.split_first_chunk::<20>()?;
        let [kind @ .., _, _] = head.first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let is_ours = u16::from_be_bytes(*kind) == BINDING_SUCCESS
            && head.get(4..8)? == MAGIC_COOKIE.to_be_bytes()
            && head.get(8..)? == self.transaction;
        if !is_ours || attributes.len() != length {
            return None;
        }
        while let Some((head, rest)) = attributes.split_first_chunk::<4>() {
            let [kind_high, kind_low, length_high, length_low] = *head;
            let length = usize::from(u16::from_be_bytes([length_high, length_low]));
            let value = rest.get(..length)?;
            if u16::from_be_bytes([kind_high, kind_low]) == XOR_MAPPED_ADDRESS {
                return self.unmask(value);
            }
            attributes = rest.get(length.next_multiple_of(4)..)?;
        }
        None
    }

    /// §14.2.
    fn unmask(&self, value: &[u8]) -> Option<SocketAddr> {
        let ([_, family, port @ ..], address) = value.split_first_chunk::<4>()?;
        let cookie = MAGIC_COOKIE.to_be_bytes();
        let port = u16::from_be_bytes(*port) ^ u16::from_be_bytes([cookie[0], cookie[1]]);
        let address: IpAddr = match family {
            1 => Ipv4Addr::from(u32::from_be_bytes(address.try_into().ok()?) ^ MAGIC_COOKIE).into(),
            2 => {
                let mut mask = [0; 16];
                mask[..4].copy_from_slice(&cookie);
                mask[4..].copy_from_slice(&self.transaction);
                let masked = u128::from_be_bytes(address.try_into().ok()?);
                Ipv6Addr::from(masked ^ u128::from_be_bytes(mask)).into()
            }
            _ => return None,
        };
        Some(SocketAddr::new(address, port))
    }

    /// What a server answers to who comes from `from`. For tests and stand-ins.
    #[must_use]
    pub fn response(&self, from: SocketAddr) -> Vec<u8> {
        let (family, octets) = match from.ip() {
            IpAddr::V4(v4) => (1, v4.octets().to_vec()),
            IpAddr::V6(v6) => (2, v6.octets().to_vec()),
        };
        let mask = MAGIC_COOKIE.to_be_bytes().into_iter().chain(self.transaction);
        let masked = octets.iter().zip(mask).map(|(octet, mask)| octet ^ mask);
        let port = from.port().to_be_bytes();
        let cookie = MAGIC_COOKIE.to_be_bytes();
        let mut value = vec![0, family, port[0] ^ cookie[0], port[1] ^ cookie[1]];
        value.extend(masked);
        let length = u16::try_from(value.len()).expect("an address is short");
        let mut bytes = BINDING_SUCCESS.to_be_bytes().to_vec();
        bytes.extend((length + 4).to_be_bytes());
        bytes.extend(cookie);
        bytes.extend(self.transaction);
        bytes.extend(XOR_MAPPED_ADDRESS.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(value);
        bytes
    }

    /// Reads a request, for stand-ins of servers.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let head = datagram.first_chunk::<20>()?;
        let is_request = head.get(..2)? == BINDING_REQUEST.to_be_bytes()
            && head.get(4..8)? == MAGIC_COOKIE.to_be_bytes();
        is_request.then_some(Self { transaction: *head.last_chunk()? })
    }
}

const MAGIC_COOKIE: u32 = 0x2112_a442;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_of_rfc_5769() {
        let transaction = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";
        let request = BindingRequest { transaction };
        // §2.2 and §2.3, their XOR-MAPPED-ADDRESS alone.
        let v4 = b"\x00\x01\xa1\x47\xe1\x12\xa6\x43";
        assert_eq!(request.unmask(v4), Some("192.0.2.1:32853".parse().unwrap()));
        let v6 =
            b"\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9";
        let want = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        assert_eq!(request.unmask(v6), Some(want));
    }

    #[test]
    fn responses() {
        let request = BindingRequest { transaction: *b"abcdefghijkl" };
        for text in ["11.0.0.1:443", "[2a00::1]:1"] {
            let from = text.parse().unwrap();
            let response = request.response(from);
            assert_eq!(request.parse_response(&response), Some(from));
            for length in 0..response.len() {
                assert_eq!(request.parse_response(&response[..length]), None, "{length}");
            }
            for bit in 0..20 * 8 {
                let mut other = response.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(request.parse_response(&other), None, "bit {bit} of the head");
            }
        }
        assert_eq!(BindingRequest::parse(&request.encode()), Some(request));
    }
}
