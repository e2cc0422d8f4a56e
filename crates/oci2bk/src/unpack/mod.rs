//! Unpacks layers into overlay snapshots.
