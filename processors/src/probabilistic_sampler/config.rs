//! Settings of the `probabilistic_sampler`, with the Collector's keys, rules and messages.

use foldhash::{HashMap, HashMapExt as _};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use weir_pipeline::config::{ConfigError, Node, Warning};
use weir_pipeline::sampling::{MAX_PRECISION, Threshold};
use weir_pipeline::tenant::Slug;

use super::decide::{Always, Mode, Sampler, Samplers};
use super::logs::LogSource;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Raw {
    sampling_percentage: Option<f64>,
    #[schemars(with = "Option<RawMode>")]
    mode: Option<Node>,
    #[serde(default)]
    hash_seed: u32,
    #[serde(default = "yes")]
    fail_closed: bool,
    #[serde(default = "four")]
    sampling_precision: u8,
    #[serde(default)]
    #[schemars(with = "Vec<RawTenant>")]
    tenants: Vec<Node>,
    #[serde(default)]
    always_keep: RawAlways,
    #[schemars(with = "Option<RawSource>")]
    attribute_source: Option<Node>,
    #[serde(default)]
    from_attribute: String,
    #[serde(default)]
    sampling_priority: String,
}

#[derive(Deserialize, JsonSchema, Default, Clone, Copy, PartialEq, Eq)]
enum RawSource {
    #[default]
    #[serde(rename = "traceID")]
    TraceId,
    #[serde(rename = "record")]
    Record,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawTenant {
    project: String,
    environment: Option<String>,
    sampling_percentage: f64,
}

#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
struct RawAlways {
    errors: bool,
    cost_above: Option<f64>,
}

#[derive(Deserialize, JsonSchema, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum RawMode {
    #[default]
    HashSeed,
    Proportional,
    Equalizing,
}

/// Describes the configuration; see [`weir_pipeline::config::schema`].
pub fn schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Raw>()
}

fn yes() -> bool {
    true
}

fn four() -> u8 {
    4
}

/// The smallest share that a threshold can express.
const MIN_RATIO: f64 = 1.0 / (1u64 << 56) as f64;

/// Buckets that `hash_seed` spreads traces over: 2¹⁴.
pub(super) const HASH_BITS: u32 = 14;

pub(super) fn parse(node: &Node, path: &str) -> Result<Samplers, ConfigError> {
    let raw: Raw = node.parse_as(path)?;
    let at = |key: &str| node.get(key).unwrap_or(node);
    let Some(percentage) = raw.sampling_percentage else {
        return Err(node.error(path, "missing required field `sampling_percentage`"));
    };
    if !(1..=MAX_PRECISION).contains(&raw.sampling_precision) {
        let message = format!("invalid sampling precision: {}", raw.sampling_precision);
        return Err(at("sampling_precision").error(path, message).with_hint("1 to 14 hexadecimal digits"));
    }
    let mode: RawMode = unless_empty(raw.mode.as_ref(), &format!("{path}::mode"))?;
    if raw.hash_seed != 0 && mode != RawMode::HashSeed {
        let why = "the mode takes its randomness from the trace, not from a seed";
        Warning::of_moot(at("hash_seed"), &format!("{path}::hash_seed"), why);
    }
    let logs = raw.logs(mode, node, path)?;
    let RawAlways { errors, cost_above } = raw.always_keep;
    if cost_above.is_some_and(|limit| !limit.is_finite() || limit < 0.0) {
        let at = node.get("always_keep").and_then(|always| always.get("cost_above")).unwrap_or(node);
        return Err(at.error(&format!("{path}::always_keep::cost_above"), "is no amount of USD"));
    }
    let shape = Shape { mode, hash_seed: raw.hash_seed, precision: raw.sampling_precision };
    let sampler = |percentage: f64, node: &Node, path: &str| -> Result<Sampler, ConfigError> {
        let mode = shape.mode_of(percentage, node.get("sampling_percentage").unwrap_or(node), path)?;
        Ok(Sampler { mode, fail_closed: raw.fail_closed, always: Always { errors, cost_above } })
    };
    let general = sampler(percentage, node, path)?;
    let mut tenants: HashMap<Slug, Vec<(Option<Slug>, Sampler)>> = HashMap::new();
    for (n, node) in raw.tenants.iter().enumerate() {
        let path = format!("{path}::tenants[{n}]");
        let RawTenant { project, environment, sampling_percentage } = node.parse_as(&path)?;
        let slug = |key: &str, text: &str| {
            let at = node.get(key).unwrap_or(node);
            text.parse::<Slug>().map_err(|error| at.error(&format!("{path}::{key}"), error.to_string()))
        };
        let environment = environment.map(|environment| slug("environment", &environment)).transpose()?;
        let of_project = tenants.entry(slug("project", &project)?).or_default();
        if of_project.iter().any(|(known, _)| known.is_none() || *known == environment) {
            let error = node.error(&path, "an entry above takes all that this one is for");
            return Err(error.with_hint("put what is for one environment before what is for the whole project"));
        }
        of_project.push((environment, sampler(sampling_percentage, node, &path)?));
    }
    Ok(Samplers { logs, general, tenants })
}

