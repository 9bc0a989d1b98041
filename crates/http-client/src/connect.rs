//! From an origin to a byte stream.

use std::{
    collections::VecDeque, future::Future, io, net::SocketAddr, pin::Pin, sync::Arc, task::Poll,
    time::Duration,
};

use hearth_http_core::{Portable, Transport};
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout},
};

use crate::{ClientError, ConnectTo, ErrorKind, TimeoutKind, Timeouts};

/// Makes byte streams: a proxy protocol, a tunnel, or memory in a test. TLS is laid over what it
/// returns where the URL says `https`.
pub trait Dial: Send + Sync + 'static {
    /// A connection to `host`, which is a name or an address, at `port`.
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> DialFuture<'a>;
}

/// What [`Dial::dial`] returns.
pub type DialFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send + 'a>>;

/// Connects within [`Timeouts::connect`].
pub(crate) async fn connect(
    host: &str,
    port: u16,
    to: Option<&ConnectTo>,
    dialer: Option<&Arc<dyn Dial>>,
    timeouts: &Timeouts,
    address_count_max: usize,
) -> Result<Box<dyn Transport>, ClientError> {
    let attempt = async {
        match (to, dialer) {
            (Some(ConnectTo::Address(address)), _) => tcp(vec![*address]).await,
            #[cfg(unix)]
            (Some(ConnectTo::Unix(path)), _) => {
                let stream = tokio::net::UnixStream::connect(path).await.map_err(failed)?;
                Ok(Box::new(Portable(stream)) as Box<dyn Transport>)
            }
            (_, Some(dialer)) => dialer.dial(host, port).await.map_err(failed),
            (to, None) => {
                let mut addresses = look_up(host, port, to).await?;
                addresses.truncate(address_count_max.max(1));
                tcp(addresses).await
            }
        }
    };
    let expired = |_| Err(ClientError::timeout(TimeoutKind::Connect));
    timeout(timeouts.connect, attempt).await.unwrap_or_else(expired)
}

fn failed(error: io::Error) -> ClientError {
    ClientError::new(ErrorKind::Connect, "cannot connect").caused_by(error)
}

/// The addresses of `host` in the order in which they are tried: families take turns (RFC 8305 §4).
async fn look_up(
    host: &str,
    port: u16,
    to: Option<&ConnectTo>,
) -> Result<Vec<SocketAddr>, ClientError> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| {
        ClientError::new(ErrorKind::Dns, "the host's name does not resolve").caused_by(error)
    })?;
    let addresses = found.filter(|address| match to {
        Some(ConnectTo::Ipv4) => address.is_ipv4(),
        Some(ConnectTo::Ipv6) => address.is_ipv6(),
        _ => true,
    });
    let addresses = take_turns(addresses);
    if addresses.is_empty() {
        return Err(ClientError::new(ErrorKind::Dns, "the host has no address of that family"));
    }
    Ok(addresses)
}

/// The resolver's first address leads, since it knows which family works best here.
fn take_turns(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut first_family = VecDeque::new();
    let mut other_family = VecDeque::new();
    for address in addresses {
        let is_first = first_family
            .front()
            .is_none_or(|first: &SocketAddr| first.is_ipv4() == address.is_ipv4());
        if is_first { first_family.push_back(address) } else { other_family.push_back(address) }
    }
    let mut ordered = Vec::with_capacity(first_family.len() + other_family.len());
    while !first_family.is_empty() || !other_family.is_empty() {
        ordered.extend(first_family.pop_front());
        ordered.extend(other_family.pop_front());
    }
    ordered
}

async fn tcp(addresses: Vec<SocketAddr>) -> Result<Box<dyn Transport>, ClientError> {
    let stream = race(addresses, TcpStream::connect).await.map_err(failed)?;
    // Requests are written whole; waiting for more to fill a packet would only delay them.
    stream.set_nodelay(true).map_err(failed)?;
    Ok(Box::new(Portable(stream)))
}

/// Tries each address in turn, the next one when the last has failed or has not answered for
/// 250 ms (RFC 8305 §5); the first that answers wins, the others are dropped.
async fn race<T, F>(
    addresses: Vec<SocketAddr>,
    mut connect: impl FnMut(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = addresses.into_iter();
    let mut attempts: Vec<Pin<Box<F>>> = Vec::new();
    let mut last_error = None;
    let mut stagger: Pin<Box<Sleep>> = Box::pin(sleep_until(Instant::now()));
    std::future::poll_fn(|cx| {
        loop {
            let mut index = 0;
            while let Some(attempt) = attempts.get_mut(index) {
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(error)) => {
                        drop(attempts.swap_remove(index));
                        last_error = Some(error);
                        stagger.as_mut().reset(Instant::now());
                    }
                    Poll::Pending => index += 1,
                }
            }
            if waiting.len() == 0 {
                if attempts.is_empty() {
                    let none = || io::ErrorKind::AddrNotAvailable.into();
                    return Poll::Ready(Err(last_error.take().unwrap_or_else(none)));
                }
                return Poll::Pending;
            }
            if stagger.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            attempts.extend(waiting.next().map(|address| Box::pin(connect(address))));
            stagger.as_mut().reset(Instant::now() + STAGGER);
        }
    })
    .await
}

/// RFC 8305 §5: the recommended delay between two attempts.
const STAGGER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::{io, net::SocketAddr, time::Duration};

    use tokio::time::{Instant, sleep};

    use super::{race, take_turns};

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 80))
    }

    /// Each address answers after `last` times 10 ms; odd ones fail.
    async fn attempt(address: SocketAddr) -> io::Result<SocketAddr> {
        let SocketAddr::V4(v4) = address else { unreachable!("only IPv4 here") };
        let last = v4.ip().octets()[3];
        sleep(Duration::from_millis(10) * u32::from(last)).await;
        if last % 2 == 1 { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(address) }
    }

    #[track_caller]
    fn check(got: io::Result<SocketAddr>, began: Instant, want: Option<u8>, ms: u64) {
        assert_eq!(got.ok(), want.map(address));
        assert_eq!(began.elapsed().as_millis() as u64, ms);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_race() {
        let began = Instant::now();
        check(race(vec![address(2)], attempt).await, began, Some(2), 20);
        let began = Instant::now();
        check(race(vec![], attempt).await, began, None, 0);
        let began = Instant::now();
        // A failure starts the next at once.
        check(race(vec![address(1), address(3), address(2)], attempt).await, began, Some(2), 60);
        let began = Instant::now();
        // Silence starts it after 250 ms, and the later one may win.
        check(race(vec![address(200), address(4)], attempt).await, began, Some(4), 290);
        let began = Instant::now();
        check(race(vec![address(1), address(5)], attempt).await, began, None, 60);
        let began = Instant::now();
        // The one that was silent is still in the race.
        check(race(vec![address(40), address(33)], attempt).await, began, Some(40), 400);
    }

    #[test]
    fn families_take_turns() {
        let v6 = |last| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, last], 80));
        let ordered = take_turns([v6(1), v6(2), address(1), v6(3), address(2)].into_iter());
        assert_eq!(ordered, [v6(1), address(1), v6(2), address(2), v6(3)]);
        assert_eq!(take_turns([address(1), v6(1)].into_iter()), [address(1), v6(1)]);
        assert!(take_turns(std::iter::empty()).is_empty());
    }
}
