//! From batches of OTLP to columns.
//!
//! ```text
//! batches ─► Rows::add ─► Rows::sort ─► Rows::partitions ─► Converter::convert ─► RecordBatch, sorted
//!            places only   keys only                          one append per value
//! ```
//!
//! Batches are read as they are, with what their indexes know and what processors added to them; nothing is encoded
//! before. Spans are sorted while they are still places in the batches, so that every value is copied once, to its final
//! place. Nothing here fails on what a client sent: what the columns cannot express goes to `otlp_rest` as it came.

pub(crate) mod any;
mod buffers;
mod columns;
pub(crate) mod content;
mod costs;
mod keys;
mod known;
mod rows;
mod scan;
mod usage;

use std::ops::Range;

use deltalake::arrow::array::RecordBatch;
use deltalake::arrow::error::ArrowError;
use weir_pipeline::batch::wire::{self, Fields};

use self::any::Any;
use self::buffers::Texts;
use self::columns::{Columns, count, put_hex, split_time};
use self::costs::Costs;
use self::keys::ChunkKeys;
use self::known::Slot;
pub(crate) use self::rows::MAX_ROWS;
pub use self::rows::{DEFAULT_ENVIRONMENT, Partition, Rows};
use self::rows::{LAST_START, ResourceRow, Row, ScopeRow};
use self::scan::SpanScan;
use self::usage::{Facts, Usage, money, span_type};

/// The prefix of the attributes that [`crate::schema`] calls association properties.
pub(crate) const ASSOCIATION: &str = "traceloop.association.properties.";

/// What is the same for all rows of a file.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// When the rows are written, in microseconds since the epoch.
    pub ingest_micros: i64,
    /// Who writes them: the application of the commit's transaction.
    pub source: String,
    /// The writer's count of flushes: the version of the commit's transaction, or below it.
    pub seq: i64,
}

/// Builds record batches of the [`spans`](crate::schema::spans) table. Keep it: what it learns of the spans' keys and of
/// the columns' sizes makes the next batch faster.
pub struct Converter {
    columns: Columns,
    keys: ChunkKeys,
    rest: Vec<u8>,
}

impl Default for Converter {
    fn default() -> Self {
        Self { columns: Columns::new(), keys: ChunkKeys::default(), rest: Vec::new() }
    }
}

impl std::fmt::Debug for Converter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Converter")
    }
}

impl Converter {
    /// Converts a range of rows.
    ///
    /// # Errors
    /// Only if a column would hold more than 2 GiB.
    pub fn convert(&mut self, rows: &Rows<'_>, range: Range<usize>, stamp: &Stamp) -> Result<RecordBatch, ArrowError> {
        // Text can grow six-fold when it becomes JSON, and no array may pass 2 GiB.
        if rows.bytes(range.clone()) > i32::MAX as usize / 6 {
            return Err(ArrowError::InvalidArgumentError("the spans are too large for one record batch".to_owned()));
        }
        let mut span = SpanScan::default();
        let rows_of_range = rows.spans.get(range).unwrap_or_default();
        for (at, row) in rows_of_range.iter().enumerate() {
            // Rows are of their chunks.
            let Some((chunk, view)) = rows.span(row) else { continue };
            let (places, keys) = self.keys.next_span(row.chunk, chunk);
            span.read(view, places, keys);
            let scope = rows.scopes.get(row.scope as usize);
            let resource = scope.and_then(|s| rows.resources.get(s.resource as usize));
            self.rest.clear();
            self.identity(at, row, rows.environment_of(row), &span, stamp);
            self.containers(at, scope.unwrap_or(&ScopeRow::default()), resource.unwrap_or(&ResourceRow::default()));
            self.content(at, &mut span);
            self.derived(at, &span);
            self.maps(&span);
            self.lists(&span);
            self.columns.span_bytes.put(at, i32::try_from(span.len).unwrap_or(i32::MAX));
            self.columns.otlp_rest.put_nonempty(at, &self.rest);
        }
        self.columns.finish(rows_of_range.len())
    }

