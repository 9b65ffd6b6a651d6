//! The attributes of a chunk's spans: which key, and where its value lies.
//!
//! The spans of a request repeat a few dozen keys thousands of times. The walk that validates a request therefore gives
//! every distinct key a number and notes, for each attribute, that number and the place of its value. Whoever asks what
//! a key means to it asks once per key and request ([`KeyReader`]), not once per attribute.
//!
//! ```text
//! entries  │ key 1, value 812..840 │ key 2, value 861..863 │ … │ key 1, value 2790..2818 │ …
//!            └── span 0 ───────────────────────────────────────└── span 1 ────────────────
//! keys     │ 1: "gen_ai.system", most often followed by 2 │ 2: "llm.is_streaming", … │ …
//! ```
//!
//! An emitter writes its attributes in the same order each time. So a key remembers which one followed it last and how
//! that was written ([`Form`]), and the next attribute is compared with it: equal bytes are a valid key, and often a
//! valid value too, without another look.
//!
//! The notes take 12 bytes an attribute, 16 more where it is not a key and a scalar (an array is not), and some 120 a key.
//! A request whose attributes are degenerate (hardly longer than that, mostly odd, or nearly each of a key of its own) gets
//! none, and its views walk the bytes instead: memory stays below the request's own size.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::{HashMap, HashMapExt};

use super::overlay::SPAN_ATTRIBUTES;
use super::parts::Piece;
use super::validate::{self, Located};
use super::view::{KeyValue, Text};
use super::wire::{Fields, LEN, Reader, bytes_field_len};
use crate::compare::is_same;
use crate::otlp::schema::KEY_VALUE;

/// Tag of a span's `attributes`.
pub(super) const ATTRIBUTE: u8 = (SPAN_ATTRIBUTES << 3) as u8 | LEN;

/// At most one attribute in this many bytes of a request is noted.
const MIN_BYTES: usize = 16;

/// Odd attributes that a request may have however small it is, and one more for each so many bytes.
const USUAL_ODD: usize = 16;
const MIN_BYTES_AN_ODD: usize = 64;

/// Distinct keys that the spans of a request mostly have together.
const USUAL_KEYS: usize = 48;

/// There may be one more for each so many bytes.
const MIN_BYTES_A_KEY: usize = 128;

/// One attribute.
#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u32,
    /// The `AnyValue`; empty where it is absent.
    start: u32,
    end: u32,
}

/// An attribute that is not exactly a key and then a value that is one scalar.
#[derive(Debug, Clone, Copy)]
struct Odd {
    number: u32,
    /// Its field from the tag on, and its `KeyValue`.
    field: u32,
    body: u32,
    end: u32,
}

/// One of a span's own attributes as the index has it: a key and a scalar.
#[derive(Debug, Clone, Copy)]
pub struct Noted<'a> {
    /// Its key's number: the place among [`ChunkRef::keys`](super::ChunkRef::keys), from 0.
    pub key: u32,
    /// Its key.
    pub text: &'a [u8],
    /// Its value, an `AnyValue`.
    pub any_value: &'a [u8],
    /// Its place among the span's own attributes, from 0.
    pub nth: u32,
}

/// A distinct key.
#[derive(Debug, Clone, Copy, Default)]
struct Key {
    start: u32,
    len: u32,
}

/// How the attributes of a key are written.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// The beginning of the first one's `KeyValue`.
    bytes: [u8; FORM],
    /// Length of `0a <length> <key> 12`, with which it begins; 0 if it begins otherwise or the key is too long.
    head: u32,
    /// Its whole length, as long as all others were the same to the last byte; else 0.
    whole: u32,
    /// Where its value lies within it.
    start: u32,
    end: u32,
    /// The key that followed this one last.
    next: u32,
}

/// Bytes that are compared at once, which most keys fit in.
const FORM: usize = 64;

impl Form {
    /// What begins a span: no attribute is like it.
    const START: Self = Self { bytes: [0; FORM], head: 0, whole: 0, start: 0, end: 0, next: START };

