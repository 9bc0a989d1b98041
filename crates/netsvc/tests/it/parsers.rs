//! Parsers of what strangers send, against bytes that nobody planned.

use hearth_netsvc::testing;
use proptest::prelude::*;

/// Pieces of real messages in any order say more than random bytes, which fail at the first.
fn pieces(known: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(known).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

const SSDP: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200\n",
    "LOCATION: ",
    "location:",
    "http://192.168.1.1",
    "http://192.168.1.1:5000/root.xml",
    "http://[::ffff:192.168.1.1]/",
    "http://10.0.0.1/",
    ":80",
    "\r\n",
    "\n",
    "ST: upnp:rootdevice",
    "/a?b#c",
    "%0d%0a",
    "@",
    "//",
];

const XML: &[&str] = &[
    "<?xml version=\"1.0\"?>",
    "<root xmlns=\"urn:schemas-upnp-org:device-1-0\">",
    "</root>",
    "<URLBase>http://192.168.1.1:99/</URLBase>",
    "<URLBase>http://10.0.0.1/</URLBase>",
    "<service>",
    "</service>",
    "<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>",
    "<controlURL>/ctl</controlURL>",
    "<controlURL>http://10.0.0.1/ctl</controlURL>",
    "<controlURL>//10.0.0.1/ctl</controlURL>",
    "<!DOCTYPE a [<!ENTITY b 'c'>]>",
    "&b;",
    "&lt;",
    "<s:Fault xmlns:s='x'>",
    "</s:Fault>",
    "<UPnPError>",
    "</UPnPError>",
    "<errorCode>",
    "</errorCode>",
    "718",
    "<GetExternalIPAddressResponse>",
    "</GetExternalIPAddressResponse>",
    "<a>",
    "</a>",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
];

/// A service that is complete, with one thing of `XML` inside.
fn service() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(XML).prop_map(|inside| {
        format!(
            "<root>{inside}<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1\
             </serviceType>{inside}<controlURL>/ctl</controlURL></service></root>"
        )
        .into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn datagrams(bytes in prop::collection::vec(any::<u8>(), 0..80), head in 0u8..4, op in any::<u8>()) {
        let mut bytes = bytes;
        testing::datagrams(&bytes);
        // Most versions and operations are of no interest.
        if let [version, operation, _, result, ..] = bytes.as_mut_slice() {
            (*version, *operation, *result) = (head & 2, 0x80 | (op & 3), op >> 6);
        }
        testing::datagrams(&bytes);
    }

    #[test]
    fn stun(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        testing::stun(&bytes);
    }

    #[test]
    fn ssdp(bytes in pieces(SSDP)) {
        testing::ssdp(&bytes);
    }

    #[test]
    fn xml(bytes in prop_oneof![pieces(XML), service()]) {
        testing::xml(&bytes);
    }
}