    fn identity(&mut self, at: usize, row: &Row, environment: &str, span: &SpanScan<'_>, stamp: &Stamp) {
        let c = &mut self.columns;
        c.environment.put(at, environment);
        c.date.put(at, row.date());
        put_hex(&mut c.trace_id, at, span.trace_id);
        put_hex(&mut c.span_id, at, span.span_id);
        if !span.parent_span_id.is_empty() {
            put_hex(&mut c.parent_span_id, at, span.parent_span_id);
        }
        let start = span.start.min(LAST_START);
        let (micros, nanos) = split_time(start);
        c.start_time.put(at, micros);
        c.start_nanos.put(at, nanos);
        let duration = i128::from(span.end) - i128::from(span.start);
        let clamped = duration.clamp(i64::MIN.into(), i64::MAX.into());
        c.duration_ns.put(at, clamped as i64);
        if start != span.start {
            wire::put_tag(&mut self.rest, 7, wire::FIXED64);
            self.rest.extend_from_slice(&span.start.to_le_bytes());
        }
        if clamped != duration || start != span.start {
            wire::put_tag(&mut self.rest, 8, wire::FIXED64);
            self.rest.extend_from_slice(&span.end.to_le_bytes());
        }
        c.ingest_time.put(at, stamp.ingest_micros);
        c.source.put(at, &stamp.source);
        c.seq.put(at, stamp.seq);
        c.name.put(at, span.name);
        put_number(&mut c.kind, at, KINDS, span.kind);
        put_number(&mut c.status, at, STATUSES, span.status_code);
        c.status_message.put_nonempty(at, span.status_message);
        c.has_status.put_option(at, Some(span.has_status));
        c.trace_state.put_nonempty(at, span.trace_state);
        self.rest.extend(span.unknown.iter().flat_map(|field| field.iter()));
        let counts = [
            (&mut c.flags, span.flags),
            (&mut c.dropped_attributes, span.dropped_attributes),
            (&mut c.dropped_events, span.dropped_events),
            (&mut c.dropped_links, span.dropped_links),
        ];
        for ((column, number), field) in counts.into_iter().zip([16, 10, 12, 14]) {
            let (clamped, fits) = count(number);
            column.put(at, clamped);
            if fits {
                continue;
            }
            if field == 16 {
                wire::put_tag(&mut self.rest, field, wire::FIXED32);
                self.rest.extend_from_slice(&number.to_le_bytes());
            } else {
                wire::put_uint(&mut self.rest, field, number.into());
            }
        }
    }

    fn containers(&mut self, at: usize, scope: &ScopeRow<'_>, resource: &ResourceRow<'_>) {
        let c = &mut self.columns;
        c.service_name.put_option(at, resource.service_name.as_deref());
        c.scope_name.put_option(at, scope.name);
        c.scope_version.put_nonempty(at, scope.version);
        c.resource_schema_url.put_nonempty(at, resource.schema_url);
        c.scope_schema_url.put_nonempty(at, scope.schema_url);
        if let Some(attributes) = &resource.attributes {
            c.resource_attributes.push_all(&attributes.keys, &attributes.values);
        }
        c.resource_attributes.end(resource.attributes.is_some());
        c.otlp_resource.put_nonempty(at, resource.otlp.unwrap_or_default());
        c.otlp_scope.put_nonempty(at, scope.otlp.unwrap_or_default());
    }

    /// The content columns; marks the attributes that moved there.
    fn content(&mut self, at: usize, span: &mut SpanScan<'_>) {
        let c = &mut self.columns;
        let mut bytes = 0;
        let targets = [
            (&mut c.input, &mut c.input_key),
            (&mut c.output, &mut c.output_key),
            (&mut c.tool_definitions, &mut c.tool_definitions_key),
        ];
        for (((column, key_column), spec), id) in targets.into_iter().zip(&content::COLUMNS).zip(0u8..) {
            if let Some((name, length)) = span.take_content(spec, id, column, at) {
                key_column.put(at, name.as_bytes());
                bytes += length;
            }
        }
        c.content_bytes.put(at, bytes as i64);
    }

    /// Columns that repeat what some attribute says.
    fn derived(&mut self, at: usize, span: &SpanScan<'_>) {
        let c = &mut self.columns;
        c.span_type.put(at, span_type(span));
        put_text(&mut c.workflow_name, at, span.value(Slot::WorkflowName));
        put_text(&mut c.entity_name, at, span.value(Slot::EntityName));
        put_text(&mut c.entity_path, at, span.value(Slot::EntityPath));
        put_text(&mut c.agent_name, at, span.value(Slot::AgentName));
        put_text(&mut c.prompt_key, at, span.value(Slot::PromptKey));
        put_text(&mut c.prompt_version, at, span.value(Slot::PromptVersion));
        put_text(&mut c.conversation_id, at, span.value(Slot::ConversationId));
        put_text(&mut c.session_id, at, span.value(Slot::SessionId));
        put_text(&mut c.user_id, at, span.value(Slot::UserId));
        put_text(&mut c.provider, at, span.value(Slot::Provider));
        put_text(&mut c.operation, at, span.value(span.operation()));
        put_text(&mut c.request_model, at, span.value(Slot::RequestModel));
        put_text(&mut c.response_model, at, span.value(Slot::ResponseModel));
        put_text(&mut c.price_key, at, span.value(Slot::PriceKey));
        put_text(&mut c.price_version, at, span.value(Slot::PriceVersion));
        put_finish_reason(&mut c.finish_reason, at, span.value(Slot::FinishReason));
        c.streaming.put_option(at, span.streaming());
        // Parquet's statistics do not know that something is no number, and a filter would miss it.
        let number = |slot| span.value(slot).and_then(Any::as_double).filter(|number| !number.is_nan());
        c.temperature.put_option(at, number(Slot::Temperature));
        c.top_p.put_option(at, number(Slot::TopP));
        c.max_tokens.put_option(at, span.value(Slot::MaxTokens).and_then(Any::as_count));
        c.ttft_ns.put_option(at, span.time_to_first_token());
        let usage = Usage::of(span);
        c.input_tokens.put_option(at, usage.input);
        c.output_tokens.put_option(at, usage.output);
        c.cache_read_tokens.put_option(at, usage.cache_read);
        c.cache_write_tokens.put_option(at, usage.cache_write);
        c.reasoning_tokens.put_option(at, usage.reasoning);
        c.audio_input_tokens.put_option(at, usage.audio_input);
        c.audio_output_tokens.put_option(at, usage.audio_output);
        c.total_tokens.put_option(at, usage.total);
        c.input_cost.put_option(at, span.value(Slot::InputCost).and_then(money));
        c.output_cost.put_option(at, span.value(Slot::OutputCost).and_then(money));
        c.cache_read_cost.put_option(at, span.value(Slot::CacheReadCost).and_then(money));
        c.cache_write_cost.put_option(at, span.value(Slot::CacheWriteCost).and_then(money));
        let costs = Costs::of(span);
        c.total_cost.put_option(at, costs.total);
        c.given_cost.put_option(at, costs.given);
        c.cost_status.put_option(at, costs.status);
        c.cost_source.put_option(at, costs.source);
        put_text(&mut c.cost_deferred_to, at, span.value(Slot::CostDeferredTo));
        put_text(&mut c.cost_caveat, at, span.value(Slot::CostCaveat));
    }

