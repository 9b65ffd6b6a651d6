//! How much there was.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use serde::Serialize;

/// Spans and the files they are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Spans.
    pub rows: u64,
    /// Parquet files.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// Objects that were deleted for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Freed {
    /// Objects: Parquet files, and those of the table's log where a whole project goes.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// What is stored, by environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Stored(pub BTreeMap<String, Amount>);

/// What a deletion has removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// What this run took out of the table, by environment.
    pub environments: Stored,
    /// What this run deleted from the store.
    pub freed: Freed,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

impl AddAssign for Freed {
    fn add_assign(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
    }
}

impl Stored {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What there is of an environment.
    pub fn of(&self, environment: &str) -> Amount {
        self.0.get(environment).copied().unwrap_or_default()
    }

    /// All environments together.
    pub fn total(&self) -> Amount {
        let mut total = Amount::default();
        self.0.values().for_each(|amount| total += *amount);
        total
    }

    pub(super) fn add(&mut self, other: Self) {
        other.0.into_iter().for_each(|(environment, amount)| *self.0.entry(environment).or_default() += amount);
    }
}

impl<'e> FromIterator<(&'e str, Amount)> for Stored {
    fn from_iter<I: IntoIterator<Item = (&'e str, Amount)>>(amounts: I) -> Self {
        let mut stored = Self::default();
        for (environment, amount) in amounts {
            *stored.0.entry(environment.to_owned()).or_default() += amount;
        }
        stored
    }
}

impl Removed {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.environments.is_empty() && self.freed == Freed::default()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.environments.add(other.environments);
        self.freed += other.freed;
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, files) = (self.rows, self.files);
        write!(f, "{rows} span{} in {files} file{} ({})", plural(rows), plural(files), Size(self.bytes))
    }
}

impl fmt::Display for Freed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} object{} ({})", self.objects, plural(self.objects), Size(self.bytes))
    }
}

fn plural(n: u64) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// Bytes as people read them.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut size, mut unit) = (self.0 as f64, "B");
        for larger in ["KiB", "MiB", "GiB", "TiB"] {
            if size < 1024.0 {
                break;
            }
            (size, unit) = (size / 1024.0, larger);
        }
        let digits = usize::from(unit != "B" && size < 10.0);
        write!(f, "{size:.digits$} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_well() {
        let amount = Amount { rows: 1, files: 2, bytes: 1536 };
        assert_eq!(amount.to_string(), "1 span in 2 files (1.5 KiB)");
        assert_eq!(Freed { objects: 12, bytes: 900 }.to_string(), "12 objects (900 B)");
        assert_eq!(Size(42 << 30).to_string(), "42 GiB");
        let stored: Stored = [("dev", amount), ("prd", amount), ("dev", amount)].into_iter().collect();
        assert_eq!(stored.of("dev"), Amount { rows: 2, files: 4, bytes: 3072 });
        assert_eq!(stored.total(), Amount { rows: 3, files: 6, bytes: 4608 });
    }
}
