//! Digests whose values were computed by the daemon's own code.

use super::*;
