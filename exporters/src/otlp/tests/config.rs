use ::http::header::AUTHORIZATION;
use weir_pipeline::clock::Environment;
use weir_pipeline::config::Node;
use weir_pipeline::extension::{Extension, Extensions, HeaderEdit, OutgoingHeaders};
use weir_pipeline::host::Host;
use weir_pipeline::metadata::{Metadata, Reads};
use weir_pipeline::node::Context;

use super::super::client::Keepalive;
use super::*;
use crate::queue::settings::{BatchSettings, BatchSizer, Overflow, Sizer};
use crate::testing::settled;

const PATH: &str = "exporters::under/test";

fn grpc(yaml: &str) -> Result<GrpcSettings, String> {
    let node = Node::parse("weir.yaml", yaml).unwrap();
    GrpcSettings::parse(&node, PATH, &context()).map_err(|e| e.to_string())
}

fn http(yaml: &str) -> Result<HttpSettings, String> {
    let node = Node::parse("weir.yaml", yaml).unwrap();
    HttpSettings::parse(&node, PATH, &[], &context()).map_err(|e| e.to_string())
}

#[test]
fn defaults_are_the_collectors() {
    let settings = grpc("endpoint: tempo:4317").unwrap();
    assert_eq!((settings.target.host.as_str(), settings.target.port), ("tempo", 4317));
    assert_eq!(settings.authority, "tempo:4317");
    assert!(settings.target.tls.is_some() && settings.target.keepalive.is_none());
    let Exchange { timeout, compression, queue, retry, max_request_bytes, .. } = settings.exchange;
    assert_eq!((timeout, compression), (Some(Duration::from_secs(5)), Compression::Gzip));
    assert_eq!((queue, retry), (Some(QueueSettings::default()), RetrySettings::default()));
    assert_eq!(max_request_bytes, 64 << 20);

    let settings = http("endpoint: http://tempo:4318").unwrap();
    assert_eq!(settings.exchange.timeout, Some(Duration::from_secs(30)));
    assert_eq!(settings.traces.unwrap().uri, "http://tempo:4318/v1/traces");
    assert_eq!(settings.logs.unwrap().uri, "http://tempo:4318/v1/logs");
}

#[test]
fn every_setting_is_read() {
    let settings = grpc(
        r#"
endpoint: http://tempo:4317
headers:
  Authorization: Bearer x
  x-team: 0123
compression: zstd
timeout: 1500ms
authority: tempo.example
user_agent: me
keepalive: {time: 1m, permit_without_stream: true}
tls: {insecure: true}
max_request_size: 4MiB
sending_queue:
  {num_consumers: 2, queue_size: 5000, sizer: items, block_on_overflow: true, wait_for_result: true,
   batch: {flush_timeout: 1s, min_size: 10, max_size: 20, partition: {metadata_keys: [X-Tenant]}}}
retry_on_failure:
  {enabled: false, initial_interval: 1s, randomization_factor: 0, multiplier: 2, max_interval: 10s, max_elapsed_time: 0}
"#,
    )
    .unwrap();
    assert!(settings.target.tls.is_none());
    assert_eq!(settings.headers[AUTHORIZATION], "Bearer x");
    assert!(!format!("{:?}", settings.headers).contains("Bearer"));
    assert_eq!(
        (&settings.headers["x-team"], &settings.headers["user-agent"]),
        (&"0123".parse().unwrap(), &"me".parse().unwrap())
    );
    assert_eq!(settings.authority, "tempo.example");
    let keepalive =
        Keepalive { time: Duration::from_secs(60), timeout: Duration::from_secs(10), permit_without_stream: true };
    assert_eq!(settings.target.keepalive, Some(keepalive));
    let Exchange { timeout, compression, queue, retry, max_request_bytes, .. } = settings.exchange;
    assert_eq!((timeout, compression), (Some(Duration::from_millis(1_500)), Compression::Zstd));
    let expected = QueueSettings {
        num_consumers: 2,
        queue_size: 5_000,
        sizer: Sizer::Items,
        block_on_overflow: true,
        wait_for_result: true,
        overflow: Overflow::Refuse,
        batch: Some(BatchSettings {
            flush_timeout: Duration::from_secs(1),
            min_size: 10,
            max_size: Some(20),
            sizer: BatchSizer::Items,
            metadata_keys: vec!["x-tenant".to_owned()],
            is_by_sender: true,
        }),
        storage: None,
        kept_metadata: Reads { headers: vec!["x-tenant".to_owned()], ..Reads::default() },
    };
    assert_eq!((queue, max_request_bytes), (Some(expected), 4 << 20));
    let expected = RetrySettings {
        enabled: false,
        initial_interval: Duration::from_secs(1),
        randomization_factor: 0.0,
        multiplier: 2.0,
        max_interval: Duration::from_secs(10),
        max_elapsed_time: None,
    };
    assert_eq!(retry, expected);

    let listed =
        grpc("{endpoint: 'h:1', headers: [{name: a, value: b}], timeout: 0, sending_queue: {enabled: false}}").unwrap();
    assert_eq!(listed.headers["a"], "b");
    assert_eq!((listed.exchange.timeout, listed.exchange.queue), (None, None));
    let blank = grpc("endpoint: h:1\nsending_queue:\nretry_on_failure:\ntls:\nheaders:\nkeepalive:\n").unwrap();
    assert_eq!(blank.exchange.queue, Some(QueueSettings::default()));
    assert!(blank.target.keepalive.is_some());
}

