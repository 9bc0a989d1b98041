//! Questions over UDP, and over TCP where that is not enough.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout, timeout_at},
};

use super::{
    Class, DnsError, Name, Rcode, Record, RecordData, RecordType,
    message::{Message, Opcode},
    tsig::{Signed, TsigKey},
};
use crate::random;

/// Asks name servers that it is told, and never others. Cheap to clone.
///
/// An answer counts only if it comes from the asked address and repeats our random number and our
/// random mixture of capital and small letters; whatever else arrives is not even an error.
#[derive(Clone, Debug)]
pub struct DnsClient(Arc<DnsOptions>);

/// Options of a [`DnsClient`]. Start from [`new`](Self::new) or [`from_system`](Self::from_system).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DnsOptions {
    /// Who looks names up for us, in order of preference.
    pub resolvers: Vec<SocketAddr>,
    /// Zones whose authoritative servers are known, so that nobody is asked for them. The longest
    /// match counts. Default none.
    pub zones: Vec<(Name, Vec<SocketAddr>)>,
    /// Where authoritative servers listen. Default 53; laboratories use others.
    pub port: u16,
    /// How long one question waits for its answer. Default 2 s.
    pub timeout: Duration,
    /// How often a question over UDP is sent. Default 3.
    pub attempt_count: u32,
}

/// What a server answered: the records, or that there are none.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Answer {
    /// Who answered.
    pub server: SocketAddr,
    /// `NOERROR` or `NXDOMAIN`; others are errors.
    pub rcode: Rcode,
    /// Whether the server is in charge of the zone.
    pub is_authoritative: bool,
    /// The records asked for, with the aliases that lead to them.
    pub records: Vec<Record>,
    /// About the zone: its start where there are no records, its servers where another is in charge.
    pub authorities: Vec<Record>,
}

/// The addresses of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Addresses {
    /// Those of type `A`.
    pub v4: Vec<Ipv4Addr>,
    /// Those of type `AAAA`.
    pub v6: Vec<Ipv6Addr>,
}

impl DnsOptions {
    /// Asks these resolvers.
    #[must_use]
    pub fn new(resolvers: Vec<SocketAddr>) -> Self {
        Self {
            resolvers,
            zones: Vec::new(),
            port: 53,
            timeout: Duration::from_secs(2),
            attempt_count: 3,
        }
    }

    /// Asks the resolvers that this machine uses: those of `/etc/resolv.conf`. There are none where
    /// the file is missing, as on Windows; then they must be configured.
    #[must_use]
    pub fn from_system() -> Self {
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Self::new(name_servers(&text))
    }
}

impl Answer {
    /// What the records of one type hold.
    pub fn data(&self, kind: RecordType) -> impl Iterator<Item = &RecordData> {
        self.records.iter().filter(move |record| record.kind == kind).map(|record| &record.data)
    }

    /// The addresses among the records.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.records.iter().filter_map(|record| record.data.address())
    }

    /// The texts among the records. Those outside UTF-8 are left out.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.records.iter().filter_map(|record| record.data.text())
    }
}

