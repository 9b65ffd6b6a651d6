//! Settings of the `cost` processor.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::IgnoredAny;
use weir_pipeline::config::units::GoDuration;
use weir_pipeline::config::{ConfigError, Node};

use crate::cost::calls::Limits;
use crate::cost::catalog::settings::RawCatalog;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    attributes: Vec<AttributeSet>,
    given_cost: GivenCostPolicy,
    estimate: Estimation,
    billed_once: RawBilledOnce,
    max_metric_series: u32,
    /// Read from its node, by the catalog.
    #[serde(rename = "catalog")]
    #[schemars(with = "Option<RawCatalog>")]
    _catalog: Option<IgnoredAny>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawBilledOnce {
    enabled: bool,
    window: GoDuration,
    max_calls: u32,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Raw>()
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            attributes: vec![AttributeSet::Otel, AttributeSet::Weir],
            given_cost: GivenCostPolicy::Keep,
            estimate: Estimation::Off,
            billed_once: RawBilledOnce::default(),
            max_metric_series: 2_000,
            _catalog: None,
        }
    }
}

impl Default for RawBilledOnce {
    fn default() -> Self {
        Self { enabled: true, window: GoDuration(Duration::from_secs(600)), max_calls: 50_000 }
    }
}

/// A family of attributes that the processor can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum AttributeSet {
    /// `gen_ai.usage.cost.amount`, `.currency`, `.source`
    Otel,
    /// `weir.cost.*` and `weir.usage.*`
    Weir,
    /// `gen_ai.usage.cost`
    Legacy,
    /// `llm.cost.*`
    OpenInference,
    /// `langfuse.observation.cost_details`
    Langfuse,
}

/// Which cost counts where the application gives one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum GivenCostPolicy {
    /// The given attributes stay; the computed cost is written under all other keys.
    Keep,
    /// The computed cost is written over the given one.
    PreferLocal,
    /// The given cost is the cost.
    PreferGiven,
}

/// Which calls without usage are estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::cost) enum Estimation {
    Off,
    On,
    /// Those that are known to be streams.
    Streams,
}

/// Settings of the `cost` processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cost) struct Settings {
    pub(super) attributes: Attributes,
    pub(super) given_cost: GivenCostPolicy,
    pub(super) estimate: Estimation,
    /// `None`: every span of a call is billed.
    pub(in crate::cost) billed_once: Option<Limits>,
    pub(super) max_metric_series: usize,
}

/// Which families are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes {
    pub(super) otel: bool,
    pub(super) weir: bool,
    pub(super) legacy: bool,
    pub(super) open_inference: bool,
    pub(super) langfuse: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self::of(&Raw::default())
    }
}

impl Settings {
    pub(in crate::cost) fn parse(node: &Node, path: &str) -> Result<Self, ConfigError> {
        let raw: Raw = node.parse_as(path)?;
        let error = |keys: &[&str], message: &str| {
            let at = keys.iter().try_fold(node, |node, key| node.get(key)).unwrap_or(node);
            at.error(&format!("{path}::{}", keys.join("::")), message)
        };
        let RawBilledOnce { enabled, window, max_calls } = &raw.billed_once;
        if *enabled && window.0.is_zero() {
            let message = "must be greater than zero; to bill every span, set `enabled: false`";
            return Err(error(&["billed_once", "window"], message));
        }
        if *enabled && *max_calls == 0 {
            let message = "must be greater than zero; to bill every span, set `enabled: false`";
            return Err(error(&["billed_once", "max_calls"], message));
        }
        if raw.estimate != Estimation::Off && !cfg!(feature = "estimate") {
            let message = "this build has no tokenizers: set `off`, or take a build with the feature `estimate`";
            return Err(error(&["estimate"], message));
        }
        if raw.max_metric_series == 0 {
            return Err(error(&["max_metric_series"], "must be greater than zero"));
        }
        Ok(Self::of(&raw))
    }

    /// Whether a call without usage is estimated: as configured, or again if it was before and this build can.
    pub(in crate::cost) fn estimation(&self, was_estimated: bool) -> Estimation {
        if was_estimated && cfg!(feature = "estimate") { Estimation::On } else { self.estimate }
    }

    fn of(raw: &Raw) -> Self {
        let has = |set| raw.attributes.contains(&set);
        let once = &raw.billed_once;
        let window = u64::try_from(once.window.0.as_nanos()).unwrap_or(u64::MAX);
        Self {
            attributes: Attributes {
                otel: has(AttributeSet::Otel),
                weir: has(AttributeSet::Weir),
                legacy: has(AttributeSet::Legacy),
                open_inference: has(AttributeSet::OpenInference),
                langfuse: has(AttributeSet::Langfuse),
            },
            given_cost: raw.given_cost,
            estimate: raw.estimate,
            billed_once: once.enabled.then_some(Limits { window, max_calls: once.max_calls as usize }),
            max_metric_series: raw.max_metric_series as usize,
        }
    }
}
