//! Micro-benchmarks of the parts that determine the duration of a conversion.
//!
//! `cargo bench -p benches` runs them all, `cargo bench -p benches --bench unpack` one. They compare within
//! one run; absolute numbers only describe the machine.