impl DnsClient {
    /// A client with these options. It does nothing until it is asked.
    #[must_use]
    pub fn new(options: DnsOptions) -> Self {
        Self(Arc::new(options))
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &DnsOptions {
        &self.0
    }

    /// Asks one server about a name, without recursion.
    ///
    /// # Errors
    /// [`DnsError`]. That there is no such name or record is an answer, not an error.
    ///
    /// # Cancel safety
    /// Dropping the future closes its socket.
    pub async fn query(
        &self,
        server: SocketAddr,
        name: &Name,
        kind: RecordType,
    ) -> Result<Answer, DnsError> {
        self.ask(server, name, kind, Class::Internet, false).await
    }

    /// Asks the resolvers about a name, one after the other until one answers.
    ///
    /// # Errors
    /// [`DnsError::NoResolver`], or the error of the last resolver.
    pub async fn lookup(&self, name: &Name, kind: RecordType) -> Result<Answer, DnsError> {
        let mut last = DnsError::NoResolver;
        for &resolver in &self.0.resolvers {
            match self.ask(resolver, name, kind, Class::Internet, true).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The addresses of a name, from the resolvers.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub async fn addresses(&self, name: &Name) -> Result<Addresses, DnsError> {
        let (v4, v6) =
            tokio::join!(self.lookup(name, RecordType::A), self.lookup(name, RecordType::Aaaa));
        Ok(Addresses::from_ips(v4?.addresses().chain(v6?.addresses())))
    }

    /// Asks a server which address we come from: a text of class `Chaos` for `whoami.cloudflare`, of
    /// class `Internet` for `o-o.myaddr.l.google.com`.
    ///
    /// # Errors
    /// [`DnsError::Unexpected`] where the answer is not one address.
    pub async fn whoami(
        &self,
        server: SocketAddr,
        name: &Name,
        class: Class,
    ) -> Result<IpAddr, DnsError> {
        let answer = self.ask(server, name, RecordType::Txt, class, false).await?;
        let texts: Vec<_> = answer.texts().collect();
        let [text] = texts.as_slice() else {
            return Err(DnsError::Unexpected { server, what: "not one text" });
        };
        let what = "the text is no address";
        text.parse().map_err(|_| DnsError::Unexpected { server, what })
    }

    /// One question to one server.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn ask(
        &self,
        server: SocketAddr,
        name: &Name,
        kind: RecordType,
        class: Class,
        is_recursive: bool,
    ) -> Result<Answer, DnsError> {
        let mut question = Message::query(0, name.clone(), kind, class);
        question.wants_recursion = is_recursive;
        question.add_opt(UDP_BYTES_MAX);
        let mut answer = self.exchange(server, &mut question).await?;
        let is_old = matches!(answer.rcode, Rcode::FORMAT_ERROR | Rcode::NOT_IMPLEMENTED);
        if is_old && !question.additionals.is_empty() {
            // RFC 6891 §7: who does not know the extension is asked without.
            question.additionals.clear();
            answer = self.exchange(server, &mut question).await?;
        }
        match answer.rcode {
            Rcode::NO_ERROR | Rcode::NO_SUCH_NAME => Ok(Answer {
                server,
                rcode: answer.rcode,
                is_authoritative: answer.is_authoritative,
                records: answer.answers,
                authorities: answer.authorities,
            }),
            rcode => Err(DnsError::Rcode { server, name: name.clone(), rcode }),
        }
    }

    /// Sends a signed update over TCP and checks the signature of its answer.
    ///
    /// # Errors
    /// [`DnsError`]. The code of the answer is for the caller to judge.
    pub(crate) async fn update(
        &self,
        server: SocketAddr,
        message: &mut Message,
        key: Option<&TsigKey>,
        now: u64,
    ) -> Result<Rcode, DnsError> {
        message.id = random_id();
        let signed = key.map(|key| (key, key.sign(message, now)));
        let unsigned = message.encode();
        let bytes = signed.as_ref().map_or(&unsigned, |(_, Signed { bytes, .. })| bytes);
        let deadline = Instant::now() + self.0.timeout * self.0.attempt_count.max(1) * 2;
        let raw = over_tcp(server, bytes, deadline).await?;
        let answer = Message::decode(&raw).map_err(|error| DnsError::message(server, error))?;
        if !answer.is_response || answer.id != message.id || answer.opcode != message.opcode {
            return Err(DnsError::Unexpected { server, what: "not the answer to our update" });
        }
        if let Some((key, signed)) = &signed {
            key.verify(signed, &raw, &answer, now)
                .map_err(|source| DnsError::Signature { server, source })?;
        }
        Ok(answer.rcode)
    }

    /// A question and its answer, whatever that says.
    async fn exchange(
        &self,
        server: SocketAddr,
        question: &mut Message,
    ) -> Result<Message, DnsError> {
        for _ in 0..self.0.attempt_count.max(1) {
            question.id = random_id();
            let mut bytes = question.encode();
            mix_case(&mut bytes);
            match over_udp(server, &bytes, question, self.0.timeout).await? {
                Some(answer) if !answer.is_truncated => return Ok(answer),
                Some(_) => return self.exchange_over_tcp(server, question, &bytes).await,
                None => {}
            }
        }
        // Some networks let no DNS through over UDP, or only small answers.
        self.exchange_over_tcp(server, question, &question.encode()).await
    }

    async fn exchange_over_tcp(
        &self,
        server: SocketAddr,
        question: &Message,
        bytes: &[u8],
    ) -> Result<Message, DnsError> {
        let raw = over_tcp(server, bytes, Instant::now() + self.0.timeout * 2).await?;
        let answer = Message::decode(&raw).map_err(|error| DnsError::message(server, error))?;
        if !answers(&answer, question) {
            return Err(DnsError::Unexpected { server, what: "not the answer to our question" });
        }
        Ok(answer)
    }
}

impl Addresses {
    /// Sorted by family, in the given order.
    pub fn from_ips(ips: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut addresses = Self::default();
        for ip in ips {
            match ip {
                IpAddr::V4(address) => addresses.v4.push(address),
                IpAddr::V6(address) => addresses.v6.push(address),
            }
        }
        addresses
    }
}

/// The servers that a `resolv.conf` names. A zone behind `%` is kept where it is a number.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let server = (words.next()? == "nameserver").then(|| words.next()).flatten()?;
        let (address, zone) = server.split_once('%').unwrap_or((server, "0"));
        match address.parse().ok()? {
            IpAddr::V4(address) => Some(SocketAddr::from((address, 53))),
            IpAddr::V6(address) => {
                let zone = zone.parse().ok()?;
                Some(std::net::SocketAddrV6::new(address, 53, 0, zone).into())
            }
        }
    });
    servers.take(SERVERS_MAX).collect()
}

