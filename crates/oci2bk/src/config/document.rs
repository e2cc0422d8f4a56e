//! The JSON of a cache config, version 0.

use bkstate::{Digest, Time};
use codec::from_objects;
use serde::Deserialize;

use crate::layout::null_as_default;

#[derive(Deserialize)]
#[serde(remote = "Self")]
pub(super) struct Config {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) layers: Vec<Layer>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
pub(super) struct Layer {
    pub(super) blob: Digest,
    /// Go omits zero, so a missing member is layer 0; -1 means no parent.
    #[serde(default)]
    pub(super) parent: i64,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
pub(super) struct Record {
    pub(super) digest: Digest,
    #[serde(default, deserialize_with = "null_as_default", rename = "layers")]
    pub(super) results: Vec<Outcome>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) chains: Vec<Chain>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) inputs: Vec<Vec<Input>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(remote = "Self")]
pub(super) struct Outcome {
    pub(super) layer: i64,
    #[serde(default)]
    pub(super) created_at: Option<Time>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(remote = "Self")]
pub(super) struct Chain {
    #[serde(deserialize_with = "null_as_default")]
    pub(super) layers: Vec<i64>,
    #[serde(default)]
    pub(super) created_at: Option<Time>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
pub(super) struct Input {
    #[serde(default)]
    pub(super) selector: String,
    pub(super) link: i64,
}

from_objects!(Config, Layer, Record, Outcome, Chain, Input);
