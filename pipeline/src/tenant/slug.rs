//! Names as they stand in paths, URLs and tables.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A short name of lower-case ASCII letters, digits and single dashes within: `web-app`, `eu-production`.
///
/// It is safe as a folder, in a URL and in a label. Cloning it is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slug(Arc<str>);

/// Longest slug in bytes: that of a DNS label.
const MAX_LEN: usize = 63;

/// Longest name a slug is made of, in bytes.
const MAX_NAME: usize = 200;

/// Why a text is no slug, or none can be made of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSlug(String);

impl Slug {
    /// Makes the slug of a name: `EU Production` becomes `eu-production`.
    ///
    /// Letters with marks lose them only where lower-casing does that; whatever is not an ASCII letter or digit
    /// separates words. A long name is cut at [`MAX_LEN`](Self) bytes.
    ///
    /// # Errors
    /// If the name is empty, longer than 200 bytes, holds control characters, or has no ASCII letter or digit at all.
    pub fn of_name(name: &str) -> Result<Self, InvalidSlug> {
        let name = name.trim();
        check_name(name)?;
        let mut slug = String::with_capacity(name.len());
        for c in name.chars().flat_map(char::to_lowercase) {
            if c.is_ascii_alphanumeric() {
                slug.push(c);
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        slug.truncate(MAX_LEN);
        match slug.trim_end_matches('-') {
            "" => Err(InvalidSlug("a name needs at least one letter a-z or digit".to_owned())),
            slug => Ok(Self(slug.into())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether people can be shown this as a name.
pub(super) fn check_name(name: &str) -> Result<(), InvalidSlug> {
    if name.is_empty() {
        return Err(InvalidSlug("a name must not be empty".to_owned()));
    }
    if name.len() > MAX_NAME {
        return Err(InvalidSlug(format!("a name of {} bytes is too long: at most {MAX_NAME}", name.len())));
    }
    if name.chars().any(char::is_control) {
        return Err(InvalidSlug("a name must not contain control characters".to_owned()));
    }
    Ok(())
}

impl FromStr for Slug {
    type Err = InvalidSlug;

    fn from_str(text: &str) -> Result<Self, InvalidSlug> {
        let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_slug = (1..=MAX_LEN).contains(&text.len())
            && text.bytes().all(is_allowed)
            && !text.starts_with('-')
            && !text.ends_with('-')
            && !text.contains("--");
        if is_slug {
            return Ok(Self(text.into()));
        }
        let shown: String = text.chars().take(40).collect();
        Err(InvalidSlug(match Self::of_name(text) {
            Ok(slug) => format!("{shown:?} is no slug (lower-case letters, digits and dashes): did you mean `{slug}`?"),
            Err(_) => format!("{shown:?} is no slug: lower-case letters, digits and dashes, at most {MAX_LEN}"),
        }))
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Slug {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Slug {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_become_slugs() {
        for (name, slug) in [
            ("EU Production", "eu-production"),
            ("  web-app ", "web-app"),
            ("a/b\\c..d", "a-b-c-d"),
            ("../../etc/passwd", "etc-passwd"),
            ("'; DROP TABLE spans; --", "drop-table-spans"),
            ("Crème brûlée 🍮 v2", "cr-me-br-l-e-v2"),
            ("_weir", "weir"),
        ] {
            assert_eq!(Slug::of_name(name).map(|s| s.to_string()), Ok(slug.to_owned()), "{name}");
        }
        for name in ["", "   ", "🍮", "...", "a\nb", &"x".repeat(300)] {
            assert!(Slug::of_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_no_slug_is_told_what_might_be_meant() {
        let error = "EU Production".parse::<Slug>().map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err("\"EU Production\" is no slug (lower-case letters, digits and dashes): did you mean `eu-production`?"
                .to_owned())
        );
        for text in ["", "-a", "a-", "a--b", "A", "a_b", "a.b", "a/b", "..", &"a".repeat(64)] {
            assert!(text.parse::<Slug>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_name_gives_a_slug_that_reads_back(name in "\\PC{0,250}") {
            if let Ok(slug) = Slug::of_name(&name) {
                prop_assert_eq!(slug.as_str().parse::<Slug>(), Ok(slug.clone()));
                prop_assert_eq!(Slug::of_name(slug.as_str()), Ok(slug));
            }
        }
    }
}
