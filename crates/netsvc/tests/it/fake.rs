//! A router on loopback that says whatever a test wants, and the routers that one meets.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex},
    time::Duration,
};

use hearth_netsvc::{
    gateway::Gateway,
    portmap::{MapperOptions, Method},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

/// An IGD whose answers are data.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<Inner>>);

pub(crate) struct Inner {
    /// Action, and the error that it fails with.
    pub(crate) errors: BTreeMap<&'static str, u16>,
    /// For `AddPortMapping`: lease, and the error that it fails with.
    pub(crate) lease_errors: BTreeMap<u32, u16>,
    /// External port, and whose it is: client, port, description, lease.
    pub(crate) table: BTreeMap<u16, (String, u16, String, u32)>,
    /// Says yes, and does nothing.
    pub(crate) forgets: bool,
    /// In place of the description.
    pub(crate) description: Option<String>,
    /// In place of everything: the bytes of every HTTP response.
    pub(crate) raw: Option<Vec<u8>>,
    /// Sends a byte of each response every 50 ms.
    pub(crate) drips: bool,
    /// The `LOCATION`, where it is not the true one.
    pub(crate) location: Option<String>,
    pub(crate) external: String,
    /// Every action, and its arguments.
    pub(crate) log: Vec<String>,
    http: SocketAddr,
}

impl Fake {
    /// Starts one, and options that lead to it.
    pub(crate) async fn start(tasks: &mut JoinSet<()>) -> (Self, MapperOptions) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ssdp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(group) = ssdp.local_addr().unwrap() else { unreachable!() };
        let fake = Self(Arc::new(Mutex::new(Inner {
            errors: BTreeMap::new(),
            lease_errors: BTreeMap::new(),
            table: BTreeMap::new(),
            forgets: false,
            description: None,
            raw: None,
            drips: false,
            location: None,
            external: "11.0.0.1".to_owned(),
            log: Vec::new(),
            http: listener.local_addr().unwrap(),
        })));
        let (searched, served) = (fake.clone(), fake.clone());
        tasks.spawn(async move { searched.answer_searches(ssdp).await });
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let fake = served.clone();
                connections.spawn(async move { fake.serve(stream).await });
            }
        });
        (fake, options(group, Method::Upnp))
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// Lets an action fail from now on.
    pub(crate) fn fail(&self, action: &'static str, code: u16) {
        self.with(|inner| inner.errors.insert(action, code));
    }

    /// The names of the actions that were called since the last time.
    pub(crate) fn log(&self) -> Vec<String> {
        self.with(|inner| std::mem::take(&mut inner.log))
    }

    async fn answer_searches(&self, socket: UdpSocket) {
        let mut buffer = [0; 2048];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
            let location = self.with(|inner| {
                inner.location.clone().unwrap_or_else(|| format!("http://{}/d.xml", inner.http))
            });
            let answer = format!("HTTP/1.1 200 OK\r\nST: x\r\nLOCATION: {location}\r\n\r\n");
            let _ = socket.send_to(answer.as_bytes(), peer).await;
        }
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&request).into_owned();
            if let Some((head, content)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.trim().parse().ok())?
                });
                if content.len() >= length.unwrap_or(0) {
                    break;
                }
            }
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => request.extend(&buffer[..count]),
            }
        }
        let response = self.respond(&String::from_utf8_lossy(&request));
        if !self.with(|inner| inner.drips) {
            let _ = stream.write_all(&response).await;
            return;
        }
        for byte in response {
            if stream.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn respond(&self, request: &str) -> Vec<u8> {
        self.with(|inner| {
            if let Some(raw) = &inner.raw {
                return raw.clone();
            }
            if request.starts_with("GET") {
                let text = inner.description.clone().unwrap_or_else(|| DESCRIPTION.to_owned());
                return http(200, &text);
            }
            let action = between(request, "#", "\"").unwrap_or_default();
            let done = inner.act(&action, request);
            match done {
                Ok(results) => http(
                    200,
                    &envelope(&format!(
                        "<u:{action}Response xmlns:u=\"{SERVICE}\">{results}</u:{action}Response>"
                    )),
                ),
                Err(code) => http(
                    500,
                    &envelope(&format!(
                        "<s:Fault><detail><UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\">\
                     <errorCode>{code}</errorCode><errorDescription>it says so</errorDescription>\
                     </UPnPError></detail></s:Fault>"
                    )),
                ),
            }
        })
    }
}

