//! A socket through which buildctl talks to a Docker Engine before v29.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, ensure};

/// The request that upgrades a connection to the BuildKit API (moby v28.5.2
/// `api/server/router/grpc/grpc_routes.go`).
const UPGRADE: &[u8] =
    b"POST /grpc HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

/// The end of the response, which has no body.
const END: &[u8] = b"\r\n\r\n";

/// Maximum length of the response, in bytes.
const LONGEST: usize = 4096;

/// Listens on `socket` and connects each client to the builder of the engine with the socket `engine`, until
/// the process ends.
///
/// # Errors
/// Returns an error if it cannot listen on `socket`.
pub(crate) fn serve(socket: &Path, engine: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket).with_context(|| socket.display().to_string())?;
    let engine = engine.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let engine: PathBuf = engine.clone();
            // An error ends the connection of the client.
            thread::spawn(move || connect(client, &engine));
        }
    });
    Ok(())
}

fn connect(client: UnixStream, engine: &Path) -> Result<()> {
    let mut server = UnixStream::connect(engine)?;
    server.write_all(UPGRADE)?;
    let mut answer = Vec::new();
    // Read byte by byte: what follows the response belongs to the client.
    while !answer.ends_with(END) {
        ensure!(answer.len() < LONGEST, "the engine's answer is too long");
        let mut byte = [0];
        server.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || copy(from_client, to_server));
    copy(server, client);
    Ok(())
}

/// Copies until one side closes, then closes both.
fn copy(mut from: UnixStream, mut to: UnixStream) {
    // An error ends the connection, too.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers one request with `answer`, then echoes everything that it receives. The thread returns the
    /// request.
    fn engine(socket: &Path, answer: &'static [u8]) -> thread::JoinHandle<Vec<u8>> {
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = vec![0; UPGRADE.len()];
            client.read_exact(&mut request).unwrap();
            client.write_all(answer).unwrap();
            let mut echo = client.try_clone().unwrap();
            let _ = std::io::copy(&mut client, &mut echo);
            request
        })
    }

    #[test]
    fn what_follows_the_upgrade_passes_both_ways() {
        let dir = tempfile::tempdir().unwrap();
        let [socket, behind] = ["socket", "engine"].map(|name| dir.path().join(name));
        let engine = engine(&behind, b"HTTP/1.1 101 UPGRADED\r\nUpgrade: h2c\r\n\r\n");
        serve(&socket, &behind).unwrap();
        let mut client = UnixStream::connect(&socket).unwrap();
        client.write_all(b"frames").unwrap();
        let mut back = [0; 6];
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"frames");
        drop(client);
        assert_eq!(engine.join().unwrap(), UPGRADE);
    }

    #[test]
    fn a_refusal_ends_the_connection() {
        let dir = tempfile::tempdir().unwrap();
        let [socket, behind] = ["socket", "engine"].map(|name| dir.path().join(name));
        let engine = engine(&behind, b"HTTP/1.1 404 Not Found\r\n\r\n");
        serve(&socket, &behind).unwrap();
        let mut client = UnixStream::connect(&socket).unwrap();
        assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
        engine.join().unwrap();
    }
}
