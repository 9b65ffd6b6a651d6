//! Complete validation of foreign bytes.

/// How deep messages may be nested below the request, as in prost and the Go implementation's spirit.
pub const MAX_DEPTH: usize = 100;