/// A choice that is not made where the text is empty, as in the Collector.
fn unless_empty<T: DeserializeOwned + Default>(node: Option<&Node>, path: &str) -> Result<T, ConfigError> {
    node.filter(|node| node.text() != Some("")).map_or_else(|| Ok(T::default()), |node| node.parse_as(path))
}

impl Raw {
    /// What is looked at in log records.
    fn logs(&self, mode: RawMode, node: &Node, path: &str) -> Result<LogSource, ConfigError> {
        let source: RawSource = unless_empty(self.attribute_source.as_ref(), &format!("{path}::attribute_source"))?;
        let at = |key: &str| node.get(key).unwrap_or(node);
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let mut from_attribute = given(&self.from_attribute);
        let path_of = |key: &str| format!("{path}::{key}");
        if mode != RawMode::HashSeed {
            let why = "the mode takes its randomness from the trace id or the attribute `sampling.randomness`: use mode \
                       hash_seed to hash an attribute";
            let keys =
                [("attribute_source", source == RawSource::Record), ("from_attribute", from_attribute.is_some())];
            for (key, _) in keys.into_iter().filter(|(_, is_given)| *is_given) {
                Warning::of_moot(at(key), &path_of(key), why);
            }
            // The policy is not named by it either.
            from_attribute = None;
        } else if source == RawSource::Record && from_attribute.is_none() {
            let message =
                "all log records lack randomness: name the attribute that is to be hashed in `from_attribute`";
            let (location, path) = (at("attribute_source").location().clone(), path_of("attribute_source"));
            tracing::warn!("{}", Warning { location, path, message: message.to_owned() });
        }
        Ok(LogSource {
            uses_trace_id: source == RawSource::TraceId,
            from_attribute,
            priority: given(&self.sampling_priority),
            precision: self.sampling_precision,
        })
    }
}

/// What all shares of a sampler have in common.
#[derive(Clone, Copy)]
struct Shape {
    mode: RawMode,
    hash_seed: u32,
    precision: u8,
}

impl Shape {
    /// How this share is chosen; `node` is where it is written.
    fn mode_of(self, percentage: f64, node: &Node, path: &str) -> Result<Mode, ConfigError> {
        if !percentage.is_finite() || percentage < 0.0 {
            return Err(node.error(path, "the sampling percentage is negative or not a number"));
        }
        // The Collector reads it as a float of 32 bits, and collectors of one tier must agree.
        let percentage = (percentage as f32).min(100.0);
        let ratio = f64::from(percentage) / 100.0;
        if ratio != 0.0 && ratio < MIN_RATIO {
            return Err(node.error(path, "the sampling percentage is too small"));
        }
        Ok(match self.mode {
            _ if ratio == 0.0 => Mode::Never,
            RawMode::HashSeed => {
                // As the Collector does it: in 32 bits, and cut off.
                let buckets = (percentage * ((1 << HASH_BITS) as f32 / 100.0)) as u64;
                match buckets {
                    0 => Mode::Never,
                    _ => Mode::HashSeed {
                        seed: self.hash_seed,
                        threshold: Threshold::from_bits(((1u64 << HASH_BITS) - buckets) << (56 - HASH_BITS)),
                    },
                }
            }
            RawMode::Proportional => Mode::Proportional { ratio, precision: self.precision },
            RawMode::Equalizing => {
                // The ratio was checked to be in range.
                Mode::Equalizing(Threshold::from_probability(ratio, self.precision).unwrap_or(Threshold::NEVER))
            }
        })
    }
}