/// Sets headers by what it says it reads.
struct Setter(Reads);

impl OutgoingHeaders for Setter {
    fn edits(&self, _: Option<&Metadata>) -> Result<Vec<HeaderEdit>, String> {
        Ok(Vec::new())
    }

    fn reads(&self) -> Reads {
        self.0.clone()
    }
}

impl Extension for Setter {
    fn outgoing_headers(self: Arc<Self>) -> Option<Arc<dyn OutgoingHeaders>> {
        Some(self)
    }
}

#[test]
fn the_queue_keeps_what_is_read_when_a_batch_is_sent() {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let queue = |reads: &Reads, batch: &str| {
        let mut context = context();
        let setter = ("setter".parse().unwrap(), Arc::new(Setter(reads.clone())) as Arc<dyn Extension>);
        context.extensions = Extensions::new(vec![setter]);
        let queue = format!("auth: {{authenticator: setter}}, sending_queue: {{batch: {batch}}}");
        let node = Node::parse("weir.yaml", &format!("{{endpoint: 'http://h:1', {queue}}}")).unwrap();
        let http = HttpSettings::parse(&node, PATH, &[], &context).unwrap().exchange.queue.unwrap();
        let grpc = GrpcSettings::parse(&node, PATH, &context).unwrap().exchange.queue.unwrap();
        assert_eq!(http, grpc);
        let batch = grpc.batch.as_ref().unwrap();
        (batch.lost_header(reads).map(str::to_owned), batch.is_by_sender, grpc.kept_metadata)
    };
    let reads = Reads { headers: owned(&["a", "b"]), attributes: owned(&["username"]), is_unknown: false };
    assert_eq!(queue(&reads, "{}"), (Some("a".to_owned()), true, reads.clone()));
    assert_eq!(queue(&reads, "{min_size: 0}").0, None, "nothing is joined");
    let both = "{partition: {metadata_keys: [B, a, c]}}";
    let kept = Reads { headers: owned(&["a", "b", "b", "a", "c"]), ..reads.clone() };
    assert_eq!(queue(&reads, both), (None, true, kept));
    assert_eq!(queue(&Reads::default(), "{}"), (None, false, Reads::default()));
    assert_eq!(queue(&Reads::unknown(), "{}"), (None, true, Reads::unknown()));
}

