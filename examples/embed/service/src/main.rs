//! A service that converts uploaded caches into states of builders.
//!
//! | request | answer |
//! |---|---|
//! | `POST /states` with an OCI layout in a tar archive | 201: the report, with the id of the state |
//! | `GET /states` | the ids of all states |
//! | `GET /states/ID` | the report |
//! | `DELETE /states/ID` | 204 |
//!
//! `DATA/states/ID/root` is the root for a builder. Everybody who reaches the port can convert: put it behind
//! something that knows its users.

mod convert;
mod failure;
mod routes;
mod store;
mod upload;

use std::future::IntoFuture as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use oci2bk::limits::Setting;
use oci2bk::text;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use crate::convert::Settings;
use crate::routes::Service;
use crate::store::Store;
use crate::upload::Bounds;

/// Converts uploaded caches into states of builders.
#[derive(Debug, Parser)]
struct Arguments {
    /// The directory for uploads and states, which no other service uses.
    data: PathBuf,
    /// The address to listen on; port 0 is any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// How many uploads are received and converted at once. Others wait.
    #[arg(long, value_name = "N", default_value_t = 2)]
    at_once: usize,
    /// Bytes of the largest upload.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 30)]
    max_upload: u64,
    /// Seconds after which an upload must be here.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    upload_time: u64,
    /// Change a limit of `Limits::untrusted`, such as total-size=10Gi.
    #[arg(long, value_name = "NAME=VALUE")]
    limit: Vec<Setting>,
    /// Leave the layers packed, which takes no root. The daemon unpacks them when a build needs them.
    #[arg(long)]
    no_extract: bool,
}

/// How long clients may take to receive their answers when the service ends.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(arguments));
    // Waits for the conversions that the end has cancelled, and that remove what they have written.
    drop(runtime);
    served
}

async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { max_upload, upload_time, .. } = arguments;
    let (end, ends) = watch::channel(false);
    let service = Service {
        store: Arc::new(Store::open(&arguments.data)?),
        places: Arc::new(Semaphore::new(arguments.at_once)),
        bounds: Bounds { size: max_upload, time: Duration::from_secs(upload_time) },
        settings: Settings::new(max_upload, &arguments.limit, !arguments.no_extract)?,
        ends,
    };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    log(format_args!("listening on {}", listener.local_addr()?));
    let mut has_ended = service.ends.clone();
    let serving =
        axum::serve(listener, routes::router(service)).with_graceful_shutdown(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // Requests that convert are answered at once, so the end does not wait for them.
            let _ = end.send(true);
        });
    let last_answers = async move {
        let _ = has_ended.wait_for(|ends| *ends).await;
        sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        served = serving.into_future() => served?,
        // A client that does not go on with its request would hold up the end.
        () = last_answers => {}
    }
    Ok(())
}

/// Writes a line for the operator. A log that nobody reads does not end the service.
fn log(line: std::fmt::Arguments<'_>) {
    // Uploads choose some of its words.
    let line = text::one_line(&line.to_string());
    let _ = writeln!(std::io::stderr(), "{line}");
}
