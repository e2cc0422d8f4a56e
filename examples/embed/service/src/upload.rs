//! Receives an upload: to disk, never into memory.

use std::fs::File;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncWriteExt as _, BufWriter};
use tokio::time::timeout;

use crate::failure::ServiceError;

/// Writes to disk happen on other threads, so they should not be small.
const BUFFER: usize = 1 << 20;

/// How much an upload may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Its bytes.
    pub(crate) size: u64,
    /// The time until it is complete. One that trickles in takes the place of others.
    pub(crate) time: Duration,
}

/// Writes the body to the file.
pub(crate) async fn receive(body: Body, file: File, bounds: Bounds) -> Result<(), ServiceError> {
    let receiving = receive_within(body, file, bounds.size);
    let seconds = bounds.time.as_secs();
    timeout(bounds.time, receiving).await.map_err(|_| ServiceError::TooSlow { seconds })?
}

async fn receive_within(mut body: Body, file: File, limit: u64) -> Result<(), ServiceError> {
    // The announced size; the real one is counted.
    if body.size_hint().lower() > limit {
        return Err(ServiceError::TooLarge { limit });
    }
    let mut left = limit;
    let mut file = BufWriter::with_capacity(BUFFER, tokio::fs::File::from_std(file));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        left = left.checked_sub(data.len() as u64).ok_or(ServiceError::TooLarge { limit })?;
        file.write_all(&data).await?;
    }
    Ok(file.flush().await?)
}
