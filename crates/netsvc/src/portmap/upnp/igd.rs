//! The client of one gateway device: fetches its description, calls its services.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::Duration,
};

use hearth_http_client::{
    Client, ClientError, ClientOptions, ClientRequest, Dial, DialFuture, ErrorKind,
};
use hearth_http_core::{Portable, Transport};
use http::{HeaderName, HeaderValue, header};
use tokio::net::{TcpSocket, TcpStream};

use super::{
    LocalUrl, Refusal,
    description::{Description, Service},
    soap::{Action, Answer},
    xml::XML_BYTES_MAX,
};
use crate::{
    gateway,
    portmap::{MapError, Method, RouterCode},
};

/// A gateway device that can map ports.
pub(crate) struct Igd {
    http: Client,
    timeout: Duration,
    /// Our address on its network, from which every request comes.
    pub(super) local: Ipv4Addr,
    /// Manufacturer, model and name.
    pub(crate) name: String,
    pub(crate) host: IpAddr,
    pub(super) connection: Service,
    pub(super) firewall: Option<Service>,
}

/// Why an action was not done.
#[derive(Debug)]
pub(super) enum CallError {
    /// The device says so.
    Fault(RouterCode),
    /// There was no proper answer.
    Other(MapError),
}

/// `GetStatusInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) is_connected: bool,
    /// Seconds that the connection is up.
    pub(crate) uptime: Option<u32>,
}

impl Igd {
    /// Fetches and reads the description at `location`.
    pub(crate) async fn describe(
        location: &LocalUrl,
        local: Ipv4Addr,
        timeout: Duration,
    ) -> Result<Self, MapError> {
        let http =
            client(FromAddress::V4(local), timeout).map_err(|error| failed(location, &error))?;
        let request =
            ClientRequest::get(&location.to_string()).map_err(|error| failed(location, &error))?;
        let (status, text) = fetch(&http, location, request).await?;
        if status != 200 {
            return Err(MapError::Protocol {
                method: Method::Upnp,
                what: "the description cannot be had",
            });
        }
        let description =
            Description::parse(&text, location).map_err(|refusal| refused(location, refusal))?;
        let mut connections = description.connections.into_iter();
        let first = connections.next().expect("a description has a connection");
        let mut igd = Self {
            http,
            timeout,
            local,
            name: description.name,
            host: location.host(),
            connection: first,
            firewall: description.firewall,
        };
        // A router with two uplinks, or with an unused PPP service, has several: one is in use.
        let others: Vec<_> = connections.collect();
        if !others.is_empty() && !igd.is_connected().await {
            let first = igd.connection.clone();
            for other in others {
                igd.connection = other;
                if igd.is_connected().await {
                    return Ok(igd);
                }
            }
            igd.connection = first;
        }
        Ok(igd)
    }

    pub(crate) async fn is_connected(&self) -> bool {
        self.status().await.is_ok_and(|status| status.is_connected)
    }

    pub(crate) async fn status(&self) -> Result<Status, MapError> {
        let results = self.call(&self.connection, "GetStatusInfo", &[]).await;
        let results = results.map_err(CallError::into_map_error)?;
        Ok(Status {
            is_connected: value(&results, "NewConnectionStatus")
                .is_some_and(|status| status.eq_ignore_ascii_case("connected")),
            uptime: value(&results, "NewUptime").and_then(|uptime| uptime.parse().ok()),
        })
    }

    pub(crate) async fn external_address(&self) -> Result<Ipv4Addr, MapError> {
        let results = self.call(&self.connection, "GetExternalIPAddress", &[]).await;
        let results = results.map_err(CallError::into_map_error)?;
        let address = value(&results, "NewExternalIPAddress").unwrap_or_default();
        match address.parse::<Ipv4Addr>() {
            Ok(address) if !address.is_unspecified() => Ok(address),
            Err(_) if !address.is_empty() => Err(MapError::Protocol {
                method: Method::Upnp,
                what: "its external address is none",
            }),
            _ => Err(MapError::NotConnected { code: None }),
        }
    }

