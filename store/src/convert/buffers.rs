//! Columns under way.
//!
//! Arrow's own builders append to each column in each row. Most columns of most spans are null, and one that is not has
//! its rows next to each other, so these leave nulls out: a value is put at its row, and the rows before it that have
//! none are filled up then. A column without any value costs nothing until the batch is finished.

use std::ops::Range;
use std::sync::Arc;

use deltalake::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder, PrimitiveArray, StringArray,
    new_null_array,
};
use deltalake::arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use deltalake::arrow::datatypes::DataType;
use deltalake::arrow::error::ArrowError;

/// Something that becomes an array.
pub(super) trait Build {
    /// An empty column, for values of type `kind` where there is a choice.
    fn start(kind: &DataType) -> Self;

    /// The column of `rows` rows; it starts anew.
    fn array(&mut self, rows: usize) -> Result<ArrayRef, ArrowError>;
}

/// Which rows have a value: nothing is kept while all have.
#[derive(Debug, Default)]
pub(super) struct Validity(Option<BooleanBufferBuilder>);

impl Validity {
    /// One more row with a value.
    #[inline]
    pub(super) fn value(&mut self) {
        if let Some(bits) = &mut self.0 {
            bits.append(true);
        }
    }

    /// `count` more rows with values.
    #[inline]
    fn values(&mut self, count: usize) {
        if let Some(bits) = &mut self.0 {
            bits.append_n(count, true);
        }
    }

    /// `count` more rows without a value, after `before` rows in all.
    pub(super) fn nulls(&mut self, before: usize, count: usize) {
        let bits = self.0.get_or_insert_with(|| {
            let mut bits = BooleanBufferBuilder::new(before + count);
            bits.append_n(before, true);
            bits
        });
        bits.append_n(count, false);
    }

    pub(super) fn finish(&mut self) -> Option<NullBuffer> {
        self.0.take().map(|mut bits| NullBuffer::new(bits.finish()))
    }
}

/// A column without any value, kept for the next batch of as many rows.
#[derive(Debug, Default)]
struct Absent(Option<ArrayRef>);

impl Absent {
    fn array(&mut self, kind: &DataType, rows: usize) -> ArrayRef {
        let array = self.0.take().filter(|array| array.len() == rows);
        let array = array.unwrap_or_else(|| new_null_array(kind, rows));
        self.0 = Some(Arc::clone(&array));
        array
    }
}

/// Values of variable length.
#[derive(Debug)]
pub(super) struct Bytes {
    offsets: Vec<i32>,
    values: Vec<u8>,
    validity: Validity,
    absent: Absent,
}

impl Bytes {
    fn new() -> Self {
        Self { offsets: vec![0], values: Vec::new(), validity: Validity::default(), absent: Absent::default() }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Puts a value at `row`, which must not have one. Rows without values before it are null.
    #[inline]
    pub(super) fn put(&mut self, row: usize, value: &(impl AsRef<[u8]> + ?Sized)) {
        self.fill(row);
        self.push(value);
    }

    /// Puts at `row` what `write` appends to the bytes it is given, and returns what it returns.
    #[inline]
    pub(super) fn put_with<T>(&mut self, row: usize, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.fill(row);
        self.push_with(write)
    }

    /// Puts a value at `row`, if there is one.
    #[inline]
    pub(super) fn put_option(&mut self, row: usize, value: Option<&(impl AsRef<[u8]> + ?Sized)>) {
        if let Some(value) = value {
            self.put(row, value);
        }
    }

    /// Puts a value at `row` unless it is empty.
    #[inline]
    pub(super) fn put_nonempty(&mut self, row: usize, value: &(impl AsRef<[u8]> + ?Sized)) {
        if !value.as_ref().is_empty() {
            self.put(row, value);
        }
    }

    /// Appends a value.
    #[inline]
    pub(super) fn push(&mut self, value: &(impl AsRef<[u8]> + ?Sized)) {
        self.values.extend_from_slice(value.as_ref());
        self.end();
    }

    /// Appends the value that `write` appends to the bytes it is given, and returns what it returns.
    #[inline]
    pub(super) fn push_with<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let result = write(&mut self.values);
        self.end();
        result
    }

    pub(super) fn push_null(&mut self) {
        self.fill(self.len() + 1);
    }

    /// Appends all values of a list.
    pub(super) fn push_all(&mut self, list: &Values) {
        let start = self.values.len();
        self.values.extend_from_slice(&list.bytes);
        self.offsets.extend(list.ends.iter().map(|end| offset(start + end)));
        self.validity.values(list.ends.len());
    }

    /// Appends the values numbered `range` again; they must not have nulls among them.
    pub(super) fn repeat(&mut self, range: Range<usize>) {
        let Some([first, ends @ ..]) = self.offsets.get(range.start..=range.end) else { return };
        let bytes = |at: i32| usize::try_from(at).unwrap_or(usize::MAX);
        let (from, to) = (bytes(*first), bytes(ends.last().copied().unwrap_or(*first)));
        let shift = self.values.len().saturating_sub(from);
        if to > self.values.len() {
            // Too large already: see `offset`.
            return;
        }
        self.values.extend_from_within(from..to);
        let (old, shift) = (self.offsets.len(), offset(shift));
        self.offsets.extend_from_within(range.start + 1..range.end + 1);
        for end in self.offsets.iter_mut().skip(old) {
            *end = end.saturating_add(shift);
        }
        self.validity.values(range.len());
    }

    #[inline(always)]
    fn end(&mut self) {
        self.offsets.push(offset(self.values.len()));
        self.validity.value();
    }

