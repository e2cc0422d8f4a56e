//! Reading and verifying key sources.