    /// The open part.
    fn maps(&mut self, span: &SpanScan<'_>) {
        let c = &mut self.columns;
        for item in &span.attributes {
            if item.rest {
                wire::put_bytes(&mut self.rest, 9, span.message_of(item));
            }
            if item.superseded || item.moved {
                continue;
            }
            let (key, value, place) = (item.key, item.value, item.place);
            if item.association {
                let map = &mut c.association_properties;
                map.key(place, key.get(ASSOCIATION.len()..).unwrap_or_default());
                match value {
                    Any::Empty => map.values.push_null(),
                    Any::Str(s) => map.values.push(s),
                    other => {
                        map.values.push_with(|out| any::write_json(out, other));
                    }
                }
            }
            match value {
                Any::Str(_) if item.association => {}
                Any::Str(s) => {
                    c.attributes_string.key(place, key);
                    c.attributes_string.values.push(s);
                }
                Any::Int(i) => {
                    c.attributes_int.key(place, key);
                    c.attributes_int.values.push(i);
                }
                Any::Double(d) => {
                    c.attributes_double.key(place, key);
                    c.attributes_double.values.push(d);
                }
                Any::Bool(b) => {
                    c.attributes_bool.key(place, key);
                    c.attributes_bool.values.push(b);
                }
                other => {
                    c.attributes_json.key(place, key);
                    let exact = c.attributes_json.values.push_with(|out| any::write_json(out, other));
                    if !exact && !item.rest {
                        wire::put_bytes(&mut self.rest, 9, span.message_of(item));
                    }
                }
            }
        }
        c.association_properties.end(true);
        c.attributes_string.end(true);
        c.attributes_int.end(true);
        c.attributes_double.end(true);
        c.attributes_bool.end(true);
        c.attributes_json.end(true);
    }

    fn lists(&mut self, span: &SpanScan<'_>) {
        if !self.columns.events.append(&span.events) {
            span.events.iter().for_each(|event| wire::put_bytes(&mut self.rest, 11, event));
        }
        if !self.columns.links.append(&span.links) {
            span.links.iter().for_each(|link| wire::put_bytes(&mut self.rest, 13, link));
        }
    }
}

/// Names of span kinds by number.
pub(crate) const KINDS: &[&str] = &["unspecified", "internal", "server", "client", "producer", "consumer"];
/// Names of status codes by number.
pub(crate) const STATUSES: &[&str] = &["unset", "ok", "error"];

fn put_number(column: &mut Texts, at: usize, names: &[&str], number: i32) {
    match usize::try_from(number).ok().and_then(|n| names.get(n)) {
        Some(name) => column.put(at, name),
        None => column.put(at, &number.to_string()),
    }
}

/// A value as text: strings as they are, everything else as JSON.
#[inline]
fn put_text(column: &mut Texts, at: usize, value: Option<Any<'_>>) {
    match value {
        None | Some(Any::Empty) => {}
        Some(Any::Str(text)) => column.put(at, text),
        Some(other) => {
            column.put_with(at, |out| any::write_json(out, other));
        }
    }
}

/// The first finish reason: some conventions send a list, some a list in a string.
fn put_finish_reason(column: &mut Texts, at: usize, value: Option<Any<'_>>) {
    match value {
        Some(Any::Array(array)) => {
            let first = Fields::new(array).next().and_then(|f| Any::read(f.bytes).0.as_str());
            column.put_option(at, first);
        }
        Some(Any::Str(s)) if s.starts_with(b"[\"") => {
            let list: Vec<String> = serde_json::from_slice(s).unwrap_or_default();
            column.put_option(at, list.first());
        }
        other => put_text(column, at, other),
    }
}

#[cfg(test)]
mod tests;
