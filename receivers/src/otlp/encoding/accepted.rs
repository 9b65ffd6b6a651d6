//! The compressions that a port accepts.

use std::fmt;

use super::Encoding;

/// A set of compressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encodings(u16);

impl Encodings {
    /// What OTLP/gRPC is received in.
    pub(in crate::otlp) const GRPC: Self =
        Self::of(&[Encoding::Identity, Encoding::Gzip, Encoding::Zstd, Encoding::Deflate, Encoding::Snappy]);

    /// What OTLP/HTTP is received in unless `compression_algorithms` says otherwise: the Collector's default.
    pub(in crate::otlp) const HTTP: Self = Self::of(&[
        Encoding::Identity,
        Encoding::Gzip,
        Encoding::Zstd,
        Encoding::Zlib,
        Encoding::Snappy,
        Encoding::Deflate,
    ]);

    const fn of(mut encodings: &[Encoding]) -> Self {
        let mut set = 0;
        while let [first, rest @ ..] = encodings {
            set |= 1 << *first as u16;
            encodings = rest;
        }
        Self(set)
    }

    /// The set of these names of `compression_algorithms`, where the empty name stands for no compression.
    ///
    /// # Errors
    /// The index of a name that no compression has.
    pub(in crate::otlp) fn named<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Self, usize> {
        let mut set = Self(0);
        for (at, name) in names.into_iter().enumerate() {
            let name = if name.is_empty() { Encoding::Identity.name() } else { name };
            let known = Encoding::ALL.into_iter().find(|known| known.name() == name).ok_or(at)?;
            set.0 |= Self::of(&[known]).0;
        }
        Ok(set)
    }

    pub(in crate::otlp) const fn contains(self, encoding: Encoding) -> bool {
        self.0 & Self::of(&[encoding]).0 != 0
    }
}

/// As `Accept-Encoding` lists them.
impl fmt::Display for Encodings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Encoding::ALL.into_iter().filter(|encoding| self.contains(*encoding)).map(Encoding::name);
        for (at, name) in names.enumerate() {
            write!(f, "{}{name}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