    /// The form of a `KeyValue` that begins with a head of this length, 0 if with something else, and has this value.
    fn of(key_value: &[u8], head: usize, value: &Range<usize>) -> Self {
        let mut form = Self { start: value.start as u32, end: value.end as u32, ..Self::START };
        form.bytes.iter_mut().zip(key_value).for_each(|(to, from)| *to = *from);
        if key_value.len() <= FORM {
            form.whole = key_value.len() as u32;
        }
        if head <= FORM {
            form.head = head as u32;
        }
        form
    }

    /// Whether the first `len` bytes are those of the form. At most [`FORM`] are looked at.
    #[inline(always)]
    fn begins(&self, bytes: &[u8; FORM], len: u32) -> bool {
        /// From the middle on, nothing is taken into account.
        const MASKS: [u8; 2 * FORM] = {
            let mut masks = [0; 2 * FORM];
            let mut at = 0;
            while at < FORM {
                masks[at] = 0xff;
                at += 1;
            }
            masks
        };
        let Some(mask) = MASKS.get(FORM.wrapping_sub(len as usize)..).and_then(<[u8]>::first_chunk::<FORM>) else {
            return false;
        };
        let mut differences = [0_u8; 16];
        for ((known, new), mask) in
            self.bytes.as_chunks::<16>().0.iter().zip(bytes.as_chunks::<16>().0).zip(mask.as_chunks::<16>().0)
        {
            for (sum, ((known, new), mask)) in differences.iter_mut().zip(known.iter().zip(new).zip(mask)) {
                *sum |= (known ^ new) & mask;
            }
        }
        u128::from_ne_bytes(differences) == 0
    }
}

/// The number of no key: what comes before a span's first.
const START: u32 = 0;

/// Keys and places of the attributes of all spans of a chunk.
#[derive(Debug)]
pub(crate) struct Attributes {
    /// Unique in the process: tells a [`KeyReader`] whether it knows these keys.
    serial: u64,
    keys: Vec<Key>,
    entries: Vec<Entry>,
    /// Those that are odd, in ascending order of their numbers.
    odd: Vec<Odd>,
}

