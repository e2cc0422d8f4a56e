//! The operations that BuildKit's Dockerfile frontend makes of a Dockerfile.
//!
//! The op digest of a step depends on the step alone: not on the base image, the build context or the machine. So a
//! Dockerfile, its build arguments and the configs of its base images are enough to compute it, without a daemon.
//! [`convert`] makes of a Dockerfile what each release of the frontend ([`Frontend`]) makes of it, as operations
//! of `llb`:
//!
//! ```
//! use dockerfile::{Frontend, ImageConfig, Images, Limits, Options, Problem, Stage, Step, convert};
//! use llb::{Encoding, digest};
//!
//! let content = b"
//! ARG BASE=debian:12
//! FROM $BASE AS build
//! ARG JOBS=1
//! WORKDIR /src
//! RUN --mount=type=cache,target=/root/.cache <<EOF
//! make -j$JOBS
//! EOF
//! FROM scratch
//! COPY --from=build /src/app /
//! ";
//! let mut options = Options::new(Frontend::of("0.34.2".parse()?), "linux/amd64".parse()?);
//! options.set("build-arg:JOBS", "4")?;
//! let mut images = Images::default();
//! images.add("debian:12", None, ImageConfig::from_json(br#"{"Env": ["PATH=/usr/bin"]}"#)?)?;
//!
//! let conversion = convert(content, &options, &images, &Limits::default())?;
//! let mut digests = Vec::new();
//! for Step { op, line, instruction, .. } in &conversion.steps {
//!     digests.push(digest(op, Encoding::NEWEST, &options.platform)?);
//!     println!("line {line}: {instruction}");
//! }
//! assert_eq!(digests.len(), 3);
//! let Stage { name, .. } = &conversion.stages[0];
//! assert_eq!(name.as_deref(), Some("build"));
//! for Problem { error, .. } in &conversion.problems {
//!     panic!("{error}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Unknown values are no obstacle where a wrong one costs nothing: a candidate for the key of a record is proven by its
//! hash. So wrong instructions are noted ([`Problem`]) and left out, and a base image without a config counts as
//! one without an environment.
//!
//! It works on bytes, without I/O. The crate has no features. Windows is not supported.

mod class;
mod convert;
mod device;
mod directive;
mod environment;
mod error;
mod expand;
mod file;
mod flags;
mod frontend;
mod heredoc;
mod image;
mod instruction;
mod json;
mod limits;
mod lines;
mod mount;
mod options;
mod path;
mod reference;
mod remote;
mod statement;
mod text;
mod value;

pub use convert::{Conversion, Input, Problem, Stage, Step, convert};
pub use directive::syntax;
pub use error::{ParseError, Reason};
pub use frontend::Frontend;
pub use image::{ImageConfig, Images, ReferenceError};
pub use limits::Limits;
pub use options::{OptionError, Options};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
