//! The requests.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use oci2bk::Cancel;
use oci2bk::text;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio::task::{block_in_place, spawn_blocking};

use crate::convert::{self, Settings};
use crate::failure::{Failure, ServiceError};
use crate::store::{Store, Workspace};
use crate::upload::{self, Bounds};

/// What all requests have in common.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) store: Arc<Store>,
    /// Places for uploads that are received or converted.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) bounds: Bounds,
    pub(crate) settings: Settings,
    /// Whether the service ends.
    pub(crate) ends: watch::Receiver<bool>,
}

pub(crate) fn router(service: Service) -> Router {
    Router::new()
        .route("/states", post(create).get(list))
        .route("/states/{id}", get(show).delete(remove))
        .with_state(service)
}

async fn create(State(service): State<Service>, body: Body) -> Result<Response, Failure> {
    let mut ends = service.ends.clone();
    tokio::select! {
        // The other one is dropped, as when the client goes.
        _ = ends.wait_for(|ends| *ends) => Err(ServiceError::Ends.into()),
        answer = service.create(body) => answer,
    }
}

/// Cancels when it is dropped, as everything in the future of a request is when the client goes.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Service {
    /// Receives and converts an upload.
    async fn create(&self, body: Body) -> Result<Response, Failure> {
        // Before anything is received: uploads take disk, too.
        let places = Arc::clone(&self.places);
        let place = places.acquire_owned().await.map_err(|_| ServiceError::Ends)?;
        let store = Arc::clone(&self.store);
        let (workspace, file) = blocking(move || Workspace::create(store)).await?;
        upload::receive(body, file, self.bounds).await?;

        let cancel = Cancel::new();
        let _cancel_on_drop = CancelOnDrop(cancel.clone());
        let settings = self.settings;
        let task = spawn_blocking(move || {
            // A conversion that nobody waits for keeps its place until it has ended.
            let _place = place;
            convert::convert(workspace, &settings, &cancel)
        });
        let (workspace, state) = task.await.map_err(ServiceError::from)??;
        // Without an await: the client is there, and the state is kept, or neither.
        let id = block_in_place(|| workspace.keep())?;
        let location = [(LOCATION, format!("/states/{id}"))];
        Ok((location, answer(StatusCode::CREATED, state)).into_response())
    }
}

/// The document of all states.
#[derive(Debug, Serialize)]
struct States {
    states: Vec<String>,
}

async fn list(State(service): State<Service>) -> Result<Response, Failure> {
    let ids = blocking(move || service.store.ids()).await?;
    Ok(json(StatusCode::OK, &States { states: ids }))
}

async fn show(State(service): State<Service>, Path(id): Path<String>) -> Result<Response, Failure> {
    let state = blocking(move || service.store.report(&id)).await?;
    Ok(answer(StatusCode::OK, state))
}

async fn remove(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    blocking(move || service.store.remove(&id)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Runs what waits for a disk on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServiceError> + Send + 'static,
) -> Result<T, ServiceError> {
    spawn_blocking(work).await?
}

/// Returns an answer in JSON.
pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Response {
    match text::to_json_line(document) {
        Ok(document) => answer(status, document),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn answer(status: StatusCode, document: String) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], document).into_response()
}
