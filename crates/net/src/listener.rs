//! Where a server listens.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use hearth_http_core::{Protocol, Settings};
use socket2::{Domain, Socket, Type};

use crate::{NetLimits, TlsConfig};

/// An address to listen on, and how its connections are treated.
#[derive(Debug)]
#[must_use]
pub struct Listener {
    source: Source,
    pub(crate) tls: Option<Arc<TlsConfig>>,
    pub(crate) settings: Settings,
    pub(crate) protocol: Protocol,
    only_v6: bool,
}

#[derive(Debug)]
enum Source {
    Bind(SocketAddr),
    Given(Vec<TcpListener>),
}

/// Why an address cannot be listened on. The operator must act; the text says how.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another socket listens there.
    #[error("{address} is in use: stop the process that listens there, or choose another port")]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// No interface of this machine has the address.
    #[error("{} is no address of this machine: use one of its own, or 0.0.0.0 or [::] for all", address.ip())]
    AddressNotAvailable {
        /// The address.
        address: SocketAddr,
    },
    /// The user may not.
    #[error(
        "no permission to listen on {address}: ports below 1024 need CAP_NET_BIND_SERVICE, root, or socket activation"
    )]
    PermissionDenied {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// The sockets of one listener.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    /// One for each worker, or fewer, which are shared then.
    pub(crate) sockets: Vec<TcpListener>,
}

impl Listener {
    /// Listens on `address`, in the clear. Port 0 stands for any free port.
    pub fn bind(address: impl Into<SocketAddr>) -> Self {
        Self::new(Source::Bind(address.into()))
    }

    /// Takes over sockets that listen already on one address, for instance from the service
    /// manager or from the process before this one. With several, they must be of one
    /// `SO_REUSEPORT` group, and *every* socket of the group must be among them: the kernel queues
    /// connections on each.
    ///
    /// # Panics
    /// If there is none.
    pub fn from_std(sockets: Vec<TcpListener>) -> Self {
        assert!(!sockets.is_empty(), "a listener has at least one socket");
        Self::new(Source::Given(sockets))
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            tls: None,
            settings: Settings::default(),
            protocol: Protocol::Auto,
            only_v6: false,
        }
    }

    /// Encrypts the connections. Default: in the clear.
    pub fn tls(mut self, config: TlsConfig) -> Self {
        self.tls = Some(Arc::new(config));
        self
    }

    /// What the connections may do. Default: as the default of [`Settings`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// What is spoken in the clear. Over TLS the configuration's ALPN says it. Default: HTTP/1.1, or
    /// HTTP/2 if a client begins with its preface.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Whether an IPv6 address takes IPv6 connections only. Default no: `[::]` takes IPv4, too.
    pub fn only_v6(mut self, only_v6: bool) -> Self {
        self.only_v6 = only_v6;
        self
    }

    /// Makes the sockets: `count` of them that share the port, if `count` is above 1.
    pub(crate) fn open(&mut self, limits: &NetLimits, count: usize) -> Result<Bound, BindError> {
        match &mut self.source {
            Source::Bind(address) => open_group(*address, self.only_v6, limits, count),
            Source::Given(sockets) => adopt(std::mem::take(sockets), limits),
        }
    }
}

/// `count` sockets on one address.
fn open_group(
    address: SocketAddr,
    only_v6: bool,
    limits: &NetLimits,
    count: usize,
) -> Result<Bound, BindError> {
    let explain = |source| BindError::from_io(address, source);
    let is_group = count > 1 && CAN_SHARE_PORTS;
    if is_group && address.port() != 0 {
        // A group would quietly join a group of another process. A socket that shares with nobody
        // finds out whether somebody is there.
        make(address, only_v6, false).map_err(explain)?;
    }
    let first = make(address, only_v6, is_group).map_err(explain)?;
    let address = first.local_addr().map_err(explain)?.as_socket().unwrap_or(address);
    let mut group = vec![first];
    for _ in 1..if is_group { count } else { 1 } {
        group.push(make(address, only_v6, true).map_err(explain)?);
    }
    let mut sockets = Vec::with_capacity(group.len());
    for socket in group {
        socket.listen(i32::try_from(limits.backlog).unwrap_or(i32::MAX)).map_err(explain)?;
        prepare(&socket, limits);
        sockets.push(socket.into());
    }
    Ok(Bound { address, sockets })
}

fn adopt(sockets: Vec<TcpListener>, limits: &NetLimits) -> Result<Bound, BindError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let mut adopted = Bound { address: unknown, sockets: Vec::new() };
    for socket in sockets {
        let explain = |source| BindError::from_io(unknown, source);
        adopted.address = socket.local_addr().map_err(explain)?;
        socket.set_nonblocking(true).map_err(explain)?;
        let socket = Socket::from(socket);
        prepare(&socket, limits);
        adopted.sockets.push(socket.into());
    }
    Ok(adopted)
}

fn make(address: SocketAddr, only_v6: bool, is_group: bool) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // On Windows this would let another process take the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(is_group)?;
    #[cfg(not(target_os = "linux"))]
    let _ = is_group;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Sets what accepted connections are to have. On Linux they inherit it from the listener, which
/// saves two system calls for each.
fn prepare(socket: &Socket, limits: &NetLimits) {
    // Neither is worth a refusal to start.
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(limits.tcp_user_timeout));
    #[cfg(not(target_os = "linux"))]
    let _ = limits;
}

/// Whether the kernel spreads connections over sockets that share a port.
const CAN_SHARE_PORTS: bool = cfg!(target_os = "linux");

impl BindError {
    fn from_io(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::AddressInUse { address },
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable { address },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { address },
            _ => Self::Other { address, source },
        }
    }

    /// The address that cannot be listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::AddressInUse { address }
            | Self::AddressNotAvailable { address }
            | Self::PermissionDenied { address }
            | Self::Other { address, .. } => *address,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn accepted_connections_inherit_options() {
        let limits = NetLimits::default();
        for count in [1, 3] {
            let bound = Listener::bind(([127, 0, 0, 1], 0)).open(&limits, count).expect("free");
            assert_eq!(bound.sockets.len(), count);
            let _client = TcpStream::connect(bound.address).expect("it listens");
            let accepted = bound.sockets.iter().find_map(|socket| socket.accept().ok());
            let accepted = Socket::from(accepted.expect("one of them has it").0);
            assert!(accepted.tcp_nodelay().expect("an option"));
            let timeout = accepted.tcp_user_timeout().expect("an option");
            assert_eq!(timeout, Some(limits.tcp_user_timeout));
        }
    }
}
