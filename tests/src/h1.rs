//! A small HTTP/1.1 client over a plain socket: strict about what it gets.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, ensure};

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Field names in lower case, values as they came.
    pub fields: Vec<(String, String)>,
    /// Content, framing removed.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A kept-alive connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// The connection's own.
    pub fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a GET and reads the answer.
    ///
    /// # Errors
    /// When the connection fails or the answer is malformed.
    pub fn get(&mut self, target: &str) -> anyhow::Result<Answer> {
        self.send(&format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n"))?;
        self.read(false)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The socket's own.
    pub fn send(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.stream.get_mut().write_all(text.as_bytes())?)
    }

    /// Reads one answer; `head` when the request was a HEAD.
    ///
    /// # Errors
    /// When the connection ends early or the answer is malformed.
    pub fn read(&mut self, head: bool) -> anyhow::Result<Answer> {
        let status = self.line()?;
        ensure!(status.starts_with("HTTP/1.1 "), "no status line: {status:?}");
        let code = status.get(9..12).context("no status code")?;
        let mut answer = Answer { status: code.parse()?, ..Answer::default() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a field without a colon")?;
            answer.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if head || answer.status == 304 || answer.status == 204 || answer.status < 200 {
            return Ok(answer);
        }
        if answer.field("transfer-encoding") == Some("chunked") {
            answer.body = self.chunks()?;
            return Ok(answer);
        }
        match answer.field("content-length") {
            Some(length) => {
                let length: usize = length.parse()?;
                answer.body.resize(length, 0);
                self.stream.read_exact(&mut answer.body)?;
            }
            None => {
                self.stream.read_to_end(&mut answer.body)?;
            }
        }
        Ok(answer)
    }

    /// Whether the server has closed its side; reads and drops what is left.
    #[must_use]
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).is_ok()
    }

    fn chunks(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).context("no chunk size")?;
            let start = body.len();
            body.resize(start + size, 0);
            self.stream.read_exact(&mut body[start..])?;
            let end = self.line()?;
            ensure!(end.is_empty(), "a chunk is not followed by CRLF, or there are trailers");
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        ensure!(line.ends_with(b"\r\n"), "the connection ended within a line: {line:?}");
        line.truncate(line.len() - 2);
        Ok(String::from_utf8(line)?)
    }
}