impl Attributes {
    #[inline]
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// The distinct keys. The first stands for none.
    pub(crate) fn keys<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.keys.iter().map(|key| key.text(bytes))
    }

    /// Itself, if the attributes of this run all lie before `end`.
    #[inline]
    pub(crate) fn in_one_row(&self, run: (u32, u32), end: u32) -> Option<&Self> {
        self.run(run).last().is_none_or(|last| last.end <= end).then_some(self)
    }

    /// The attributes noted as numbers `run`; of the odd ones their `KeyValue`s.
    #[inline]
    pub(crate) fn pieces<'a>(&'a self, run: (u32, u32), bytes: &'a [u8]) -> impl Iterator<Item = Piece<'a>> {
        let odd = if self.odd.is_empty() { 0 } else { self.odd.partition_point(|odd| odd.number < run.0) };
        let mut odd = self.odd.get(odd..).unwrap_or_default().iter().peekable();
        (0..).zip(self.run(run)).map(move |(nth, entry)| {
            if let Some(odd) = odd.next_if(|odd| odd.number == run.0 + nth) {
                return Piece::Attribute(bytes.get(odd.body as usize..odd.end as usize).unwrap_or_default());
            }
            let KeyValue { key, any_value } = self.attribute(entry, bytes);
            Piece::Noted(Noted { key: entry.key, text: key.as_bytes(), any_value, nth })
        })
    }

    /// Where the field of an attribute lies, from its tag to its end; `None` says to look for it.
    pub(crate) fn field(&self, number: u32, bytes: &[u8]) -> Option<(u32, u32)> {
        if let Ok(at) = self.odd.binary_search_by_key(&number, |odd| odd.number) {
            return self.odd.get(at).map(|odd| (odd.field, odd.end));
        }
        // 4a <length> 0a <length> key 12 <length> value, with lengths as short as can be
        let entry = self.entries.get(number as usize)?;
        let (key, value) = (self.keys.get(entry.key as usize)?.len as usize, (entry.end - entry.start) as usize);
        let key_value = bytes_field_len(1, key) + bytes_field_len(2, value);
        let end = entry.end as usize;
        let start = end.checked_sub(bytes_field_len(SPAN_ATTRIBUTES, key_value))?;
        // A length that is longer than it need be ends in another byte than what is expected there.
        let mut reader = Reader::new(bytes.get(start..end)?);
        let attribute = reader.field_if(ATTRIBUTE).filter(|_| reader.is_empty())?;
        let (mut reader, mut inner) = (Reader::new(attribute), 0);
        inner += reader.field_if(0x0a)?.len();
        inner += reader.field_if(0x12)?.len();
        (reader.is_empty() && inner == key + value).then_some((start as u32, end as u32))
    }

    /// The attributes noted as numbers `run`, with their numbers.
    #[inline]
    pub(crate) fn iter<'a>(&'a self, run: (u32, u32), bytes: &'a [u8]) -> impl Iterator<Item = (u32, KeyValue<'a>)> {
        (run.0..).zip(self.run(run)).map(move |(number, entry)| (number, self.attribute(entry, bytes)))
    }

    /// Those of them that have this key.
    #[inline]
    pub(crate) fn with_key<'a, 'k>(
        &'a self,
        run: (u32, u32),
        key: &'k [u8],
        bytes: &'a [u8],
    ) -> impl Iterator<Item = (u32, KeyValue<'a>)> + use<'a, 'k> {
        let (first, run) = (run.0, self.run(run));
        let is_it = move |known: &Key| known.len as usize == key.len() && is_same(known.text(bytes), key);
        // A key is found once among those of the request, unless they are far more than the span's.
        let number = (self.keys.len() <= 2 * run.len()).then(|| {
            let at = self.keys.iter().skip(1).position(is_it);
            at.map(|at| at as u32 + 1)
        });
        let run = if number == Some(None) { &[][..] } else { run };
        let found = (first..).zip(run).filter(move |(_, entry)| match number {
            Some(number) => Some(entry.key) == number,
            None => self.keys.get(entry.key as usize).is_some_and(is_it),
        });
        found.map(move |(number, entry)| (number, self.attribute(entry, bytes)))
    }

    #[inline]
    fn run(&self, (first, end): (u32, u32)) -> &[Entry] {
        self.entries.get(first as usize..end as usize).unwrap_or_default()
    }

    #[inline]
    fn attribute<'a>(&self, entry: &Entry, bytes: &'a [u8]) -> KeyValue<'a> {
        let key = self.keys.get(entry.key as usize).map_or(&[][..], |key| key.text(bytes));
        KeyValue { key: Text(key), any_value: bytes.get(entry.start as usize..entry.end as usize).unwrap_or_default() }
    }
}

impl Key {
    #[inline]
    fn text(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..(self.start + self.len) as usize).unwrap_or_default()
    }
}

/// Validates attributes and notes them.
pub(crate) struct Recorder<'b> {
    bytes: &'b [u8],
    keys: Vec<Key>,
    /// By number of the key.
    forms: Vec<Form>,
    by_text: HashMap<&'b [u8], u32>,
    entries: Vec<Entry>,
    odd: Vec<Odd>,
    /// Entries there may be.
    max_entries: usize,
    /// Odd ones there may be.
    max_odd: usize,
    /// Keys there may be.
    max_keys: usize,
    /// Whether there were not too many yet.
    is_noting: bool,
    /// The key of the attribute before.
    last: u32,
}

