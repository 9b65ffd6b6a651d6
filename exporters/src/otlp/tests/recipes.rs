//! The sample configurations for backends: each is loaded as it is but for the host, and what arrives is compared with
//! what the backend documents.

use std::collections::BTreeSet;
use std::path::Path;

use weir_pipeline::config::Document;

use super::stub::Stub;
use super::*;
use crate::testing::{request, settled};

type Recipe = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// File, path and headers. The environment's variables are `my-` and their name.
const RECIPES: &[Recipe] = &[
    ("axiom", "/v1/traces", &[("authorization", "Bearer my-AXIOM_TOKEN"), ("x-axiom-dataset", "my-AXIOM_DATASET")]),
    ("azure_monitor", "/v1/traces", &[]),
    ("bmc_helix", "/v1/traces", &[]),
    (
        "braintrust",
        "/otel/v1/traces",
        &[("authorization", "Bearer my-BRAINTRUST_API_KEY"), ("x-bt-parent", "project_id:my-BRAINTRUST_PROJECT_ID")],
    ),
    ("collector", "/v1/traces", &[]),
    ("dash0", "/v1/traces", &[("authorization", "Bearer my-DASH0_AUTH_TOKEN")]),
    ("datadog", "/v1/traces", &[("dd-api-key", "my-DD_API_KEY"), ("dd-otlp-source", "llmobs")]),
    ("dynatrace", "/api/v2/otlp/v1/traces", &[("authorization", "Api-Token my-DYNATRACE_TOKEN")]),
    ("elastic", "/v1/traces", &[("authorization", "ApiKey my-ELASTIC_API_KEY")]),
    ("google_cloud", "/v1/traces", &[]),
    ("grafana_cloud", "/otlp/v1/traces", &[("authorization", "Basic my-GRAFANA_BASIC_AUTH")]),
    ("groundcover", "/v1/traces", &[("apikey", "my-GROUNDCOVER_INGESTION_KEY")]),
    ("highlight", "/v1/traces", &[("x-highlight-project", "my-HIGHLIGHT_PROJECT_ID")]),
    ("honeycomb", "/v1/traces", &[("x-honeycomb-team", "my-HONEYCOMB_API_KEY")]),
    ("hyperdx", "/v1/traces", &[("authorization", "my-HYPERDX_API_KEY")]),
    ("instana", "/opentelemetry.proto.collector.trace.v1.TraceService/Export", &[]),
    ("kloudmate", "/v1/traces", &[("authorization", "my-KLOUDMATE_API_KEY")]),
    ("laminar", "/v1/traces", &[("authorization", "Bearer my-LMNR_PROJECT_API_KEY")]),
    (
        "langfuse",
        "/api/public/otel/v1/traces",
        &[("authorization", "Basic my-LANGFUSE_AUTH"), ("x-langfuse-ingestion-version", "4")],
    ),
    (
        "langsmith",
        "/otel/v1/traces",
        &[("x-api-key", "my-LANGSMITH_API_KEY"), ("langsmith-project", "my-LANGSMITH_PROJECT")],
    ),
    ("middleware", "/v1/traces", &[("authorization", "my-MW_API_KEY")]),
    ("new_relic", "/v1/traces", &[("api-key", "my-NEW_RELIC_LICENSE_KEY")]),
    (
        "oracle_cloud",
        "/20200101/opentelemetry/private/v1/traces",
        &[("authorization", "dataKey my-OCI_APM_PRIVATE_KEY")],
    ),
    ("scorecard", "/otel/v1/traces", &[("authorization", "Bearer my-SCORECARD_API_KEY")]),
    (
        "sentry",
        "/api/my-SENTRY_PROJECT_ID/integration/otlp/v1/traces",
        &[("x-sentry-auth", "sentry sentry_key=my-SENTRY_PUBLIC_KEY")],
    ),
    ("servicenow", "/v1/traces", &[("lightstep-access-token", "my-LIGHTSTEP_ACCESS_TOKEN")]),
    ("signoz", "/v1/traces", &[("signoz-ingestion-key", "my-SIGNOZ_INGESTION_KEY")]),
    ("splunk", "/v2/trace/otlp", &[("x-sf-token", "my-SPLUNK_ACCESS_TOKEN")]),
    ("tencent_cloud", "/v1/traces", &[("authorization", "Bearer my-TAPM_TOKEN")]),
    ("traceloop", "/v1/traces", &[("authorization", "Bearer my-TRACELOOP_API_KEY")]),
];

/// The text with the address of the stub in place of the backend's.
fn redirected(text: &str, stub: SocketAddr) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let is_endpoint = line.trim_start().starts_with("endpoint: ") || line.contains("traces_endpoint: ");
        let (key, value) = line.split_once(": ").unwrap_or((line, ""));
        match value.split_once("://") {
            _ if !is_endpoint => out.push_str(line),
            // Whatever stands before the first slash outside of a variable is the host.
            Some((_, rest)) => {
                let path = rest.find('/').map_or("", |slash| &rest[slash..]);
                out.push_str(&format!("{key}: http://{stub}{path}"));
            }
            None => out.push_str(&format!("{key}: {stub}")),
        }
        out.push('\n');
    }
    out
}

#[tokio::test]
async fn every_recipe_sends_what_its_backend_documents() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/backends");
    let files: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let known: BTreeSet<String> = RECIPES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(files, known);
    for (name, path, headers) in RECIPES {
        let file = format!("{name}.yaml");
        let text = std::fs::read_to_string(folder.join(&file)).unwrap();
        assert!(text.contains("# https://"), "{name} says where it is documented");
        let is_grpc = text.contains("  otlp_grpc/");
        let stub = if is_grpc { Stub::grpc([]).await } else { Stub::http([]).await };
        let redirected = redirected(&text, stub.address);
        let env = |variable: &str| Some(format!("my-{variable}"));
        let document = Document::parse([(file.as_str(), redirected.as_str())], &env).unwrap();
        let [(id, node)] = &document.exporters[..] else { panic!("{name} has one exporter") };
        let context = context();
        let telemetry = context.telemetry.clone();
        let rig = if is_grpc {
            Rig::of(&OtlpGrpc::from_config(node, &id.to_string(), &context).unwrap(), telemetry)
        } else {
            Rig::of(&OtlpHttp::from_config(node, &id.to_string(), &[Signal::Traces], &context).unwrap(), telemetry)
        };
        rig.export(3).await;
        let drained = tokio::time::timeout(Duration::from_secs(20), rig.exporter.drain()).await;
        assert!(drained.is_ok(), "{name} does not reach the stub");
        settled(&rig.telemetry, 3, 0, 0);
        let arrived = stub.only();
        assert_eq!(arrived.path, *path, "{name}");
        for (header, value) in *headers {
            assert_eq!(arrived.header(header), *value, "{name}: {header}");
        }
        let (encoding, packed) = match is_grpc {
            true => (arrived.header("grpc-encoding"), arrived.message().1),
            false => (arrived.header("content-encoding"), arrived.body.clone()),
        };
        let unpacked = super::super::compress::decompress(encoding.as_bytes(), &packed, 1 << 20);
        assert_eq!(unpacked, Some(request(3, 10)), "{name}");
        if !is_grpc {
            assert_eq!(arrived.header("content-type"), "application/x-protobuf");
        }
    }
}
