//! Errors, and the answers to them.

use std::io;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use oci2bk::bkstate::dir::DirError;
use oci2bk::root::OpenRootError;
use oci2bk::{About, Class, Classified, ErrorReport, FormatError};
use serde::Serialize;
use tokio::task::JoinError;

use crate::log;
use crate::routes::json;

/// What the library does not know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("there is no state with this id")]
    NoState,
    #[error("the upload has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the upload was not complete after {seconds} s")]
    TooSlow { seconds: u64 },
    #[error("the upload broke off")]
    BrokenOff(#[from] axum::Error),
    #[error("the service ends")]
    Ends,
    #[error("the state cannot be used")]
    Root(#[from] OpenRootError),
    #[error("a directory of the service cannot be used")]
    Directory(#[from] DirError),
    #[error("a file of the service cannot be used")]
    File(#[from] io::Error),
    #[error("a report cannot be written")]
    Report(#[from] FormatError),
    #[error("a task of the service failed")]
    Task(#[from] JoinError),
}

const NO_STATE: &str = "service.no-state";
const TOO_SLOW: &str = "service.too-slow";

impl Classified for ServiceError {
    fn about(&self) -> About {
        match self {
            Self::NoState => About::new(NO_STATE, Class::Input),
            Self::TooLarge { .. } => About::of_limit("service.too-large", "max-upload"),
            Self::TooSlow { .. } => About::of_limit(TOO_SLOW, "upload-time"),
            Self::BrokenOff(_) => About::new("service.broken-off", Class::Input),
            Self::Ends => About::new("service.ends", Class::Cancelled),
            Self::Root(error) => error.about(),
            Self::Directory(_) | Self::File(_) => About::new("service.files", Class::Io),
            Self::Report(_) | Self::Task(_) => About::new("service.internal", Class::Io),
        }
    }
}

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) ErrorReport);

/// All errors of the library say what they are about, so one conversion is enough for all of them.
impl<E: std::error::Error + Classified> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(ErrorReport::of(&error))
    }
}

/// Returns the status for an error of this class and kind.
fn status(class: Class, kind: &str) -> StatusCode {
    match (class, kind) {
        (_, NO_STATE) => StatusCode::NOT_FOUND,
        (_, TOO_SLOW) => StatusCode::REQUEST_TIMEOUT,
        // Another upload may work.
        (Class::Input, _) => StatusCode::UNPROCESSABLE_ENTITY,
        (Class::Limit, _) => StatusCode::PAYLOAD_TOO_LARGE,
        // A builder uses the state. It may work later.
        (Class::InUse, _) => StatusCode::CONFLICT,
        // Who cancels by going gets no answer. All others cancel because the service ends.
        (Class::Cancelled, _) => StatusCode::SERVICE_UNAVAILABLE,
        // No space, a damaged state: nothing that the client can change.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(mut report) = self;
        let status = status(report.class, report.kind);
        let public = match report.class {
            Class::Input | Class::Limit => None,
            Class::Cancelled => Some("the service ends"),
            Class::InUse => Some("a builder uses the state"),
            _ => Some("the service failed"),
        };
        // What the machine lacks, and who uses the state, is for the operator only.
        if let Some(public) = public {
            if report.class != Class::Cancelled {
                log(format_args!("{}: {} {:?}", report.kind, report.message, report.causes));
            }
            public.clone_into(&mut report.message);
            report.causes.clear();
        }
        json(status, &Error { error: report })
    }
}

/// The document of an error.
#[derive(Debug, Serialize)]
struct Error {
    error: ErrorReport,
}
