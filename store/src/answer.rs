//! Answers to queries, as text.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use deltalake::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringBuilder};
use deltalake::arrow::csv;
use deltalake::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltalake::arrow::error::ArrowError;
use deltalake::arrow::json::writer::{JsonArray, Writer, WriterBuilder};
use deltalake::arrow::util::display::FormatOptions;
use deltalake::arrow::util::pretty::pretty_format_batches_with_options;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A table for people: long texts in columns of text are cut, and what could steer a terminal is shown as its code.
    Table,
    /// A JSON array of objects; decimals are numbers with all their digits.
    Json,
    /// CSV with a header; lists and maps as JSON.
    Csv,
}

/// Characters of a text that a table shows.
const CELL: usize = 1000;

/// Writes an answer as its rows come. A table is written at the end, since its columns are as wide as their widest rows.
pub struct AnswerWriter<W: Write> {
    schema: SchemaRef,
    /// How writing failed, if it did.
    failed: Arc<OnceLock<io::ErrorKind>>,
    kind: Kind<Watched<W>>,
}

/// Remembers how writing failed: Arrow's writers only tell that it did.
struct Watched<W> {
    out: W,
    failed: Arc<OnceLock<io::ErrorKind>>,
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).inspect_err(|error| _ = self.failed.set(error.kind()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush().inspect_err(|error| _ = self.failed.set(error.kind()))
    }
}

enum Kind<W: Write> {
    Table(Vec<RecordBatch>, W),
    Json(Writer<W, JsonArray>),
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> AnswerWriter<W> {
    /// Begins an answer with these columns.
    pub fn new(format: Format, schema: SchemaRef, out: W) -> Self {
        let failed = Arc::new(OnceLock::new());
        let out = Watched { out, failed: Arc::clone(&failed) };
        let kind = match format {
            Format::Table => Kind::Table(Vec::new(), out),
            Format::Json => Kind::Json(WriterBuilder::new().with_explicit_nulls(true).build(out)),
            Format::Csv => Kind::Csv(Box::new(csv::WriterBuilder::new().with_header(true).build(out))),
        };
        Self { schema, failed, kind }
    }

    /// Adds rows.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let written = match &mut self.kind {
            Kind::Table(rows, _) => readable(batch).map(|batch| rows.push(batch)),
            Kind::Json(writer) => writer.write(batch),
            Kind::Csv(writer) => flat(batch).and_then(|batch| writer.write(&batch)),
        };
        written.map_err(|error| cause(error, &self.failed))
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        // Without rows there is still a header.
        self.write(&RecordBatch::new_empty(Arc::clone(&self.schema)))?;
        match self.kind {
            Kind::Table(rows, mut out) => {
                let options = FormatOptions::default().with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.6fZ"));
                let table = pretty_format_batches_with_options(&rows, &options).map_err(io::Error::other)?.to_string();
                writeln!(out, "{}", harmless(&table))
            }
            Kind::Json(mut writer) => {
                writer.finish().map_err(|error| cause(error, &self.failed))?;
                writeln!(writer.into_inner())
            }
            Kind::Csv(writer) => (*writer).into_inner().flush(),
        }
    }
}

/// Writes a whole answer.
///
/// # Errors
/// If `out` cannot be written.
pub fn write(batches: &[RecordBatch], format: Format, out: &mut dyn Write) -> io::Result<()> {
    let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    let mut answer = AnswerWriter::new(format, schema, out);
    batches.iter().try_for_each(|batch| answer.write(batch))?;
    answer.finish()
}

/// What went wrong, of which the kind matters: that nobody reads on is no failure.
fn cause(error: ArrowError, failed: &OnceLock<io::ErrorKind>) -> io::Error {
    match (error, failed.get()) {
        (ArrowError::IoError(_, cause), _) => cause,
        (_, Some(kind)) => (*kind).into(),
        (other, None) => io::Error::other(other),
    }
}

/// The same with long texts cut.
fn readable(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8 => cut(column, column.as_string::<i32>().iter()),
        DataType::LargeUtf8 => cut(column, column.as_string::<i64>().iter()),
        DataType::Utf8View => cut(column, column.as_string_view().iter()),
        _ => Arc::clone(column),
    });
    let columns: Vec<ArrayRef> = columns.collect();
    let fields = batch
        .schema()
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), field.is_nullable()))
        .collect::<Vec<_>>();
    with_rows(batch, Schema::new(fields), columns)
}

