//! Credentials behind a scheme: `Bearer abc` (RFC 9110 §11.1).

/// What follows the scheme, whose case does not matter; the whole value where there is to be none. `None` where another
/// scheme stands.
pub(crate) fn after_scheme<'v>(scheme: &str, value: &'v str) -> Option<&'v str> {
    if scheme.is_empty() {
        return Some(value.trim());
    }
    let (found, credentials) = value.split_at_checked(scheme.len())?;
    let credentials = credentials.strip_prefix(' ')?;
    found.eq_ignore_ascii_case(scheme).then_some(credentials.trim())
}
