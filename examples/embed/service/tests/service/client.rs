//! A client of the service, in no more of HTTP than the tests need.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use crate::server::PATIENCE;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Option<Self> {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Self { status, head: head.to_owned(), body: body.to_owned() })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The path in its header `Location`.
    pub(crate) fn location(&self) -> &str {
        self.head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap()
    }
}

/// Makes a request without a body.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    Answer::read(stream).unwrap()
}

/// An upload that has begun.
pub(crate) struct Upload(TcpStream);

impl Upload {
    /// Sends the head, with this header for the body.
    pub(crate) fn begin(address: SocketAddr, header: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        let fixed = "POST /states HTTP/1.1\r\nHost: test\r\nConnection: close";
        write!(stream, "{fixed}\r\n{header}\r\n\r\n").unwrap();
        Self(stream)
    }

    /// Sends the head for a body of this size.
    pub(crate) fn of_size(address: SocketAddr, size: usize) -> Self {
        Self::begin(address, &format!("Content-Length: {size}"))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub(crate) fn answer(self) -> Answer {
        Answer::read(self.0).unwrap()
    }

    /// Ends the request from this side, and waits until the service has let go of it.
    pub(crate) fn drop_it(self) {
        self.0.shutdown(Shutdown::Write).unwrap();
        if let Some(answer) = Answer::read(self.0) {
            panic!("it was answered: {answer:?}");
        }
    }
}

/// Uploads all of it.
pub(crate) fn upload(address: SocketAddr, archive: &[u8]) -> Answer {
    let mut upload = Upload::of_size(address, archive.len());
    upload.send(archive);
    upload.answer()
}
