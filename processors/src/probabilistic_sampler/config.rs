//! Settings of the `probabilistic_sampler`, with the Collector's keys, rules and messages.

use foldhash::{HashMap, HashMapExt as _};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::IgnoredAny;
use weir_pipeline::config::{ConfigError, Node};
use weir_pipeline::sampling::{MAX_PRECISION, Threshold};
use weir_pipeline::tenant::Slug;

use super::decide::{Always, Mode, Sampler, Samplers};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Raw {
    sampling_percentage: Option<f64>,
    #[serde(default)]
    mode: RawMode,
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
    #[schemars(with = "Option<serde_json::Value>")]
    attribute_source: Option<IgnoredAny>,
    #[schemars(with = "Option<serde_json::Value>")]
    from_attribute: Option<IgnoredAny>,
    #[schemars(with = "Option<serde_json::Value>")]
    sampling_priority: Option<IgnoredAny>,
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
    for (key, given) in [
        ("attribute_source", raw.attribute_source.is_some()),
        ("from_attribute", raw.from_attribute.is_some()),
        ("sampling_priority", raw.sampling_priority.is_some()),
    ] {
        if given {
            let error = at(key).error(path, format!("`{key}` is for log records, and only spans can be sampled"));
            return Err(error.with_hint("take it out; the priority of a span is its attribute `sampling.priority`"));
        }
    }
    let Some(percentage) = raw.sampling_percentage else {
        return Err(node.error(path, "missing required field `sampling_percentage`"));
    };
    if !(1..=MAX_PRECISION).contains(&raw.sampling_precision) {
        let message = format!("invalid sampling precision: {}", raw.sampling_precision);
        return Err(at("sampling_precision").error(path, message).with_hint("1 to 14 hexadecimal digits"));
    }
    if raw.hash_seed != 0 && raw.mode != RawMode::HashSeed {
        return Err(at("hash_seed").error(path, "the mode takes its randomness from the trace, not from a seed"));
    }
    let RawAlways { errors, cost_above } = raw.always_keep;
    if cost_above.is_some_and(|limit| !limit.is_finite() || limit < 0.0) {
        let at = node.get("always_keep").and_then(|always| always.get("cost_above")).unwrap_or(node);
        return Err(at.error(&format!("{path}::always_keep::cost_above"), "is no amount of USD"));
    }
    let shape = Shape { mode: raw.mode, hash_seed: raw.hash_seed, precision: raw.sampling_precision };
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
    Ok(Samplers { general, tenants })
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
