//! What it costs to know whose a request is: 10,000 keys of 1,000 projects, 100 LLM spans a request.
//!
//! ```sh
//! cargo bench -p weir-extensions --bench tenants
//! ```
//!
//! `request` is all that a request with a key has more than one without: its key is looked up, attributes that claim
//! something else are taken off, the batch is given to its tenant, and 64 rows of a routing table are asked by project.
//! The target is 100 ns a span, 10 µs a request.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use async_trait::async_trait;
use criterion::{Criterion, criterion_group, criterion_main};
use weir_extensions::apikeyauth::{ApiKeyAuth, Settings};
use weir_pipeline::batch::Batch;
use weir_pipeline::batch::wire::put_bytes;
use weir_pipeline::clock::Environment;
use weir_pipeline::condition::{Condition, Context, Subject};
use weir_pipeline::config::Node;
use weir_pipeline::extension::{Authenticator as _, Extension as _};
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::Telemetry;
use weir_pipeline::tenant::record::NewKey;
use weir_pipeline::tenant::{
    ApiKey, Directory, ENVIRONMENT_ATTRIBUTE, KeyUse, Look, Organization, PROJECT_ATTRIBUTE, Project, Registry, Slug,
    Unreachable,
};

const PROJECTS: usize = 1000;
const KEYS: usize = 10;
const SPANS: usize = 100;

struct Fixed(Arc<Directory>);

#[async_trait]
impl Registry for Fixed {
    async fn look(&self) -> Result<Look, Unreachable> {
        Ok(Look { directory: Arc::clone(&self.0), unreadable: Vec::new(), is_complete: true })
    }

    async fn ensure(&self, _: &[(Slug, Slug)]) -> Result<(), Unreachable> {
        Ok(())
    }

    async fn note_uses(&self, _: Vec<KeyUse>) -> Result<(), Unreachable> {
        Ok(())
    }
}

fn key(project: usize, n: usize) -> ApiKey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(project as u64).to_le_bytes());
    bytes[8..16].copy_from_slice(&(n as u64).to_le_bytes());
    ApiKey::of_random(&bytes)
}

fn directory() -> Directory {
    let organization = Organization::default();
    let projects = (0..PROJECTS).map(|p| {
        let mut project = Project::new(&format!("project {p}"), 1).unwrap();
        for n in 0..KEYS {
            let environment = ["dev", "stg", "prd"][n % 3].parse().unwrap();
            let description = NewKey { name: "", now: 1, expires_unix_nano: None };
            project.add_key(&organization, &environment, &key(p, n), description).unwrap();
        }
        Arc::new(project)
    });
    Directory::new(Arc::default(), projects, [], &[])
}

/// A request of spans of about 1.7 KB with the resource of an SDK.
fn request() -> Batch {
    let wrap = |number: u32, inner: &[u8]| {
        let mut out = Vec::new();
        put_bytes(&mut out, number, inner);
        out
    };
    let attribute = |number: u32, key: &str, value: &str| {
        wrap(number, &[wrap(1, key.as_bytes()), wrap(2, &wrap(1, value.as_bytes()))].concat())
    };
    let resource: Vec<u8> = [
        ("service.name", "checkout"),
        ("telemetry.sdk.language", "python"),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.version", "1.38.0"),
        ("deployment.environment.name", "production"),
        ("host.name", "worker-7"),
    ]
    .iter()
    .flat_map(|(key, value)| attribute(1, key, value))
    .collect();
    let span =
        [wrap(1, &[7; 16]), wrap(2, &[7; 8]), attribute(9, "gen_ai.prompt.0.content", &"x".repeat(1600))].concat();
    let spans: Vec<u8> = (0..SPANS).flat_map(|_| wrap(2, &span)).collect();
    let bytes = wrap(1, &[wrap(1, &resource), wrap(2, &spans)].concat());
    Batch::decode(Signal::Traces, bytes.into()).unwrap()
}

fn tenants(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let node = Node::parse("bench.yaml", "{registry: {url: x, poll_interval: 1h}}").unwrap();
    let settings = Settings::parse(&node, "extensions::apikeyauth").unwrap();
    let directory = Arc::new(directory());
    assert_eq!(directory.key_count(), PROJECTS * KEYS);
    let (telemetry, environment) = (Telemetry::default(), Environment::system());
    let auth = ApiKeyAuth::new(settings, Some(Arc::new(Fixed(directory))), "apikeyauth", &telemetry, &environment);
    runtime.block_on(auth.start()).unwrap();
    let headers: Vec<String> =
        (0..256).map(|n| format!("Bearer {}", key(n * 37 % PROJECTS, n % KEYS).expose())).collect();
    let rows: Vec<Condition> = (0..64)
        .map(|n| {
            let text = format!("'project == \"project-{n}\"'");
            Condition::parse(&Node::parse("bench.yaml", &text).unwrap(), "routing", Context::Resource).unwrap()
        })
        .collect();
    let original = request();
    let mut next = 0;
    let mut header = || {
        next = (next + 1) % headers.len();
        headers[next].as_str()
    };
    let mut group = c.benchmark_group("tenants");
    group.throughput(criterion::Throughput::Elements(SPANS as u64));
    group.bench_function("authenticate", |b| {
        b.iter(|| {
            let value = header();
            black_box(auth.authenticate(&|_| Some(value)).unwrap());
        });
    });
    group.bench_function("request", |b| {
        b.iter(|| {
            let value = header();
            let identity = auth.authenticate(&|_| Some(value)).unwrap().made().unwrap();
            let mut batch = original.fork();
            batch.for_each_resource_mut(|resource| {
                resource.remove(PROJECT_ATTRIBUTE);
                resource.remove(ENVIRONMENT_ATTRIBUTE);
            });
            let batch = batch.with_tenant(identity.tenant.as_ref().unwrap());
            let mut holds = 0;
            batch.for_each_resource(|resource| {
                let subject = Subject::Resource(resource, batch.tenant().map(|tenant| &**tenant));
                holds += rows.iter().filter(|row| row.holds(subject)).count();
            });
            black_box((batch, holds))
        });
    });
    group.finish();
    runtime.block_on(auth.stop());
}

criterion_group!(benches, tenants);
criterion_main!(benches);