/// Whether `answer` is one to `question`, the letters of the name aside.
fn answers(answer: &Message, question: &Message) -> bool {
    let is_same = answer.questions == question.questions
        // A server that cannot read a question need not repeat it.
        || answer.questions.is_empty() && answer.rcode == Rcode::FORMAT_ERROR;
    answer.is_response
        && answer.id == question.id
        && answer.opcode == Opcode::Query as u8
        && is_same
}

/// `None` after the timeout. Packets that are no answer to this question are passed over: whoever
/// forges them shall not be able to make the question fail, either.
async fn over_udp(
    server: SocketAddr,
    bytes: &[u8],
    question: &Message,
    patience: Duration,
) -> Result<Option<Message>, DnsError> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let failed = |source| DnsError::Io { server, source };
    // A socket and thereby a random port for each question; connected, so that the kernel drops
    // what comes from elsewhere.
    let socket = UdpSocket::bind((any, 0)).await.map_err(failed)?;
    socket.connect(server).await.map_err(failed)?;
    socket.send(bytes).await.map_err(failed)?;
    let deadline = Instant::now() + patience;
    let mut buffer = vec![0; usize::from(UDP_BYTES_MAX)];
    loop {
        let Ok(received) = timeout_at(deadline, socket.recv(&mut buffer)).await else {
            return Ok(None);
        };
        let length = match received {
            Ok(length) => length,
            // Nobody listens there. Over TCP the same is said with more certainty.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let packet = buffer.get(..length).unwrap_or_default();
        let Ok(mut answer) = Message::decode(packet) else {
            continue;
        };
        if answers(&answer, question) {
            // A server that changes the letters, or a forger that guesses: TCP tells.
            answer.is_truncated |= !answer.questions.is_empty() && !has_case(packet, bytes);
            return Ok(Some(answer));
        }
    }
}

async fn over_tcp(
    server: SocketAddr,
    bytes: &[u8],
    deadline: Instant,
) -> Result<Vec<u8>, DnsError> {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        let mut framed = Vec::with_capacity(bytes.len() + 2);
        framed.extend(u16::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes());
        framed.extend_from_slice(bytes);
        stream.write_all(&framed).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    match timeout(deadline.saturating_duration_since(Instant::now()), exchange).await {
        Ok(done) => done.map_err(|source| DnsError::Io { server, source }),
        Err(_) => Err(DnsError::Timeout { server }),
    }
}

/// Turns letters of the first question into capitals at random. Servers repeat them, forgers that do
/// not see the question cannot: some more bits of randomness (draft-vixie-dnsext-dns0x20).
fn mix_case(message: &mut [u8]) {
    let random = random::bytes::<32>();
    let name = message.iter_mut().skip(HEADER_BYTES).take_while(|byte| **byte != 0);
    for (index, byte) in name.enumerate() {
        let bits = random.get(index / 8 % random.len()).copied().unwrap_or(0);
        // Lengths are below 64, letters above.
        if byte.is_ascii_lowercase() && bits >> (index % 8) & 1 == 1 {
            byte.make_ascii_uppercase();
        }
    }
}

/// Whether the question stands in `packet` letter by letter as we sent it.
fn has_case(packet: &[u8], sent: &[u8]) -> bool {
    let name = |message: &[u8]| {
        message
            .iter()
            .skip(HEADER_BYTES)
            .take_while(|byte| **byte != 0)
            .copied()
            .collect::<Vec<_>>()
    };
    name(packet) == name(sent)
}

fn random_id() -> u16 {
    u16::from_be_bytes(random::bytes())
}

const HEADER_BYTES: usize = 12;

/// What passes everywhere without fragments (DNS flag day 2020).
const UDP_BYTES_MAX: u16 = 1232;

/// More resolvers than this are of no use to anybody.
const SERVERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf() {
        let text = "# made by x\nnameserver 192.0.2.1\nsearch a b\n  nameserver fe80::1%2 # x\n\
                    nameserver nonsense\nnameserver\noptions edns0\nnameserver fe80::1%eth0";
        let servers = name_servers(text);
        assert_eq!(servers.len(), 2);
        assert_eq!(servers[0], "192.0.2.1:53".parse().unwrap());
        assert_eq!(servers[1].to_string(), "[fe80::1%2]:53");
    }

    #[test]
    fn letters_are_mixed_and_nothing_else() {
        let name: Name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example".parse().unwrap();
        let plain = Message::query(1, name, RecordType::A, Class::Internet).encode();
        let mut mixed = plain.clone();
        mix_case(&mut mixed);
        assert_ne!(plain, mixed, "one in 2^39");
        assert_eq!(plain.to_ascii_lowercase(), mixed.to_ascii_lowercase());
        assert_eq!(Message::decode(&mixed).unwrap(), Message::decode(&plain).unwrap());
        assert!(!has_case(&plain, &mixed));
    }
}
