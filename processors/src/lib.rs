//! Weir's processors. Each folder is one component: what it does, its settings, the thing itself, its tests. What several
//! of them share is private: `actions` on attributes, `matching` of spans, texts as a `number`, the counters of `flow`.

mod actions;
pub mod attributes;
pub mod batch;
pub mod content_policy;
pub mod cost;
pub mod filter;
mod flow;
mod matching;
pub mod memory_limiter;
mod number;
pub mod probabilistic_sampler;
pub mod resource;
pub mod span;
#[cfg(test)]
mod testing;