#[test]
fn tls_is_on_unless_it_is_off() {
    let is_secure = |yaml: &str| grpc(yaml).unwrap().target.tls.is_some();
    assert!(is_secure("endpoint: http://h:1"), "http:// does not switch it off");
    assert!(!is_secure("{endpoint: 'http://h:1', tls: {insecure: true}}"));
    assert!(is_secure("{endpoint: 'https://h:1', tls: {insecure: true}}"));
    assert!(!is_secure("{endpoint: 'h:1', tls: {insecure: true, ca_file: ''}}"));
    let missing = grpc("{endpoint: 'h:1', tls: {insecure: true, ca_file: /nowhere/ca.pem}}").unwrap_err();
    assert!(
        missing.starts_with("weir.yaml:1:") && missing.contains("tls::ca_file: cannot read /nowhere/ca.pem"),
        "{missing}"
    );
    // Who only looks whether the configuration is right is told of a file that is not there, and of nothing else.
    let trial = Context { host: Host::of_trial(Telemetry::default(), &Environment::system()), ..context() };
    let tried = |tls: &str| {
        let node = Node::parse("weir.yaml", &format!("{{endpoint: 'h:1', tls: {tls}}}")).unwrap();
        GrpcSettings::parse(&node, PATH, &trial).map_err(|e| e.to_string())
    };
    tried("{ca_file: /nowhere/ca.pem}").unwrap();
    tried("{cert_file: /nowhere/a.pem, key_file: /nowhere/a.key}").unwrap();
    assert_eq!(trial.host.forgiven().len(), 3, "each by itself: {:?}", trial.host.forgiven());
    let broken = tried("{cert_file: /nowhere/a.pem, key_pem: nothing, ca_file: /nowhere/ca.pem}").unwrap_err();
    assert!(broken.contains("tls::key_pem: cannot read it"), "{broken}");
    assert!(tried("{ca_pem: nothing}").unwrap_err().contains("tls::ca_pem: cannot read it"));
    assert!(http("endpoint: https://h").unwrap().traces.unwrap().target.tls.is_some());
    assert!(http("endpoint: http://h").unwrap().traces.unwrap().target.tls.is_none());
}

#[test]
fn signals_have_their_own_endpoints() {
    let settings = http("{endpoint: 'http://a/x/', logs_endpoint: 'http://b/logs?k=v'}").unwrap();
    assert_eq!(settings.traces.unwrap().uri, "http://a/x/v1/traces");
    let logs = settings.logs.unwrap();
    assert_eq!((logs.uri.to_string().as_str(), logs.target.host.as_str()), ("http://b/logs?k=v", "b"));
    let settings = http("traces_endpoint: http://a/t").unwrap();
    assert!(settings.traces.is_some() && settings.metrics.is_none());
}