    /// Calls an action and returns its results.
    pub(super) async fn call(
        &self,
        service: &Service,
        name: &str,
        arguments: &[(&str, &str)],
    ) -> Result<Vec<(String, String)>, CallError> {
        self.call_by(&self.http, service, name, arguments).await
    }

    /// Calls an action of the firewall's service about one of our IPv6 addresses.
    ///
    /// Routers that care ask for it to come from this address, so it goes to the IPv6 default gateway,
    /// which is the same device; where that does not answer there, it goes the way of all others.
    pub(super) async fn call_firewall(
        &self,
        internal: Ipv6Addr,
        name: &str,
        arguments: &[(&str, &str)],
    ) -> Result<Vec<(String, String)>, CallError> {
        let firewall = self.firewall.as_ref().ok_or(CallError::Other(MapError::Unsupported {
            method: Method::Upnp,
            what: "open its firewall for IPv6",
        }))?;
        if let Ok(Some(gateway)) = gateway::default_ipv6() {
            let dialer = FromAddress::V6 { local: internal, scope: gateway.interface_index };
            let control = firewall.control.with_host(gateway.address);
            let http = client(dialer, self.timeout)
                .map_err(|error| CallError::Other(failed(&control, &error)))?;
            let service = Service { control, ..firewall.clone() };
            match self.call_by(&http, &service, name, arguments).await {
                Err(CallError::Other(error)) => {
                    tracing::debug!(%error, "the router takes no UPnP requests over IPv6");
                }
                result => return result,
            }
        }
        self.call(firewall, name, arguments).await
    }

    async fn call_by(
        &self,
        http: &Client,
        service: &Service,
        name: &str,
        arguments: &[(&str, &str)],
    ) -> Result<Vec<(String, String)>, CallError> {
        let action = Action { service_type: &service.service_type, name, arguments };
        let other = |error: &ClientError| CallError::Other(failed(&service.control, error));
        let field = HeaderValue::try_from(action.field())
            .expect("service types are checked where they are read");
        let request = ClientRequest::post(&service.control.to_string(), action.encode())
            .map_err(|error| other(&error))?
            .with_header(header::CONTENT_TYPE, HeaderValue::from_static(XML_TYPE))
            .with_header(SOAP_ACTION, field)
            // Embedded servers close anyway, and some forget to say so.
            .with_header(header::CONNECTION, HeaderValue::from_static("close"));
        let (status, text) =
            fetch(http, &service.control, request).await.map_err(CallError::Other)?;
        match Answer::parse(&text, name) {
            Ok(Answer::Done(results)) if status == 200 => Ok(results),
            Ok(Answer::Done(_)) => Err(CallError::Other(MapError::Protocol {
                method: Method::Upnp,
                what: "its status contradicts its content",
            })),
            Ok(Answer::Fault { code, text }) => {
                Err(CallError::Fault(RouterCode::foreign(code, &text)))
            }
            // Routers that are switched off answer 401, 403 or 404 with a page for people.
            Err(_) if (400..500).contains(&status) => Err(CallError::Other(MapError::Refused {
                method: Method::Upnp,
                code: RouterCode::named(status, "HTTP status"),
            })),
            Err(refusal) => Err(CallError::Other(refused(&service.control, refusal))),
        }
    }
}

impl CallError {
    /// Without knowledge of what was asked.
    pub(super) fn into_map_error(self) -> MapError {
        let method = Method::Upnp;
        match self {
            Self::Other(error) => error,
            Self::Fault(code) => match code.number {
                401 | 602 => MapError::Unsupported { method, what: "do what was asked" },
                501 | 606 | 703 => MapError::Refused { method, code },
                701 | 728 => MapError::TableFull { code },
                _ => MapError::Router { method, code },
            },
        }
    }

    pub(super) fn number(&self) -> Option<u16> {
        match self {
            Self::Fault(code) => Some(code.number),
            Self::Other(_) => None,
        }
    }
}

/// The value of a result.
pub(super) fn value<'a>(results: &'a [(String, String)], name: &str) -> Option<&'a str> {
    results.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Sends a request, and reads the content that comes back within all bounds.
