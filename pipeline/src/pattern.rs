//! Patterns of configurations: regular expressions with limits, so that none can take a process's memory or time.
//!
//! The syntax is RE2's, as in the Collector; the module `re2` has what that means. A pattern matches anywhere in a text unless it
//! is anchored.

mod re2;
#[cfg(test)]
mod tests;

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled pattern may take.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// Bytes that a lane may use to match faster.
const MAX_CACHE_BYTES: usize = 1 << 20;

/// Compiles a pattern.
///
/// # Errors
/// What is wrong with it, on one line.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let invalid = |reason: &str| format!("{pattern:?} is not a valid pattern: {reason}");
    let mut builder = RegexBuilder::new(&re2::translate(pattern).map_err(invalid)?);
    builder.size_limit(MAX_COMPILED_BYTES).dfa_size_limit(MAX_CACHE_BYTES).nest_limit(64);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("the pattern takes more than {limit} bytes when compiled: use smaller repetitions")
        }
        error => {
            // The last line says what is wrong; those before it draw an arrow, which one line cannot.
            let text = error.to_string();
            invalid(text.lines().last().unwrap_or_default().trim_start_matches("error: "))
        }
    })
}