#[test]
fn what_is_not_there_may_be_switched_off() {
    for off in ["middlewares: []", "middlewares:", "tls: {tpm: {enabled: false, path: /dev/tpm0}}", "tls: {tpm: }"] {
        grpc(&format!("{{endpoint: 'tempo:4317', {off} }}")).unwrap();
        http(&format!("{{endpoint: 'https://tempo:4318', {off} }}")).unwrap();
    }
    for off in ["cookies: {enabled: false}", "cookies:"] {
        http(&format!("{{endpoint: 'https://tempo:4318', {off} }}")).unwrap();
    }
    for (on, message) in [
        ("middlewares: [{id: a}]", "weir.yaml:1:48: exporters::under/test::middlewares[0]: there are no middlewares"),
        (
            "tls: {tpm: {enabled: true}}",
            "weir.yaml:1:55: exporters::under/test::tls::tpm::enabled: cannot be true: keys",
        ),
        ("cookies: {}", "weir.yaml:1:43: exporters::under/test::cookies: cannot be enabled: no cookies are kept"),
        ("cookies: {enabled: true}", "weir.yaml:1:43: exporters::under/test::cookies: cannot be enabled"),
    ] {
        let error = http(&format!("{{endpoint: 'https://tempo:4318', {on} }}")).unwrap_err();
        assert!(error.starts_with(message), "{on}: {error}");
        if !on.contains("cookies") {
            let error = grpc(&format!("{{endpoint: 'https://tempo:4317', {on} }}")).unwrap_err();
            assert!(error.starts_with(message), "{on}: {error}");
        }
    }
    let error = grpc("{endpoint: 'tempo:4317', tls: {insecure: true, tpm: {enabled: true}}}").unwrap_err();
    assert!(error.contains("tls::tpm::enabled: cannot be true"), "{error}");
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    let expected = [
        ("{}", "endpoint: must be specified"),
        ("endpoint: tempo", "endpoint: has no port"),
        ("{endpoint: 'h:1', compression: lz4}", "compression: is not known to gRPC"),
        ("{endpoint: 'h:1', compression: brotli}", "compression"),
        ("{endpoint: 'h:1', wait_for_ready: true, timeout: 0}", "wait_for_ready: needs a `timeout`"),
        ("{endpoint: 'h:1', auth: {authenticator: oauth2}}", "auth::authenticator: no extension \"oauth2\" is started"),
        ("{endpoint: 'h:1', auth: {}}", "authenticator"),
        ("{endpoint: 'h:1', tls: {ca_file: a, ca_pem: b}}", "tls::ca_pem: cannot be set beside `ca_file`"),
        ("{endpoint: 'h:1', tls: {min_version: '1.3', max_version: '1.2'}}", "tls::max_version: must not be less than"),
        ("{endpoint: 'h:1', tls: {max_version: '1.1'}}", "tls::max_version"),
        ("{endpoint: 'h:1', proxy_url: 'http://p:1'}", "proxy_url"),
        ("{endpoint: 'h:1', compression: zlib}", "compression: is not known to gRPC"),
        ("{endpoint: 'h:1', headers: {te: x}}", "headers::te: cannot be set"),
        ("{endpoint: 'h:1', headers: {'a b': x}}", "headers::a b: is not a name"),
        ("{endpoint: 'h:1', tls: {cert_file: x}}", "tls::cert_file: needs a `key_file`"),
        ("{endpoint: 'h:1', tls: {min_version: '1.1'}}", "tls::min_version"),
        ("{endpoint: 'h:1', tls: {server_name_override: 'a b'}}", "tls::server_name_override: is not a host name"),
        ("{endpoint: 'h:1', keepalive: {time: 0s}}", "keepalive::time: must be positive"),
        ("{endpoint: 'h:1', sending_queue: {queue_size: 0}}", "sending_queue::queue_size: must be positive"),
        (
            "{endpoint: 'h:1', sending_queue: {storage: file_storage}}",
            "sending_queue::storage: no extension \"file_storage\"",
        ),
        (
            "{endpoint: 'h:1', sending_queue: {storage: file_storage, wait_for_result: true}}",
            "sending_queue::wait_for_result: is not supported with a persistent queue configured with `storage`",
        ),
        ("{endpoint: 'h:1', sending_queue: {sizer: spans}}", "sending_queue::sizer"),
        (
            "{endpoint: 'h:1', sending_queue: {block_on_overflow: true, drop_on_overflow: true}}",
            "sending_queue::drop_on_overflow: cannot be set beside `block_on_overflow`",
        ),
        (
            "{endpoint: 'h:1', sending_queue: {batch: {sizer: requests}}}",
            "batch::sizer: supports only `items` or `bytes`",
        ),
        (
            "{endpoint: 'h:1', sending_queue: {sizer: requests, batch: {}}}",
            "batch::sizer: supports only `items` or `bytes`",
        ),
        ("{endpoint: 'h:1', sending_queue: {batch: {flush_timeout: 0}}}", "batch::flush_timeout: must be positive"),
        (
            "{endpoint: 'h:1', sending_queue: {batch: {max_size: 10}}}",
            "batch::max_size: (10) must be greater or equal to `min_size` (8192)",
        ),
        (
            "{endpoint: 'h:1', sending_queue: {sizer: items, batch: {}}}",
            "batch::min_size: (8192) must be less than or equal to `queue_size` (1000)",
        ),
        (
            "{endpoint: 'h:1', sending_queue: {batch: {partition: {metadata_keys: [a, A]}}}}",
            "batch::partition::metadata_keys: has \"a\" twice",
        ),
        (
            "{endpoint: 'h:1', sending_queue: {batch: {partition: {cache_size: 0}}}}",
            "batch::partition::cache_size: must be positive",
        ),
        ("{endpoint: 'h:1', max_request_size: 0}", "max_request_size: must be positive"),
        ("{endpoint: 'h:1', retry_on_failure: {randomization_factor: 2}}", "randomization_factor: must be from 0 to 1"),
        ("{endpoint: 'h:1', retry_on_failure: {max_elapsed_time: 1s}}", "must not be less than `initial_interval`"),
        ("{endpoint: 'h:1', retry_on_failure: {max_elapsed_time: 10s}}", "must not be less than `max_interval`"),
        ("{endpoint: 'h:1', balancer_name: pick_last}", "balancer_name: unknown value `pick_last`"),
    ];
    for (yaml, text) in expected {
        let error = grpc(yaml).unwrap_err();
        assert!(error.starts_with("weir.yaml:1:") && error.contains(PATH) && error.contains(text), "{yaml}: {error}");
    }
    let expected = [
        ("{}", "endpoint: at least one endpoint must be specified"),
        ("endpoint: h:4318", "endpoint"),
        ("traces_endpoint: h", "traces_endpoint: has neither"),
        ("{endpoint: 'http://h', encoding: xml}", "encoding"),
        (
            "{endpoint: 'http://h', keepalive: {}, max_idle_conns: 5}",
            "max_idle_conns: cannot be set beside `keepalive`",
        ),
        ("{endpoint: 'http://h', compression_params: {level: 10}}", "compression_params::level: cannot be 10: use -1"),
        (
            "{endpoint: 'http://h', compression: lz4, compression_params: {level: 1}}",
            "compression_params::level: cannot be 1: this compression has no levels",
        ),
        ("{endpoint: 'http://h', proxy_url: 'socks5://p:1'}", "proxy_url: does not begin with http://"),
        (
            "{endpoint: 'http://h', http2_read_idle_timeout: 1s, http2_ping_timeout: 0}",
            "http2_ping_timeout: must be positive",
        ),
        ("{endpoint: 'http://h', keepalive: {time: 1s}}", "keepalive: unknown key `time`"),
    ];
    for (yaml, text) in expected {
        let error = http(yaml).unwrap_err();
        assert!(error.starts_with("weir.yaml:1:") && error.contains(PATH) && error.contains(text), "{yaml}: {error}");
    }
    let leak = grpc("{endpoint: 'h:1', headers: {authorization: \"secret\\n\"}}").unwrap_err();
    assert!(leak.contains("headers::authorization") && !leak.contains("secret"), "{leak}");
}

#[tokio::test]
async fn a_configured_exporter_exports() {
    let stub = super::stub::Stub::grpc([]).await;
    let yaml = format!("{{endpoint: '{}', tls: {{insecure: true}}, headers: {{x-key: abc}}}}", stub.address);
    let context = context();
    let telemetry = context.telemetry.clone();
    let factory = OtlpGrpc::from_config(&Node::parse("weir.yaml", &yaml).unwrap(), PATH, &context).unwrap();
    let rig = Rig::of(&factory, telemetry);
    assert_eq!(rig.export(4).await, Outcome::Done);
    rig.exporter.drain().await;
    assert_eq!((stub.only().header("x-key"), stub.only().header("grpc-encoding")), ("abc", "gzip"));
    settled(&rig.telemetry, 4, 0, 0);
}
