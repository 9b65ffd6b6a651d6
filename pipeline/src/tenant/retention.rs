//! How long spans are kept.
//!
//! The closest word counts: of the project for the environment, of the project, of the organization for the environment,
//! of the organization. If nobody said anything, spans are kept for ever.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Slug;

/// Most days that can be said: a hundred years.
const MAX_DAYS: u32 = 36_500;

/// How long spans are kept: a number of days, or for ever. Written `30d` and `forever`; in documents `30` and
/// `"forever"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// So many days, counted from the end of the UTC day on which a span began; at least 1.
    Days(u32),
    /// For ever.
    Forever,
}

/// A text that says no time to keep spans.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time to keep spans: give days from 1d to {MAX_DAYS}d, or `forever`")]
pub struct InvalidKeep(String);

impl FromStr for Keep {
    type Err = InvalidKeep;

    fn from_str(text: &str) -> Result<Self, InvalidKeep> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        let days = text.strip_suffix('d').unwrap_or(text);
        let is_number = !days.is_empty() && days.bytes().all(|b| b.is_ascii_digit());
        match days.parse() {
            Ok(days) if is_number && (1..=MAX_DAYS).contains(&days) => Ok(Self::Days(days)),
            _ => Err(InvalidKeep(text.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Days(days) => write!(f, "{days}d"),
            Self::Forever => f.write_str("forever"),
        }
    }
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Days(days) => serializer.serialize_u32(*days),
            Self::Forever => serializer.serialize_str("forever"),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Keep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of days or `forever`")
            }

            fn visit_u64<E: de::Error>(self, days: u64) -> Result<Keep, E> {
                days.to_string().parse().map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Keep, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What an organization or a project says about how long spans are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Of all environments that are not named below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// Of single environments, built-in ones and the organization's included.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<Slug, Keep>,
}

impl Retention {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.keep.is_none() && self.environments.is_empty()
    }

    /// Says how long, for one environment or all others; `None` takes back what was said.
    pub fn set(&mut self, environment: Option<&Slug>, keep: Option<Keep>) {
        match (environment, keep) {
            (None, keep) => self.keep = keep,
            (Some(environment), Some(keep)) => {
                self.environments.insert(environment.clone(), keep);
            }
            (Some(environment), None) => {
                self.environments.remove(environment);
            }
        }
    }

    /// What is said for the environment of this name, which need not be a slug: tables may have others.
    pub fn of(&self, environment: &str) -> Option<Keep> {
        let named = self.environments.iter().find(|(slug, _)| slug.as_str() == environment);
        named.map(|(_, keep)| *keep).or(self.keep)
    }

    /// How long the spans of an environment of a project are kept, in the order above.
    pub fn resolve(project: Option<&Self>, organization: &Self, environment: &str) -> Keep {
        let project = project.and_then(|retention| retention.of(environment));
        project.or_else(|| organization.of(environment)).unwrap_or(Keep::Forever)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, keep) in [("30d", Keep::Days(30)), ("7", Keep::Days(7)), ("forever", Keep::Forever)] {
            assert_eq!(text.parse(), Ok(keep));
        }
        for text in ["", "d", "0", "0d", "-1", "+3", "1.5d", "30h", "36501", "99999999999", "Forever", "٣d"] {
            let error = text.parse::<Keep>().unwrap_err().to_string();
            assert!(error.ends_with("is no time to keep spans: give days from 1d to 36500d, or `forever`"), "{error}");
        }
        for json in ["0", "-3", "1.5", "true", "null", "\"x\"", "99999999"] {
            assert!(serde_json::from_str::<Keep>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn the_closest_word_counts() {
        let (dev, prd): (Slug, Slug) = ("dev".parse().unwrap(), "prd".parse().unwrap());
        let (mut project, mut organization) = (Retention::default(), Retention::default());
        let at = |project: &Retention, organization: &Retention| {
            ["dev", "prd", "Some where"].map(|e| Retention::resolve(Some(project), organization, e).to_string())
        };
        assert_eq!(at(&project, &organization), ["forever", "forever", "forever"]);
        organization.set(None, Some(Keep::Days(90)));
        organization.set(Some(&dev), Some(Keep::Days(3)));
        assert_eq!(at(&project, &organization), ["3d", "90d", "90d"]);
        project.set(None, Some(Keep::Days(30)));
        project.set(Some(&prd), Some(Keep::Forever));
        assert_eq!(at(&project, &organization), ["30d", "forever", "30d"]);
        let json = serde_json::to_string(&project).unwrap();
        assert_eq!(json, r#"{"keep":30,"environments":{"prd":"forever"}}"#);
        assert_eq!(serde_json::from_str::<Retention>(&json).unwrap(), project);
        project.set(None, None);
        project.set(Some(&prd), None);
        assert!(project.is_empty());
        assert_eq!(Retention::resolve(None, &organization, "prd"), Keep::Days(90));
    }
}
