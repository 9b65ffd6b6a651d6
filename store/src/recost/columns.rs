//! The columns of the money, read from rows and written into them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use deltalake::arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
    new_null_array,
};
use deltalake::arrow::compute::cast;
use deltalake::arrow::datatypes::{DataType, Decimal128Type, TimestampMicrosecondType};

use super::Row;
use crate::StoreError;
use crate::schema::{self, MONEY};

/// What the columns of one row say about its cost. Amounts are in 10⁻¹² USD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Costs {
    /// `cost_status`
    pub status: Option<Arc<str>>,
    /// `cost_source`
    pub source: Option<Arc<str>>,
    /// `cost_deferred_to`
    pub deferred_to: Option<Arc<str>>,
    /// `cost_caveat`
    pub caveat: Option<Arc<str>>,
    /// `total_cost`
    pub total: Option<i128>,
    /// `input_cost`
    pub input: Option<i128>,
    /// `output_cost`
    pub output: Option<i128>,
    /// `cache_read_cost`
    pub cache_read: Option<i128>,
    /// `cache_write_cost`
    pub cache_write: Option<i128>,
    /// `price_key`
    pub price_key: Option<Arc<str>>,
    /// `price_version`
    pub price_version: Option<Arc<str>>,
}

const AMOUNTS: [&str; 5] = ["total_cost", "input_cost", "output_cost", "cache_read_cost", "cache_write_cost"];
const TEXTS: [&str; 6] =
    ["cost_status", "cost_source", "cost_deferred_to", "cost_caveat", "price_key", "price_version"];

impl Costs {
    fn amounts(&self) -> [Option<i128>; AMOUNTS.len()] {
        [self.total, self.input, self.output, self.cache_read, self.cache_write]
    }

    fn texts(&self) -> [&Option<Arc<str>>; TEXTS.len()] {
        [&self.status, &self.source, &self.deferred_to, &self.caveat, &self.price_key, &self.price_version]
    }

    /// Leaves out amounts that the columns have no room for.
    pub(super) fn cut(&mut self) {
        let limit = 10u128.pow(MONEY.0.into());
        for amount in [&mut self.total, &mut self.input, &mut self.output, &mut self.cache_read, &mut self.cache_write]
        {
            *amount = amount.filter(|amount| amount.unsigned_abs() < limit);
        }
    }

    /// Whether `other` says the same, but for the version of the price list. A row of an older version has no status
    /// and no caveat; `earlier_status` is the status that its span tells.
    pub(super) fn is_same(&self, other: &Self, earlier_status: Option<&str>) -> bool {
        let has_columns = self.status.is_some();
        let status = self.status.as_deref().or(earlier_status);
        let amounts = self.amounts().into_iter().zip(other.amounts()).all(|(a, b)| is_same_amount(a, b));
        let is_unseen = status.is_none() && other.total.is_none();
        amounts
            && (is_unseen || status == other.status.as_deref())
            && self.price_key == other.price_key
            && (!has_columns || (self.deferred_to == other.deferred_to && self.caveat == other.caveat))
    }
}

/// Amounts come into the columns as the doubles that the attributes are. Up to 4,503 USD they are exact there.
fn is_same_amount(stored: Option<i128>, computed: Option<i128>) -> bool {
    match (stored, computed) {
        (Some(stored), Some(computed)) => stored.abs_diff(computed) <= computed.unsigned_abs() >> 52,
        (stored, computed) => stored == computed,
    }
}

/// Reads rows. Texts that many rows share are kept once.
#[derive(Debug, Default)]
pub(super) struct Reader {
    known: HashSet<Arc<str>>,
}

/// Texts that are kept; more different ones are not those of models and prices.
const MAX_KNOWN: usize = 10_000;

impl Reader {
    pub(super) fn rows(
        &mut self,
        batch: &RecordBatch,
        first: usize,
        selected: &[bool],
    ) -> Result<Vec<Row>, StoreError> {
        let amounts = AMOUNTS.map(|name| column(batch, name));
        let texts = TEXTS.map(|name| column(batch, name));
        let names = ["provider", "response_model", "request_model"].map(|name| column(batch, name));
        let ingest = column(batch, "ingest_time")?;
        let amounts = amounts.into_iter().collect::<Result<Vec<_>, _>>()?;
        let texts = texts.into_iter().chain(names).collect::<Result<Vec<_>, _>>()?;
        let rows = selected.iter().enumerate().map(|(at, selected)| {
            let mut amounts = amounts.iter().map(|array| {
                let array = array.as_primitive::<Decimal128Type>();
                array.is_valid(at).then(|| array.value(at))
            });
            let mut texts = texts.iter().map(|array| {
                let array = array.as_string::<i32>();
                array.is_valid(at).then(|| self.text(array.value(at)))
            });
            let mut amount = || amounts.next().flatten();
            let mut text = || texts.next().flatten();
            let (total, input, output, cache_read, cache_write) = (amount(), amount(), amount(), amount(), amount());
            let (status, source, deferred_to, caveat) = (text(), text(), text(), text());
            let (price_key, price_version) = (text(), text());
            let costs = Costs {
                status,
                source,
                deferred_to,
                caveat,
                total,
                input,
                output,
                cache_read,
                cache_write,
                price_key,
                price_version,
            };
            let provider = text();
            let (answered, asked) = (text(), text());
            let ingest = ingest.as_primitive::<TimestampMicrosecondType>();
            let ingest_micros = if ingest.is_valid(at) { ingest.value(at) } else { 0 };
            Row { number: first + at, selected: *selected, ingest_micros, provider, model: answered.or(asked), costs }
        });
        Ok(rows.collect())
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        if self.known.len() < MAX_KNOWN {
            self.known.insert(Arc::clone(&text));
        }
        text
    }
}

