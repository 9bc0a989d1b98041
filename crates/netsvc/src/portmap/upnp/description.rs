//! Device descriptions: which services a router offers, and where.

use super::{
    LocalUrl,
    xml::{self, Refusal, child_text, is_named},
};

/// What matters of a device's description.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Manufacturer, model and name, as far as told, for messages.
    pub name: String,
    /// Services that can map ports, best first.
    pub connections: Vec<Service>,
    /// The service that opens the firewall for IPv6.
    pub firewall: Option<Service>,
}

/// A service of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Service {
    /// Its type as the device writes it; requests must repeat it.
    pub service_type: String,
    /// Where it takes requests.
    pub control: LocalUrl,
}

impl Description {
    /// Reads the description that was fetched from `location`.
    ///
    /// Services whose control URL leads to another machine are left out.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn parse(text: &str, location: &LocalUrl) -> Result<Self, Refusal> {
        let document = xml::parse(text)?;
        let root = document.root_element();
        // UPnP 1.0 only: references are relative to this, if it is there.
        let base = child_text(root, "URLBase")
            .and_then(LocalUrl::parse)
            .filter(|base| base.host() == location.host())
            .unwrap_or_else(|| location.clone());
        let mut ranked = Vec::new();
        let mut firewall = None;
        for node in root.descendants().filter(|node| is_named(node, "service")) {
            let Some(service_type) = child_text(node, "serviceType") else { continue };
            let Some(control) = child_text(node, "controlURL").and_then(|url| base.resolve(url))
            else {
                continue;
            };
            if !is_plain(service_type) || ranked.len() >= SERVICES_MAX {
                continue;
            }
            let service = Service { service_type: service_type.to_owned(), control };
            if let Some(rank) = CONNECTIONS.iter().position(|known| *known == service_type) {
                ranked.push((rank, service));
            } else if service_type == FIREWALL {
                firewall.get_or_insert(service);
            }
        }
        if ranked.is_empty() {
            return Err(Refusal::Lacks("a WANIPConnection or WANPPPConnection service"));
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        let connections = ranked.into_iter().map(|(_, service)| service).collect();
        Ok(Self { name: name(root), connections, firewall })
    }
}

/// "Manufacturer Model (Name)", as far as known.
fn name(root: roxmltree::Node<'_, '_>) -> String {
    let Some(device) = xml::find(root, "device") else { return String::new() };
    let words = ["manufacturer", "modelName", "friendlyName"]
        .map(|part| child_text(device, part).unwrap_or_default())
        .into_iter()
        .filter(|word| !word.is_empty());
    let joined = words.collect::<Vec<_>>().join(" ");
    joined.chars().filter(|char| !char.is_control()).take(NAME_CHARS_MAX).collect()
}

/// It will stand in a header field and in an attribute.
fn is_plain(service_type: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'.' | b'_');
    service_type.bytes().all(allowed)
}

/// Best first.
const CONNECTIONS: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];
const FIREWALL: &str = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1";
const SERVICES_MAX: usize = 16;
const NAME_CHARS_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    fn service(kind: &str, control: &str) -> String {
        format!(
            "<service><serviceType>urn:schemas-upnp-org:service:{kind}</serviceType>\
             <controlURL>{control}</controlURL></service>"
        )
    }

    fn parse(inside: &str) -> Result<Description, Refusal> {
        let text = format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\">{inside}</root>"
        );
        let location = LocalUrl::parse("http://192.168.1.1:5000/d/root.xml").unwrap();
        Description::parse(&text, &location)
    }

    #[test]
    fn services_are_ranked() {
        let inside = format!(
            "<device><manufacturer>M</manufacturer><friendlyName>R</friendlyName><serviceList>{}{}{}{}</serviceList></device>",
            service("WANPPPConnection:1", "/ppp"),
            service("WANIPv6FirewallControl:1", "/fw"),
            service("WANIPConnection:1", "/ip1"),
            service("WANIPConnection:2", "ip2"),
        );
        let description = parse(&inside).unwrap();
        let controls: Vec<_> =
            description.connections.iter().map(|service| service.control.to_string()).collect();
        let want = [
            "http://192.168.1.1:5000/d/ip2",
            "http://192.168.1.1:5000/ip1",
            "http://192.168.1.1:5000/ppp",
        ];
        assert_eq!(controls, want);
        assert_eq!(description.firewall.unwrap().control.to_string(), "http://192.168.1.1:5000/fw");
        assert_eq!(description.name, "M R");
    }

    #[test]
    fn bases_and_strangers() {
        let with_base = |base: &str| {
            let service = service("WANIPConnection:1", "/ip");
            let description = parse(&format!("<URLBase>{base}</URLBase>{service}"))?;
            Ok::<_, Refusal>(description.connections[0].control.to_string())
        };
        assert_eq!(with_base("http://192.168.1.1:99/").unwrap(), "http://192.168.1.1:99/ip");
        // A base elsewhere is ignored, not followed.
        assert_eq!(with_base("http://10.0.0.1:99/").unwrap(), "http://192.168.1.1:5000/ip");
        let foreign = service("WANIPConnection:1", "http://10.0.0.1/ip");
        assert!(matches!(parse(&foreign), Err(Refusal::Lacks(_))));
        let odd = service("WANIPConnection:1\"", "/ip");
        assert!(matches!(parse(&odd), Err(Refusal::Lacks(_))));
        assert!(matches!(parse("<device/>"), Err(Refusal::Lacks(_))));
        assert!(matches!(parse("<device>"), Err(Refusal::Malformed)));
    }
}