impl<'b> Recorder<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        let (mut keys, mut forms) = (Vec::with_capacity(USUAL_KEYS), Vec::with_capacity(USUAL_KEYS));
        keys.push(Key::default());
        forms.push(Form::START);
        Self {
            bytes,
            keys,
            forms,
            by_text: HashMap::with_capacity(USUAL_KEYS),
            entries: Vec::with_capacity(bytes.len() / 64),
            odd: Vec::new(),
            max_entries: bytes.len() / MIN_BYTES,
            max_odd: USUAL_ODD + bytes.len() / MIN_BYTES_AN_ODD,
            max_keys: USUAL_KEYS + bytes.len() / MIN_BYTES_A_KEY,
            is_noting: true,
            last: START,
        }
    }

    /// The bytes it was made for.
    pub(crate) fn bytes(&self) -> &'b [u8] {
        self.bytes
    }

    /// Starts a span and returns the number of its first attribute.
    #[inline]
    pub(crate) fn start_span(&mut self) -> u32 {
        self.last = START;
        self.position()
    }

    /// The number of the next attribute.
    #[inline]
    pub(crate) fn position(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Takes the attributes of a span that stand in a row where `reader` is. `base` is where its bytes begin, `depth`
    /// how many levels of messages an attribute may hold.
    #[inline]
    pub(crate) fn row(&mut self, reader: &mut Reader<'b>, base: usize, depth: usize) -> Result<(), Located> {
        loop {
            let field = base + reader.pos();
            if let Some((entry, is_odd)) = self.repeated(reader, base) {
                if is_odd {
                    self.note_odd(field, field + 2..base + reader.pos());
                }
                self.note(entry);
                continue;
            }
            let Some(key_value) = reader.field_if(ATTRIBUTE) else { return Ok(()) };
            let at = base + reader.pos() - key_value.len();
            match self.foreseen(at, key_value) {
                Some(entry) => self.note(entry),
                None => self.unforeseen(field, at, key_value, depth)?,
            }
        }
    }

    /// Skips an attribute that is the one that followed the last one before, to the last byte. Tells whether it is odd.
    #[inline(always)]
    fn repeated(&self, reader: &mut Reader<'b>, base: usize) -> Option<(Entry, bool)> {
        let key = self.forms.get(self.last as usize)?.next;
        let form = self.forms.get(key as usize)?;
        if form.whole == 0 {
            return None;
        }
        let ([tag, len], beginning) = self.bytes.get(base + reader.pos()..)?.split_first_chunk()?;
        let is_same =
            *tag == ATTRIBUTE && u32::from(*len) == form.whole && form.begins(beginning.first_chunk()?, form.whole);
        let at = (base + reader.pos() + 2) as u32;
        let entry = Entry { key, start: at + form.start, end: at + form.end };
        (is_same && reader.skip(2 + form.whole as usize).is_ok()).then_some((entry, form.head == 0))
    }

    /// The attribute that lies at `at` in the bytes, if it is of the key that followed the last one before, and valid.
    #[inline(always)]
    fn foreseen(&mut self, at: usize, key_value: &[u8]) -> Option<Entry> {
        let key = self.forms.get(self.last as usize)?.next;
        let form = self.forms.get_mut(key as usize)?;
        if form.head == 0 || !form.begins(self.bytes.get(at..)?.first_chunk()?, form.head) {
            return None;
        }
        form.whole = 0;
        let value = validate::plain_prefixed_value(key_value.get(form.head as usize..)?)?;
        let end = at + key_value.len();
        Some(Entry { key, start: (end - value.len()) as u32, end: end as u32 })
    }

    /// Takes a `KeyValue` that lies at `at` in the bytes; its field begins at `field`.
    #[cold]
    #[inline(never)]
    pub(crate) fn unforeseen(
        &mut self,
        field: usize,
        at: usize,
        key_value: &'b [u8],
        depth: usize,
    ) -> Result<(), Located> {
        let (mut key, mut value) = (0..0, 0..0);
        let is_plain = if let Some((plain_key, plain_value)) = validate::plain_key_value(key_value) {
            key = 2..2 + plain_key.len();
            value = key_value.len() - plain_value.len()..key_value.len();
            true
        } else {
            validate::check(&KEY_VALUE, key_value, depth).map_err(|(offset, fault)| (at + offset, fault))?;
            for field in Fields::new(key_value) {
                match field.number {
                    1 => key = field.body..field.end,
                    2 => value = field.body..field.end,
                    _ => {}
                }
            }
            false
        };
        if !self.is_noting {
            return Ok(());
        }
        let text = &key_value[key.clone()];
        let new = self.keys.len() as u32;
        let id = *self.by_text.entry(text).or_insert(new);
        let entry = Entry { key: id, start: (at + value.start) as u32, end: (at + value.end) as u32 };
        if id == new {
            if self.keys.len() > self.max_keys {
                self.stop_noting();
                return Ok(());
            }
            self.keys.push(Key { start: (at + key.start) as u32, len: text.len() as u32 });
            self.forms.push(Form::of(key_value, if is_plain { text.len() + 3 } else { 0 }, &value));
        }
        if let Some(last) = self.forms.get_mut(self.last as usize) {
            last.next = id;
        }
        if !is_plain {
            self.note_odd(field, at..at + key_value.len());
        }
        self.note(entry);
        Ok(())
    }

    /// To be called before [`Self::note`].
    #[cold]
    #[inline(never)]
    fn note_odd(&mut self, field: usize, body: Range<usize>) {
        let number = self.position();
        if self.odd.len() < self.max_odd {
            self.odd.push(Odd { number, field: field as u32, body: body.start as u32, end: body.end as u32 });
        } else {
            self.stop_noting();
        }
    }

    #[inline]
    fn note(&mut self, entry: Entry) {
        self.last = entry.key;
        if self.entries.len() < self.max_entries {
            self.entries.push(entry);
        } else {
            self.stop_noting();
        }
    }

    /// Forgets everything: from now on attributes are only validated.
    #[cold]
    fn stop_noting(&mut self) {
        self.is_noting = false;
        self.last = START;
        self.keys = Vec::new();
        self.forms = Vec::new();
        self.by_text = HashMap::new();
        self.entries = Vec::new();
        self.odd = Vec::new();
    }

    /// What was noted, unless that would take more memory than it is worth.
    pub(crate) fn finish(self) -> Option<Attributes> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        self.is_noting.then_some(Attributes { serial, keys: self.keys, entries: self.entries, odd: self.odd })
    }
}

