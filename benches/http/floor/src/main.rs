//! The floor: epoll, canned bytes, no parsing. Every blank line of the input is one answer.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\
date: Fri, 20 Nov 2026 12:00:00 GMT\r\n\r\nHello, World!";

fn main() {
    let port: u16 = std::env::var("PORT").expect("PORT").parse().expect("a number");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("bind");
    listener.set_nonblocking(true).expect("non-blocking");
    let poll = epoll::create(CreateFlags::CLOEXEC).expect("epoll");
    epoll::add(&poll, &listener, EventData::new_u64(0), EventFlags::IN).expect("epoll");
    let mut connections: HashMap<u64, TcpStream> = HashMap::new();
    let answers = ANSWER.repeat(256);
    let mut input = vec![0; 64 * 1024];
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None).expect("wait");
        for event in &events {
            let id = event.data.u64();
            if id == 0 {
                while let Ok((stream, _)) = listener.accept() {
                    let id = stream.as_raw_fd() as u64;
                    stream.set_nonblocking(true).expect("non-blocking");
                    stream.set_nodelay(true).expect("no delay");
                    epoll::add(&poll, &stream, EventData::new_u64(id), EventFlags::IN).expect("epoll");
                    connections.insert(id, stream);
                }
                continue;
            }
            let Some(stream) = connections.get_mut(&id) else { continue };
            match stream.read(&mut input) {
                Ok(0) | Err(_) => drop(connections.remove(&id)),
                Ok(len) => {
                    let requests = input[..len].windows(4).filter(|w| w == b"\r\n\r\n").count();
                    let _ = stream.write_all(&answers[..requests.min(256) * ANSWER.len()]);
                }
            }
        }
    }
}
