//! To which class each error belongs, and which limit it reached.
//!
//! In the order of the work.

mod keys;
mod layout;
mod root;
mod unpack;
