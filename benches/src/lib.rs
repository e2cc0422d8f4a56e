//! Micro-benchmarks of the parts that decide how long a conversion takes.
//!
//! `cargo bench -p benches` runs them all, `cargo bench -p benches --bench unpack` one. They
//! compare within one run; absolute numbers say something about the machine only.
