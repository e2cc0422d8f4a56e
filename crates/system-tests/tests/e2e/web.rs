//! A web server for ADD of a URL: serves one document under every path.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::Result;

const DOCUMENT: &[u8] = b"served by the suite\n";

/// Starts the server, which lives as long as the process, and returns its `http://` address.
pub(crate) fn serve() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // A client that disconnects early fails in its own build.
            let _ = respond(&connection);
        }
    });
    Ok(address)
}

fn respond(mut connection: &TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let unchanged = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .any(|line| line.eq_ignore_ascii_case("if-none-match: \"1\""));
    let status = if unchanged { "304 Not Modified" } else { "200 OK" };
    write!(
        connection,
        "HTTP/1.1 {status}\r\nETag: \"1\"\r\nLast-Modified: Sat, 01 Nov 2025 00:00:00 GMT\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        if unchanged { 0 } else { DOCUMENT.len() }
    )?;
    if !unchanged && !request.starts_with("HEAD ") {
        connection.write_all(DOCUMENT)?;
    }
    connection.flush()
}