    /// Makes it `rows` rows long with nulls.
    #[inline]
    fn fill(&mut self, rows: usize) {
        let missing = rows.saturating_sub(self.len());
        if missing > 0 {
            self.fill_some(missing);
        }
    }

    fn fill_some(&mut self, missing: usize) {
        self.validity.nulls(self.len(), missing);
        self.offsets.resize(self.offsets.len() + missing, offset(self.values.len()));
    }

    fn finish(&mut self, rows: usize) -> Result<(OffsetBuffer<i32>, Buffer, Option<NullBuffer>), ArrowError> {
        self.fill(rows);
        let mut offsets = Vec::with_capacity(ample(self.offsets.len()));
        offsets.push(0);
        let values = Vec::with_capacity(ample(self.values.len()));
        let offsets = std::mem::replace(&mut self.offsets, offsets);
        let values = std::mem::replace(&mut self.values, values);
        let nulls = self.validity.finish();
        if i32::try_from(values.len()).is_err() {
            return Err(ArrowError::OffsetOverflowError(values.len()));
        }
        Ok((OffsetBuffer::new(offsets.into()), Buffer::from_vec(values), nulls))
    }
}

/// Room for the next rows, which will be about as many and as long as these: growing means copying.
fn ample(len: usize) -> usize {
    len + len / 4
}

impl AsMut<Self> for Bytes {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// An offset as Arrow has it. What is too large for one is an error when the column is finished.
#[inline]
fn offset(at: usize) -> i32 {
    i32::try_from(at).unwrap_or(i32::MAX)
}

/// Values to be appended to [`Bytes`] together, again and again.
#[derive(Debug, Default)]
pub(super) struct Values {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Values {
    pub(super) fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
    }
}

/// A column of binary values.
#[derive(Debug)]
pub(super) struct Binaries(Bytes);

impl Binaries {
    /// Puts a value at `row` unless it is empty.
    #[inline]
    pub(super) fn put_nonempty(&mut self, row: usize, value: &[u8]) {
        self.0.put_nonempty(row, value);
    }
}

impl Build for Binaries {
    fn start(_: &DataType) -> Self {
        Self(Bytes::new())
    }

    fn array(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        if self.0.len() == 0 {
            return Ok(self.0.absent.array(&DataType::Binary, rows));
        }
        let (offsets, values, nulls) = self.0.finish(rows)?;
        Ok(Arc::new(BinaryArray::try_new(offsets, values, nulls)?))
    }
}

/// A column of text, whose UTF-8 is checked once for all rows.
pub(super) type Texts = Bytes;

impl Build for Texts {
    fn start(_: &DataType) -> Self {
        Self::new()
    }

    fn array(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        if self.len() == 0 {
            return Ok(self.absent.array(&DataType::Utf8, rows));
        }
        let (offsets, values, nulls) = self.finish(rows)?;
        Ok(Arc::new(StringArray::try_new(offsets, values, nulls)?))
    }
}

/// A column of numbers.
#[derive(Debug)]
pub(super) struct Numbers<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    validity: Validity,
    absent: Absent,
    kind: DataType,
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    /// Puts a number at `row`, which must not have one. Rows without numbers before it are null.
    #[inline]
    pub(super) fn put(&mut self, row: usize, value: T::Native) {
        self.fill(row);
        self.push(value);
    }

    /// Puts a number at `row`, if there is one.
    #[inline]
    pub(super) fn put_option(&mut self, row: usize, value: Option<T::Native>) {
        if let Some(value) = value {
            self.put(row, value);
        }
    }

    /// Appends a number.
    #[inline]
    pub(super) fn push(&mut self, value: T::Native) {
        self.values.push(value);
        self.validity.value();
    }

    #[inline]
    fn fill(&mut self, rows: usize) {
        let missing = rows.saturating_sub(self.values.len());
        if missing > 0 {
            self.validity.nulls(self.values.len(), missing);
            self.values.resize(rows, T::Native::default());
        }
    }
}

impl<T: ArrowPrimitiveType> Build for Numbers<T> {
    fn start(kind: &DataType) -> Self {
        Self { values: Vec::new(), validity: Validity::default(), absent: Absent::default(), kind: kind.clone() }
    }

    fn array(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        if self.values.is_empty() {
            return Ok(self.absent.array(&self.kind, rows));
        }
        self.fill(rows);
        let values = Vec::with_capacity(ample(self.values.len()));
        let values = ScalarBuffer::from(std::mem::replace(&mut self.values, values));
        let array = PrimitiveArray::<T>::try_new(values, self.validity.finish())?;
        Ok(Arc::new(array.with_data_type(self.kind.clone())))
    }
}

/// A column of truth values.
#[derive(Debug)]
pub(super) struct Bools {
    values: BooleanBufferBuilder,
    validity: Validity,
}

impl Bools {
    /// Puts a value at `row`, if there is one. Rows without values before it are null.
    #[inline]
    pub(super) fn put_option(&mut self, row: usize, value: Option<bool>) {
        if let Some(value) = value {
            self.fill(row);
            self.push(value);
        }
    }

    /// Appends a value.
    #[inline]
    pub(super) fn push(&mut self, value: bool) {
        self.values.append(value);
        self.validity.value();
    }

    fn fill(&mut self, rows: usize) {
        let missing = rows.saturating_sub(self.values.len());
        if missing > 0 {
            self.validity.nulls(self.values.len(), missing);
            self.values.append_n(missing, false);
        }
    }
}

impl Build for Bools {
    fn start(_: &DataType) -> Self {
        Self { values: BooleanBufferBuilder::new(0), validity: Validity::default() }
    }

    fn array(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.fill(rows);
        Ok(Arc::new(BooleanArray::new(self.values.finish(), self.validity.finish())))
    }
}
