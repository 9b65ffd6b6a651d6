//! Weir's processors. Each folder is one component: what it does, its settings, the thing itself, its tests.

pub mod batch;
pub mod cost;
pub mod memory_limiter;