impl Inner {
    fn act(&mut self, action: &str, request: &str) -> Result<String, u16> {
        let argument = |name: &str| {
            between(request, &format!("<{name}>"), &format!("</{name}>")).unwrap_or_default()
        };
        let port: u16 = argument("NewExternalPort").parse().unwrap_or(0);
        let lease: u32 = argument("NewLeaseDuration").parse().unwrap_or(0);
        self.log.push(match action {
            "AddPortMapping" => format!("{action} {port} {lease}"),
            "DeletePortMapping" => format!("{action} {port}"),
            _ => action.to_owned(),
        });
        if let Some(code) = self.errors.get(action) {
            return Err(*code);
        }
        match action {
            "GetStatusInfo" => Ok("<NewConnectionStatus>Connected</NewConnectionStatus>\
                                   <NewUptime>1000</NewUptime>"
                .to_owned()),
            "GetExternalIPAddress" => {
                Ok(format!("<NewExternalIPAddress>{}</NewExternalIPAddress>", self.external))
            }
            "GetSpecificPortMappingEntry" => {
                let (client, port, description, lease) = self.table.get(&port).ok_or(714u16)?;
                Ok(format!(
                    "<NewInternalPort>{port}</NewInternalPort><NewInternalClient>{client}\
                     </NewInternalClient><NewEnabled>1</NewEnabled><NewPortMappingDescription>\
                     {description}</NewPortMappingDescription><NewLeaseDuration>{lease}\
                     </NewLeaseDuration>"
                ))
            }
            "AddPortMapping" => {
                if let Some(code) = self.lease_errors.get(&lease) {
                    return Err(*code);
                }
                let entry = (
                    argument("NewInternalClient"),
                    argument("NewInternalPort").parse().unwrap_or(0),
                    argument("NewPortMappingDescription"),
                    lease,
                );
                if !self.forgets {
                    self.table.insert(port, entry);
                }
                Ok(String::new())
            }
            "DeletePortMapping" => {
                self.errors.remove("AddPortMapping");
                self.table.remove(&port).map(|_| String::new()).ok_or(714)
            }
            "GetGenericPortMappingEntry" => {
                let index: usize = argument("NewPortMappingIndex").parse().unwrap_or(0);
                let (external, (client, port, description, lease)) =
                    self.table.iter().nth(index).ok_or(713u16)?;
                Ok(format!(
                    "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort>\
                     <NewProtocol>TCP</NewProtocol><NewInternalPort>{port}</NewInternalPort>\
                     <NewInternalClient>{client}</NewInternalClient><NewEnabled>1</NewEnabled>\
                     <NewPortMappingDescription>{description}</NewPortMappingDescription>\
                     <NewLeaseDuration>{lease}</NewLeaseDuration>"
                ))
            }
            _ => Err(401),
        }
    }
}

/// Options that lead to loopback, and no further.
pub(crate) fn options(group: SocketAddrV4, method: Method) -> MapperOptions {
    let loopback = Ipv4Addr::LOCALHOST.into();
    let mut options = MapperOptions::default();
    options.gateway = Some(Gateway::new(loopback, loopback, 8));
    options.methods = vec![method];
    options.ssdp_group = group;
    options.search_timeout = Duration::from_millis(900);
    options.request_timeout = Duration::from_secs(2);
    options
}

pub(crate) fn http(status: u16, content: &str) -> Vec<u8> {
    let length = content.len();
    format!("HTTP/1.1 {status} X\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{content}").into_bytes()
}

fn envelope(inside: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">\
         <s:Body>{inside}</s:Body></s:Envelope>"
    )
}

fn between(text: &str, before: &str, after: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0.to_owned())
}

const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";
pub(crate) const DESCRIPTION: &str = "<?xml version=\"1.0\"?>\
<root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device><friendlyName>Fake</friendlyName>\
<serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
<controlURL>/ctl</controlURL></service></serviceList></device></root>";
