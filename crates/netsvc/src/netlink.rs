//! The little of rtnetlink(7) and sock_diag(7) that is asked here: dumps of routes, addresses and sockets.

use std::io;

use rustix::{
    fd::OwnedFd,
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
        netlink::SocketAddrNetlink, recv, sendto, socket_with, sockopt,
    },
};

/// One message of a dump: its type, and what follows its header.
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) payload: Vec<u8>,
}

/// A netlink socket. `groups` are the multicast groups it listens to.
pub(crate) fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    // The kernel answers at once or not at all; nobody shall hang on the latter.
    sockopt::set_socket_timeout(
        &socket,
        sockopt::Timeout::Recv,
        Some(std::time::Duration::from_secs(1)),
    )?;
    Ok(socket)
}

/// Asks for everything of a kind. Blocks for microseconds: the kernel answers from memory.
pub(crate) fn dump(
    protocol: Option<Protocol>,
    kind: u16,
    payload: &[u8],
) -> io::Result<Vec<Message>> {
    let socket = open(protocol, 0)?;
    let length = u32::try_from(HEADER_BYTES + payload.len()).expect("a request is short");
    let mut request = Vec::with_capacity(HEADER_BYTES + payload.len());
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend(1u32.to_ne_bytes());
    request.extend(0u32.to_ne_bytes());
    request.extend(payload);
    sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut messages = Vec::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while messages.len() < MESSAGES_MAX {
        let (received, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        if !split(buffer.get(..received).unwrap_or_default(), &mut messages)? {
            break;
        }
    }
    Ok(messages)
}

/// The messages of one datagram. Answers whether more datagrams follow.
fn split(mut datagram: &[u8], messages: &mut Vec<Message>) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (read_u32(datagram, 0), read_u16(datagram, 4)) {
        let Some(payload) = datagram.get(HEADER_BYTES..length as usize) else { return Ok(false) };
        match kind {
            NLMSG_DONE => return Ok(false),
            NLMSG_ERROR => {
                let code = read_u32(payload, 0).unwrap_or(0).cast_signed();
                if code == 0 {
                    return Ok(false);
                }
                return Err(io::Error::from_raw_os_error(-code));
            }
            kind => messages.push(Message { kind, payload: payload.to_vec() }),
        }
        datagram = datagram.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// The attributes that follow the fixed part of a message: type and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (read_u16(bytes, 0)?, read_u16(bytes, 2)?);
        let value = bytes.get(4..usize::from(length))?;
        bytes = bytes.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
        // The two highest bits say how the value is nested and ordered.
        Some((kind & 0x3fff, value))
    })
}

pub(crate) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

const HEADER_BYTES: usize = 16;
/// The kernel fills datagrams of a dump up to 32 KiB.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
const MESSAGES_MAX: usize = 100_000;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
