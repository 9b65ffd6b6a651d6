//! A profile in pprof's format: gzip around the message `perftools.profiles.Profile`
//! (github.com/google/pprof, `proto/profile.proto`).

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use flate2::Compression;
use flate2::write::GzEncoder;
use pprof::{Report, Symbol};
use weir_pipeline::batch::wire::{put_bytes, put_uint, put_varint};

/// Encodes a report of samples taken `frequency` times a second of CPU time.
pub(super) fn encode(report: &Report, frequency: i32) -> io::Result<Vec<u8>> {
    let period = 1_000_000_000 / u64::try_from(frequency.max(1)).unwrap_or(1);
    let mut tables = Tables::default();
    let mut message = Vec::new();
    for (kind, unit) in [("samples", "count"), ("cpu", "nanoseconds")] {
        put_bytes(&mut message, 1, &tables.value_type(kind, unit));
    }
    for (frames, count) in &report.data {
        let count = u64::try_from(*count).unwrap_or(0);
        // Innermost first, as in the report; a frame has more than one symbol where functions were inlined.
        let locations: Vec<u64> = frames.frames.iter().map(|symbols| tables.location(symbols)).collect();
        let mut sample = Vec::new();
        put_bytes(&mut sample, 1, &packed(&locations));
        put_bytes(&mut sample, 2, &packed(&[count, count.saturating_mul(period)]));
        put_bytes(&mut sample, 3, &tables.label("thread", &frames.thread_name_or_id()));
        put_bytes(&mut message, 2, &sample);
    }
    let started = report.timing.start_time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let period_type = tables.value_type("cpu", "nanoseconds");
    for location in &tables.locations {
        put_bytes(&mut message, 4, location);
    }
    for function in &tables.functions {
        put_bytes(&mut message, 5, function);
    }
    for text in &tables.texts {
        put_bytes(&mut message, 6, text.as_bytes());
    }
    put_uint(&mut message, 9, nanos(started));
    put_uint(&mut message, 10, nanos(report.timing.duration));
    put_bytes(&mut message, 11, &period_type);
    put_uint(&mut message, 12, period);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&message)?;
    gzip.finish()
}

fn packed(numbers: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    numbers.iter().for_each(|number| put_varint(&mut out, *number));
    out
}

/// What a profile refers to by number.
struct Tables {
    texts: Vec<String>,
    text_numbers: HashMap<String, u64>,
    functions: Vec<Vec<u8>>,
    function_numbers: HashMap<(String, String), u64>,
    locations: Vec<Vec<u8>>,
    location_numbers: HashMap<Vec<(u64, u64)>, u64>,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            // The first text must be empty.
            texts: vec![String::new()],
            text_numbers: HashMap::from([(String::new(), 0)]),
            functions: Vec::new(),
            function_numbers: HashMap::new(),
            locations: Vec::new(),
            location_numbers: HashMap::new(),
        }
    }
}

impl Tables {
    fn text(&mut self, text: &str) -> u64 {
        if let Some(number) = self.text_numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u64;
        self.texts.push(text.to_owned());
        self.text_numbers.insert(text.to_owned(), number);
        number
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> Vec<u8> {
        let (kind, unit) = (self.text(kind), self.text(unit));
        fields(&[(1, kind), (2, unit)])
    }

    fn label(&mut self, key: &str, text: &str) -> Vec<u8> {
        let (key, text) = (self.text(key), self.text(text));
        fields(&[(1, key), (2, text)])
    }

    fn function(&mut self, symbol: &Symbol) -> u64 {
        let key = (symbol.name(), symbol.filename().into_owned());
        if let Some(number) = self.function_numbers.get(&key) {
            return *number;
        }
        let number = self.functions.len() as u64 + 1;
        let (name, file, system) = (self.text(&key.0), self.text(&key.1), self.text(&symbol.sys_name()));
        self.functions.push(fields(&[(1, number), (2, name), (3, system), (4, file)]));
        self.function_numbers.insert(key, number);
        number
    }

    fn location(&mut self, symbols: &[Symbol]) -> u64 {
        let lines: Vec<(u64, u64)> = symbols.iter().map(|s| (self.function(s), u64::from(s.lineno()))).collect();
        if let Some(number) = self.location_numbers.get(&lines) {
            return *number;
        }
        let number = self.locations.len() as u64 + 1;
        let mut location = fields(&[(1, number)]);
        for (function, line) in &lines {
            put_bytes(&mut location, 4, &fields(&[(1, *function), (2, *line)]));
        }
        self.locations.push(location);
        self.location_numbers.insert(lines, number);
        number
    }
}

fn fields(numbers: &[(u32, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    numbers.iter().for_each(|(field, number)| put_uint(&mut out, *field, *number));
    out
}