/// As many rows as `batch` has, also of no columns.
fn with_rows(batch: &RecordBatch, schema: Schema, columns: Vec<ArrayRef>) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)
}

fn cut<'a>(column: &ArrayRef, texts: impl Iterator<Item = Option<&'a str>> + Clone) -> ArrayRef {
    let end = |text: &str| text.char_indices().nth(CELL).map(|(end, _)| end);
    // So long in bytes first, which is cheap to ask.
    if !texts.clone().flatten().any(|text| text.len() > CELL && end(text).is_some()) {
        return Arc::clone(column);
    }
    let mut short = StringBuilder::new();
    for text in texts {
        match text.and_then(|text| Some((text, end(text)?))) {
            Some((text, end)) => {
                let left = text.get(end..).unwrap_or_default().chars().count();
                short.append_value(format!("{}… ({left} more)", text.get(..end).unwrap_or_default()));
            }
            None => short.append_option(text),
        }
    }
    Arc::new(short.finish())
}

/// The same with characters that could steer a terminal or turn its text around as their codes.
fn harmless(table: &str) -> String {
    let mut out = String::with_capacity(table.len());
    for c in table.chars() {
        let steers = c.is_control() && !matches!(c, '\n' | '\t')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steers { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// Lists, maps and structs as JSON text, which is all that CSV has for them.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            columns.push(json_texts(field.name(), column)?);
        } else {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
        }
    }
    with_rows(batch, Schema::new(fields), columns)
}

fn json_texts(name: &str, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let schema = Arc::new(Schema::new(vec![Field::new(name, column.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::clone(column)])?;
    let mut lines = Vec::new();
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, deltalake::arrow::json::writer::LineDelimited>(&mut lines);
    writer.write(&batch)?;
    writer.finish()?;
    let prefix = format!("{{{}:", serde_json::Value::from(name)).len();
    let mut texts = StringBuilder::new();
    for (row, line) in String::from_utf8_lossy(&lines).lines().enumerate() {
        let value = line.get(prefix..line.len().saturating_sub(1)).filter(|_| column.is_valid(row));
        texts.append_option(value);
    }
    Ok(Arc::new(texts.finish()))
}

#[cfg(test)]
mod tests {
    use deltalake::arrow::array::StringArray;

    use super::*;

    fn batch(texts: &[&str]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("name", DataType::Utf8, true)]));
        RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(texts.to_vec()))]).unwrap()
    }

    fn written(batches: &[RecordBatch], format: Format) -> String {
        let mut out = Vec::new();
        write(batches, format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_neither_steers_the_terminal_nor_fills_it() {
        let long = "é".repeat(CELL + 7);
        let table = written(&[batch(&["\u{1b}[2J\u{202e}red\r", "two\nlines", &long])], Format::Table);
        assert!(table.contains("\\u{1b}[2J\\u{202e}red\\u{d}"), "{table}");
        assert!(!table.contains(['\u{1b}', '\r']) && table.contains("two"));
        assert!(table.contains(&format!("{}… (7 more)", "é".repeat(CELL))) && !table.contains(&long));
        // Programs get what is there.
        for format in [Format::Csv, Format::Json] {
            assert!(written(&[batch(&[&long])], format).contains(&long));
        }
    }

    #[test]
    fn an_answer_is_the_same_in_one_part_or_many() {
        let parts = [batch(&["a"]), batch(&[]), batch(&["b", "c,d"])];
        assert_eq!(written(&parts, Format::Csv), "name\na\nb\n\"c,d\"\n");
        assert_eq!(written(&parts, Format::Json), "[{\"name\":\"a\"},{\"name\":\"b\"},{\"name\":\"c,d\"}]\n");
        assert_eq!(written(&[batch(&[])], Format::Csv), "name\n");
        assert_eq!(written(&[batch(&[])], Format::Json), "[]\n");
        // An answer of no columns is one too.
        for format in [Format::Table, Format::Csv, Format::Json] {
            assert!(written(&[], format).len() < 10, "{format:?}");
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_told_apart() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for format in [Format::Csv, Format::Json, Format::Table] {
            let many = vec![batch(&["text"; 5000])];
            assert_eq!(write(&many, format, &mut Closed).unwrap_err().kind(), io::ErrorKind::BrokenPipe, "{format:?}");
        }
    }
}