/// Takes attributes whose keys mean something.
///
/// Unlike a closure it can say that its [`take`](Self::take) is to be compiled into the walk over a span's attributes.
pub trait TakeAttribute<'a, M> {
    /// Takes an attribute, with what its key means.
    fn take(&mut self, meaning: M, attribute: KeyValue<'a>);
}

/// A closure that takes attributes.
pub(super) struct Taker<F>(pub(super) F);

impl<'a, M, F: FnMut(M, KeyValue<'a>)> TakeAttribute<'a, M> for Taker<F> {
    #[inline]
    fn take(&mut self, meaning: M, attribute: KeyValue<'a>) {
        (self.0)(meaning, attribute);
    }
}

/// What attribute keys mean to one reader of spans, found out once per distinct key of a request.
///
/// It remembers the keys of the request it was last used with; [`Span::read`](super::Span::read) uses it.
#[derive(Debug)]
pub struct KeyReader<M> {
    find: fn(&[u8]) -> Option<M>,
    serial: u64,
    known: Vec<Option<M>>,
}

impl<M: Copy> KeyReader<M> {
    /// A reader to which a key means `find(key)`; `None` where it means nothing.
    pub fn new(find: fn(&[u8]) -> Option<M>) -> Self {
        Self { find, serial: 0, known: Vec::new() }
    }

    /// What a key means.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<M> {
        (self.find)(key)
    }

    /// Shows the attributes noted as numbers `run` whose keys mean something, with their numbers.
    #[inline]
    pub(crate) fn read<'a>(
        &mut self,
        attributes: &Attributes,
        run: (u32, u32),
        bytes: &'a [u8],
        mut on_attribute: impl FnMut(u32, M, KeyValue<'a>),
    ) {
        if self.serial != attributes.serial {
            self.learn(attributes, bytes);
        }
        for (number, entry) in (run.0..).zip(attributes.run(run)) {
            if let Some(Some(meaning)) = self.known.get(entry.key as usize) {
                on_attribute(number, *meaning, attributes.attribute(entry, bytes));
            }
        }
    }

    #[cold]
    fn learn(&mut self, attributes: &Attributes, bytes: &[u8]) {
        self.known.clear();
        self.known.extend(attributes.keys.iter().map(|key| (self.find)(key.text(bytes))));
        self.serial = attributes.serial;
    }
}
