//! What the names on a span say about its call, whatever it counts.
//!
//! An application has a few sets of names and thousands of spans of each. [`Facts`] depend on [`Naming`] and nothing
//! else, so whoever remembers the names need not find out again.

use weir_pipeline::batch::view::Text;
use weir_pipeline::compare::is_same;

use super::keys::{NAMES, Name, TELLING, TELLING_BITS};
use super::reader::UsageReader;
use super::role::{self, Role};

/// Scopes that add cached tokens to the input even for Bedrock: they normalise all providers alike.
const INCLUSIVE_SCOPES: [&str; 6] = ["langchain", "llamaindex", "litellm", "openinference", "pydantic", "logfire"];

/// Everything that [`Facts`] and the match of a model are functions of.
#[derive(Debug, Clone, Copy)]
pub(in crate::cost) struct Naming<'n, 'a> {
    names: &'n [Text<'a>; NAMES],
    /// Which of the names are there.
    named: u32,
    scope: &'n str,
}

impl<'n, 'a> Naming<'n, 'a> {
    /// What was read in a scope of this name, with a bit for each name that is there.
    #[inline]
    pub(super) fn new(names: &'n [Text<'a>; NAMES], named: u32, scope: &'n str) -> Self {
        Self { names, named: named & TELLING_BITS, scope }
    }

    /// The texts that matter.
    #[inline]
    fn texts(&self) -> impl Iterator<Item = &'a [u8]> + use<'n, 'a> {
        let (names, mut left) = (self.names, self.named & ((1 << TELLING) - 1));
        std::iter::from_fn(move || {
            let text = names.get(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(text.as_bytes())
        })
    }

    /// Whether `key` was made of the same.
    #[inline(always)]
    pub(in crate::cost) fn has_key(&self, key: &[u8]) -> bool {
        let Some((named, mut rest)) = key.split_first_chunk() else { return false };
        let mut is_next = |text: &[u8]| {
            let Some((len, after)) = rest.split_first() else { return false };
            let Some((stored, after)) = after.split_at_checked(usize::from(*len)) else { return false };
            rest = after;
            is_same(stored, text)
        };
        u32::from_le_bytes(*named) == self.named && self.texts().all(&mut is_next) && is_next(self.scope.as_bytes())
    }

    /// Writes down all of it, unless it is too long to be remembered.
    pub(in crate::cost) fn key(&self) -> Option<Vec<u8>> {
        let mut key = self.named.to_le_bytes().to_vec();
        for text in self.texts().chain([self.scope.as_bytes()]) {
            key.push(u8::try_from(text.len()).ok()?);
            key.extend_from_slice(text);
        }
        Some(key)
    }

    /// A hash of the lengths and the ends of the texts, in which they mostly differ. It need not resist collisions on
    /// purpose: they cost a search, no more.
    #[inline]
    pub(in crate::cost) fn hash(&self) -> u64 {
        self.texts().fold(u64::from(self.named), |state, text| {
            let end = match (text.last_chunk::<8>(), text.last_chunk::<4>()) {
                (Some(end), _) => u64::from_le_bytes(*end),
                (None, Some(end)) => u64::from(u32::from_le_bytes(*end)),
                (None, None) => u64::from(text.first().copied().unwrap_or_default()),
            };
            let product = u128::from(state ^ end ^ (text.len() as u64) << 56) * 0x9E37_79B9_7F4A_7C15;
            (product as u64) ^ (product >> 64) as u64
        })
    }
}

/// What the names say.
#[derive(Debug, Clone, Copy)]
pub(in crate::cost) struct Facts {
    pub(super) role: Role,
    /// The call's output is no tokens: embeddings and the like.
    pub(super) is_input_only: bool,
    /// The emitter passes on Bedrock's raw counts, whose input excludes cached tokens.
    pub(super) is_raw_bedrock: bool,
    /// The Vercel AI SDK on Anthropic or Bedrock, which before version 6 passes on their raw counts.
    pub(super) is_vercel_raw: bool,
    /// A model of Google, whose total may be more than input and output.
    pub(super) is_google: bool,
    /// The operation is called a stream.
    pub(super) is_stream: bool,
    /// The service tier that answered is the batch API's.
    pub(super) is_batch: bool,
    /// The span is a log in the form of one.
    pub(super) is_log: bool,
}

impl Facts {
    /// Finds out.
    pub(in crate::cost) fn of(reader: &UsageReader<'_>, scope_name: &str) -> Self {
        Self {
            role: Role::of(reader, scope_name),
            is_input_only: role::is_input_only(reader),
            is_raw_bedrock: is_raw_bedrock(reader, scope_name),
            is_vercel_raw: is_vercel_raw(reader),
            is_google: is_google(reader),
            is_stream: contains(reader.name(Name::VercelOperation), b".stream"),
            is_batch: reader.name(Name::ServedTier).as_bytes() == b"batch",
            is_log: reader.name(Name::LogfireKind).as_bytes() == b"log",
        }
    }

    /// Those of a span that has nothing to do with models.
    pub(in crate::cost) const UNRELATED: Self = Self {
        role: Role::CallIfCounted,
        is_input_only: false,
        is_raw_bedrock: false,
        is_vercel_raw: false,
        is_google: false,
        is_stream: false,
        is_batch: false,
        is_log: false,
    };

    /// Whether a span of these names can be a call.
    pub(in crate::cost) fn may_be_call(&self) -> bool {
        matches!(self.role, Role::Call | Role::CallIfCounted)
    }
}

fn is_raw_bedrock(reader: &UsageReader<'_>, scope_name: &str) -> bool {
    if scope_name.ends_with(".bedrock") || scope_name.ends_with(".botocore") {
        return true;
    }
    matches!(reader.name(Name::Provider).as_bytes(), b"aws.bedrock" | b"aws_bedrock" | b"bedrock")
        && !INCLUSIVE_SCOPES.iter().any(|part| scope_name.contains(part))
}

/// The SDK's packages for Anthropic (`anthropic.messages`, `vertex.anthropic.messages`) and for Bedrock's Converse
/// (`amazon-bedrock`), and what Traceloop's processor calls them.
fn is_vercel_raw(reader: &UsageReader<'_>) -> bool {
    if reader.name(Name::VercelOperation).is_empty() {
        return false;
    }
    let provider = reader.name(Name::Provider).as_bytes().to_ascii_lowercase();
    matches!(&*provider, b"anthropic" | b"amazon-bedrock" | b"aws.bedrock") || provider.ends_with(b"anthropic.messages")
}

fn is_google(reader: &UsageReader<'_>) -> bool {
    let provider = reader.name(Name::Provider);
    provider.as_bytes().starts_with(b"gcp.")
        || ["google", "vertex", "gemini"].iter().any(|part| contains(provider, part.as_bytes()))
        || [Name::ResponseModel, Name::RequestModel].iter().any(|name| contains(reader.name(*name), b"gemini"))
}

fn contains(text: Text<'_>, part: &[u8]) -> bool {
    text.as_bytes().windows(part.len()).any(|w| w.eq_ignore_ascii_case(part))
}
