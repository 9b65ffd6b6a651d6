//! API keys: 256 random bits that are shown once and kept only as a hash.
//!
//! ```text
//! weir_q3Vt8Jx0…   5 + 43 characters: `weir_` and the bits in URL-safe base64
//! weir_q3Vt8Jx     what is kept for people to recognise a key by
//! ```
//!
//! Decision: the hash is one round of SHA-256. Slow hashes protect what people can remember; nobody guesses 256 bits.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

/// What keys begin with, so that scanners for leaked secrets find them.
const PREFIX: &str = "weir_";

/// Characters of a key that are kept for display.
const SHOWN: usize = 12;

/// A longer text is refused without being hashed.
pub(super) const MAX_LEN: usize = 512;

/// A key in clear text. It is never logged: its `Debug` shows the beginning only.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Makes a key of 32 bytes from a cryptographic source of random numbers.
    pub fn of_random(bytes: &[u8; 32]) -> Self {
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The key, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The beginning, by which people tell keys apart.
    pub fn prefix(&self) -> &str {
        self.0.get(..SHOWN).unwrap_or_default()
    }

    /// What is stored.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.0)
    }
}

/// A text that says no time after which a key is to be refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time for a key: give hours, days or weeks, such as 12h, 90d or 52w, at most 100 years")]
pub struct InvalidLifetime(String);

/// How long a key is valid, in nanoseconds: `12h`, `90d`, `52w`.
///
/// # Errors
/// If it is no such time.
pub fn lifetime(text: &str) -> Result<u64, InvalidLifetime> {
    const HOUR: u64 = 3_600_000_000_000;
    let invalid = || InvalidLifetime(text.chars().take(40).collect());
    let unit = text.chars().last().ok_or_else(invalid)?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 7 * 24,
        _ => return Err(invalid()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    let is_number = number.bytes().all(|b| b.is_ascii_digit());
    let hours = number.parse::<u64>().ok().and_then(|number| number.checked_mul(hours));
    match hours {
        Some(hours) if is_number && (1..=36_525 * 24).contains(&hours) => Ok(hours * HOUR),
        _ => Err(invalid()),
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.prefix())
    }
}

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of what a client presents.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Compares in a time that does not depend on the contents.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// The first bytes, to look a key up by. They tell nothing of the key.
    pub(super) fn bucket(&self) -> u64 {
        self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash")
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(&text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("a key hash is 32 bytes in URL-safe base64"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn lifetimes_are_read_as_people_write_them() {
        assert_eq!(lifetime("12h"), Ok(43_200_000_000_000));
        assert_eq!(lifetime("7d"), lifetime("1w"));
        for text in ["", "d", "0d", "-1d", "+1d", "1.5d", "90", "90m", "36526d", "99999999999999999999w", "9\u{1f36e}"]
        {
            assert!(lifetime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_recognised_and_not_shown() {
        let key = ApiKey::of_random(&[0xab; 32]);
        assert_eq!(key.expose().len(), PREFIX.len() + 43);
        assert_eq!(key.prefix(), "weir_q6urq6u");
        assert_eq!(format!("{key:?}"), "weir_q6urq6u…");
        assert!(key.hash().is(&KeyHash::of(key.expose())));
        assert!(!key.hash().is(&KeyHash::of("weir_")));
        let stored = serde_json::to_string(&key.hash()).unwrap();
        assert!(!stored.contains(&key.expose()[PREFIX.len()..]));
        assert_eq!(serde_json::from_str::<KeyHash>(&stored).unwrap(), key.hash());
        assert!(serde_json::from_str::<KeyHash>("\"abc\"").is_err());
    }
}
