//! LLB ops and their digests.
