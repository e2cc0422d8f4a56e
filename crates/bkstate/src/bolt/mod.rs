//! The BoltDB file format.
