//! Micro-benchmarks of the parts that decide how long a conversion takes.