/// A column with the type that it has in this version; nulls where a table of an older version lacks it.
fn column(batch: &RecordBatch, name: &'static str) -> Result<ArrayRef, StoreError> {
    let schema = schema::spans();
    let field = schema.field_with_name(name)?;
    let want: &DataType = field.data_type();
    let Some(array) = batch.column_by_name(name) else {
        return match field.is_nullable() {
            true => Ok(new_null_array(want, batch.num_rows())),
            false => Err(StoreError::Column { column: name, message: "it is not among the columns".to_owned() }),
        };
    };
    Ok(if array.data_type() == want { Arc::clone(array) } else { cast(array, want)? })
}

/// The same rows with other costs. `first` is the number of the first row in the file.
pub(super) fn replace(
    batch: &RecordBatch,
    first: usize,
    changes: &HashMap<usize, Costs>,
    now_micros: i64,
) -> Result<RecordBatch, StoreError> {
    let mut rows = first..first + batch.num_rows();
    if !rows.any(|row| changes.contains_key(&row)) {
        return Ok(batch.clone());
    }
    let change = |at: usize| changes.get(&(first + at));
    let mut columns = batch.columns().to_vec();
    let mut put = |name: &'static str, array: ArrayRef| -> Result<(), StoreError> {
        let at = batch.schema().index_of(name)?;
        if let Some(column) = columns.get_mut(at) {
            *column = if array.data_type() == column.data_type() { array } else { cast(&array, column.data_type())? };
        }
        Ok(())
    };
    for (number, name) in AMOUNTS.into_iter().enumerate() {
        let amount = |costs: &Costs| costs.amounts().get(number).copied().flatten();
        put(name, amounts(&column(batch, name)?, &|at| change(at).map(amount))?)?;
    }
    for (number, name) in TEXTS.into_iter().enumerate() {
        let old = column(batch, name)?;
        let text = |costs: &Costs| costs.texts().get(number).and_then(|text| (*text).clone());
        put(name, texts(&old, &|at| change(at).map(text)))?;
    }
    let (total, version) = (column(batch, "total_cost")?, column(batch, "price_version")?);
    let (total, version) = (total.as_primitive::<Decimal128Type>(), version.as_string::<i32>());
    let before = |at: usize| change(at).map(|_| total.is_valid(at).then(|| total.value(at)));
    put("previous_total_cost", amounts(&column(batch, "previous_total_cost")?, &before)?)?;
    let before = |at: usize| change(at).map(|_| version.is_valid(at).then(|| Arc::from(version.value(at))));
    put("previous_price_version", texts(&column(batch, "previous_price_version")?, &before))?;
    let old = column(batch, "recost_time")?;
    let times = old.as_primitive::<TimestampMicrosecondType>();
    let mut builder = TimestampMicrosecondBuilder::with_capacity(old.len()).with_data_type(old.data_type().clone());
    for at in 0..old.len() {
        let time = change(at).map(|_| now_micros).or_else(|| times.is_valid(at).then(|| times.value(at)));
        builder.append_option(time);
    }
    put("recost_time", Arc::new(builder.finish()))?;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// A column of amounts in which some are others.
fn amounts(old: &ArrayRef, new: &dyn Fn(usize) -> Option<Option<i128>>) -> Result<ArrayRef, StoreError> {
    let array = old.as_primitive::<Decimal128Type>();
    let mut builder = Decimal128Builder::with_capacity(array.len()).with_precision_and_scale(MONEY.0, MONEY.1)?;
    for at in 0..array.len() {
        builder.append_option(new(at).unwrap_or_else(|| array.is_valid(at).then(|| array.value(at))));
    }
    Ok(Arc::new(builder.finish()))
}

/// A column of texts in which some are others.
fn texts(old: &ArrayRef, new: &dyn Fn(usize) -> Option<Option<Arc<str>>>) -> ArrayRef {
    let array = old.as_string::<i32>();
    let mut builder = StringBuilder::new();
    for at in 0..array.len() {
        match new(at) {
            Some(text) => builder.append_option(text),
            None => builder.append_option(array.is_valid(at).then(|| array.value(at))),
        }
    }
    Arc::new(builder.finish())
}
