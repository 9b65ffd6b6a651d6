//! Patterns of configurations: regular expressions with limits, so that none can take a process's memory or time.
//!
//! The syntax is that of the `regex` crate, which is RE2's but for details: no `\Q…\E`, and `\d` and `\w` know all of
//! Unicode. A pattern matches anywhere in a text unless it is anchored, as in the Collector.

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
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(MAX_COMPILED_BYTES).dfa_size_limit(MAX_CACHE_BYTES).nest_limit(64);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("the pattern takes more than {limit} bytes when compiled: use smaller repetitions")
        }
        error => {
            // The last line says what is wrong; those before it draw an arrow, which one line cannot.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            format!("{pattern:?} is not a valid pattern: {}", reason.trim_start_matches("error: "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn patterns_of_the_collectors_documentation_compile() {
        for pattern in
            ["^\\/api\\/v1\\/document\\/(?P<documentId>.*)\\/update$", "(?i)auth.*", "^(.*?)/(.*?)$", "\\p{Lu}\\b"]
        {
            assert!(compile(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn what_does_not_compile_is_said_on_one_line() {
        assert_eq!(compile("a(b").unwrap_err(), "\"a(b\" is not a valid pattern: unclosed group");
        let error = compile("\\w{1000}{1000}").unwrap_err();
        assert!(error.starts_with("the pattern takes more than") && !error.contains('\n'), "{error}");
        assert!(!compile(&"(".repeat(100_000)).unwrap_err().contains('\n'));
    }
}