async fn fetch(
    http: &Client,
    url: &LocalUrl,
    request: ClientRequest,
) -> Result<(u16, String), MapError> {
    let response = http.send(request).await.map_err(|error| failed(url, &error))?;
    let status = response.status();
    if status.is_redirection() {
        return Err(MapError::Hostile { from: url.host(), what: "a redirect" });
    }
    let bytes = response.bytes(XML_BYTES_MAX as u64).await.map_err(|error| failed(url, &error))?;
    Ok((status.as_u16(), String::from_utf8_lossy(&bytes).into_owned()))
}

fn client(dialer: FromAddress, timeout: Duration) -> Result<Client, ClientError> {
    let mut options = ClientOptions::default();
    // One deadline for everything: who drips bytes gains nothing.
    options.timeouts.total = Some(timeout);
    options.limits.head_bytes_max = 16 * 1024;
    options.limits.header_count_max = 64;
    options.pool.idle_per_origin_max = 0;
    options.pool.connections_per_origin_max = 4;
    options.user_agent = Some(HeaderValue::from_static("hearth UPnP/1.1"));
    options.dialer = Some(Arc::new(dialer));
    Client::new(options)
}

/// Connects from one of our addresses: routers in "secure mode" compare it with the mapping's.
#[derive(Debug, Clone, Copy)]
enum FromAddress {
    V4(Ipv4Addr),
    /// With the interface that leads to a link-local address.
    V6 {
        local: Ipv6Addr,
        scope: u32,
    },
}

impl FromAddress {
    async fn connect(self, host: IpAddr, port: u16) -> io::Result<TcpStream> {
        let (socket, to) = match (self, host) {
            (Self::V4(local), IpAddr::V4(host)) => {
                let socket = TcpSocket::new_v4()?;
                socket.bind((local, 0).into())?;
                (socket, SocketAddr::from((host, port)))
            }
            (Self::V6 { local, scope }, IpAddr::V6(host)) => {
                let socket = TcpSocket::new_v6()?;
                socket.bind((local, 0).into())?;
                (socket, SocketAddrV6::new(host, port, 0, scope).into())
            }
            // We search by IPv4, so no device of the other family is ever found.
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        socket.connect(to).await
    }
}

impl Dial for FromAddress {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> DialFuture<'a> {
        Box::pin(async move {
            let host = host.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            let stream = self.connect(host, port).await?;
            Ok(Box::new(Portable(stream)) as Box<dyn Transport>)
        })
    }
}

fn failed(url: &LocalUrl, error: &ClientError) -> MapError {
    tracing::debug!(%url, %error, "a UPnP request failed");
    let method = Method::Upnp;
    match error.kind() {
        ErrorKind::Timeout(_) => MapError::Timeout { method },
        ErrorKind::TooLarge => MapError::Hostile { from: url.host(), what: "it is too large" },
        ErrorKind::Redirect => MapError::Hostile { from: url.host(), what: "a redirect" },
        ErrorKind::Protocol => MapError::Protocol { method, what: "it is not HTTP" },
        ErrorKind::Connect => MapError::Protocol { method, what: "nobody listens at its address" },
        ErrorKind::Closed => MapError::Protocol { method, what: "it ends too early" },
        _ => MapError::Io { what: error.to_string() },
    }
}

fn refused(url: &LocalUrl, refusal: Refusal) -> MapError {
    tracing::debug!(%url, %refusal, "UPnP XML is refused");
    let method = Method::Upnp;
    match refusal {
        Refusal::TooLarge => MapError::Hostile { from: url.host(), what: "it is too large" },
        Refusal::Doctype => {
            MapError::Hostile { from: url.host(), what: "it has a document type declaration" }
        }
        Refusal::Malformed => MapError::Protocol { method, what: "it is malformed XML" },
        Refusal::Lacks(what) => MapError::Protocol { method, what: lacks(what) },
    }
}

fn lacks(what: &'static str) -> &'static str {
    match what {
        "an error code" => "an error without a code",
        "the response to the action" => "the response is to something else",
        _ => "it offers no service that maps ports",
    }
}

const SOAP_ACTION: HeaderName = HeaderName::from_static("soapaction");
const XML_TYPE: &str = "text/xml; charset=\"utf-8\"";
