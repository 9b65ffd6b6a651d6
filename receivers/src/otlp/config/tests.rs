use weir_pipeline::config::ComponentId;
use weir_pipeline::extension::{Authenticator, Decision, Denied, Extension};

use super::*;

/// Authenticates nobody and limits memory, or neither.
struct Both(Option<Arc<Budget>>);

impl Extension for Both {
    fn authenticator(self: Arc<Self>) -> Option<Arc<dyn Authenticator>> {
        self.0.is_some().then_some(self as _)
    }

    fn budget(&self) -> Option<Arc<Budget>> {
        self.0.clone()
    }
}

impl Authenticator for Both {
    fn authenticate<'h>(&self, _: &dyn Fn(&str) -> Option<&'h str>) -> Result<Decision, Denied> {
        Err(Denied::Unknown("nobody"))
    }
}

fn settings(yaml: &str) -> Result<OtlpSettings, String> {
    let extension = |id: &str, budget| (id.parse::<ComponentId>().unwrap(), Arc::new(Both(budget)) as _);
    let extensions = vec![extension("both", Some(Budget::new(1))), extension("neither/a", None)];
    let node = Node::parse("weir.yaml", yaml).unwrap();
    OtlpSettings::parse(&node, "receivers::otlp", &Extensions::new(extensions)).map_err(|e| e.to_string())
}

#[test]
fn a_section_without_a_value_has_the_defaults() {
    let all = settings("protocols:\n  grpc:\n  http:\n").unwrap();
    let (grpc, http) = (all.grpc.unwrap(), all.http.unwrap());
    let localhost = |port| Address::Tcp(Endpoint { host: "localhost".to_owned(), port });
    assert_eq!((&grpc.port.address, &http.port.address), (&localhost(4317), &localhost(4318)));
    assert_eq!((grpc.port.max_bytes, http.port.max_bytes), (64 << 20, 64 << 20));
    assert_eq!((http.paths.traces.as_str(), http.paths.logs.as_str()), ("/v1/traces", "/v1/logs"));
    assert!(grpc.port.tls.is_none() && http.port.tls.is_none() && http.cors.is_none());
    assert_eq!((grpc.lifetime, grpc.max_concurrent_streams), (Lifetime::default(), 1024));
    assert_eq!((http.accepted, http.timeouts), (Encodings::HTTP, HttpTimeouts::default()));
    assert!(http.keep_alives_enabled && http.response_headers.is_empty());
    for access in [grpc.port.access, http.port.access] {
        assert!(access.authenticator.is_none() && !access.include_metadata);
    }
}

#[test]
fn what_is_written_counts() {
    let yaml = "protocols:
  grpc:
    endpoint: /run/otlp.sock
    transport: unix
    max_recv_msg_size_mib: 2
    max_concurrent_streams: 7
    include_metadata: true
    keepalive:
      server_parameters:
        {max_connection_idle: 1s, max_connection_age: 2s, max_connection_age_grace: 3s, time: 4s, timeout: 5s}
    auth: {authenticator: both}
    middlewares: [{id: both}, {id: both}]
  http:
    endpoint: '[::]:1'
    traces_url_path: https://a.example:8443/t?x=1#y
    max_request_body_size: 1000
    include_metadata: true
    response_headers: {X-A: b, x-empty: }
    compression_algorithms: ['', lz4]
    auth: {authenticator: both, request_params: [token]}
    read_timeout: 1s
    write_timeout: 2s
    idle_timeout: 3s
    keep_alives_enabled: false
    cors: {allowed_origins: ['https://*.test']}
    tls: {cert_file: a.pem, key_pem: b, min_version: '1.3', curve_preferences: [P256]}
";
    let settings = settings(yaml).unwrap();
    let (grpc, http) = (settings.grpc.unwrap(), settings.http.unwrap());
    assert_eq!(grpc.port.address, Address::Unix("/run/otlp.sock".into()));
    assert_eq!((grpc.port.max_bytes, grpc.max_concurrent_streams), (2 << 20, 7));
    let seconds = Duration::from_secs;
    let lifetime = Lifetime {
        max_idle: Some(seconds(1)),
        max_age: Some(seconds(2)),
        max_age_grace: Some(seconds(3)),
        ping_after: seconds(4),
        ping_timeout: seconds(5),
    };
    assert_eq!(grpc.lifetime, lifetime);
    assert!(grpc.port.access.include_metadata && grpc.port.access.authenticator.is_some());
    assert_eq!(grpc.port.budgets.len(), 1, "a limiter that is named twice is asked once");
    assert_eq!(http.port.address, Address::Tcp("[::]:1".parse().unwrap()));
    assert_eq!((http.paths.traces.as_str(), http.port.max_bytes), ("/t", 1000));
    assert!(http.response_headers["x-a"] == "b" && http.response_headers["x-empty"].is_empty());
    assert_eq!(http.accepted.to_string(), "lz4, identity");
    assert_eq!(http.port.access.request_params, ["token"]);
    let [read, read_header] = [Some(seconds(1)); 2];
    let timeouts = HttpTimeouts { read, read_header, write: Some(seconds(2)), idle: Some(seconds(3)) };
    assert_eq!(http.timeouts, timeouts);
    assert!(!http.keep_alives_enabled && http.cors.is_some() && http.port.tls.is_some());

    let list = "protocols: {http: {response_headers: [{name: a, value: b}, {name: c}], cors: {}}}";
    let http = self::settings(list).unwrap().http.unwrap();
    assert!(http.response_headers["a"] == "b" && http.response_headers["c"].is_empty());
    assert!(http.cors.is_none());
    assert!(self::settings("protocols: {grpc: {enabled: false}, http: }").unwrap().grpc.is_none());
}

#[test]
fn what_is_wrong_is_named() {
    let none = "1:1: receivers::otlp::protocols: must specify at least one protocol when using the OTLP receiver";
    for (yaml, want) in [
        ("protocols: {}", &none.replacen("1:1", "1:12", 1)[..]),
        ("{}", none),
        (
            "protocols: {grpc: {endpoint: 4317}}",
            "1:30: receivers::otlp::protocols::grpc::endpoint: `4317` is no address to listen on: write host:port, \
             such as localhost:4317",
        ),
        (
            "protocols: {grpc: {transport: udp}}",
            "1:31: receivers::otlp::protocols::grpc::transport: unknown value `udp`: accepted values: tcp, unix",
        ),
        (
            "protocols: {grpc: {transport: unix, endpoint: '@a'}}",
            "1:47: receivers::otlp::protocols::grpc::endpoint: `@a` is no path of a socket",
        ),
        (
            "protocols: {grpc: {max_recv_msg_size_mib: 4096}}",
            "1:43: receivers::otlp::protocols::grpc::max_recv_msg_size_mib: must be less than 4 GiB",
        ),
        (
            "protocols: {http: {traces_url_path: ':invalid'}}",
            "1:37: receivers::otlp::protocols::http::traces_url_path: is no path: there is a colon before the first slash",
        ),
        (
            "protocols: {http: {logs_url_path: v1/traces}}",
            "1:35: receivers::otlp::protocols::http::logs_url_path: is also the path of another signal",
        ),
        (
            "protocols: {http: {compression_algorithms: [gzip, br]}}",
            "1:51: receivers::otlp::protocols::http::compression_algorithms[1]: is no compression that is known here",
        ),
        (
            "protocols: {http: {cors: {max_age: 5}}}",
            "1:26: receivers::otlp::protocols::http::cors::allowed_origins: is required",
        ),
        (
            "protocols: {http: {cors: {allowed_origins: ['*a*']}}}",
            "1:44: receivers::otlp::protocols::http::cors::allowed_origins: `*a*` has more than one `*`",
        ),
        (
            "protocols: {http: {response_headers: {'a b': c}}}",
            "1:46: receivers::otlp::protocols::http::response_headers::a b: `a b` is no name of a header",
        ),
        (
            "protocols: {http: {response_headers: [{name: a}, {name: A}]}}",
            "1:50: receivers::otlp::protocols::http::response_headers[1]: header `A` is given twice",
        ),
        (
            "protocols: {http: {response_headers: [{key: a}]}}",
            "1:39: receivers::otlp::protocols::http::response_headers[0]: expected a `name` and a `value`",
        ),
        (
            "protocols: {http: {response_headers: a}}",
            "1:38: receivers::otlp::protocols::http::response_headers: expected a mapping of names to values",
        ),
        ("protocols: {http: {auth: {}}}", "1:26: receivers::otlp::protocols::http::auth::authenticator: is required"),
        (
            "protocols: {http: {auth: {authenticator: other}}}",
            "1:42: receivers::otlp::protocols::http::auth::authenticator: no extension \"other\" is started",
        ),
        (
            "protocols: {grpc: {auth: {authenticator: neither/a}}}",
            "1:42: receivers::otlp::protocols::grpc::auth::authenticator: this extension does not authenticate clients",
        ),
        (
            "protocols: {grpc: {middlewares: [{id: both}, {id: neither/a}]}}",
            "1:51: receivers::otlp::protocols::grpc::middlewares[1]::id: this extension limits no memory",
        ),
        (
            "protocols: {http: {keepalive: {idle_timeout: 1s}, idle_timeout: 2s}}",
            "1:65: receivers::otlp::protocols::http::idle_timeout: cannot be set beside `keepalive`",
        ),
        (
            "protocols: {grpc: {keepalive: {enforcement_policy: {max_time: 1s}}}}",
            "1:53: receivers::otlp::protocols::grpc::keepalive::enforcement_policy: unknown key `max_time`",
        ),
    ] {
        let error = settings(yaml).unwrap_err();
        assert!(error.starts_with(&format!("weir.yaml:{want}")), "{error}");
    }
}

#[test]
fn keepalive_has_taken_the_place_of_two_keys() {
    let http = |yaml: &str| settings(&format!("protocols: {{http: {{{yaml}}}}}")).unwrap().http.unwrap();
    for (yaml, idle, is_enabled) in [
        ("", None, true),
        ("keepalive: ", None, true),
        ("keepalive: {idle_timeout: 3s}", Some(Duration::from_secs(3)), true),
        ("keepalive: {enabled: false, idle_timeout: 3s}", None, false),
        ("idle_timeout: 3s, keep_alives_enabled: false", Some(Duration::from_secs(3)), false),
    ] {
        let http = http(yaml);
        assert_eq!((http.timeouts.idle, http.keep_alives_enabled), (idle, is_enabled), "{yaml}");
    }
}

#[test]
fn secrets_are_not_quoted() {
    let error = settings("protocols: {http: {response_headers: {a: \"hunter2\\n\"}}}").unwrap_err();
    assert!(error.contains("is no value that a header can have") && !error.contains("hunter2"), "{error}");
    let shown = format!("{:?}", settings("protocols: {http: {response_headers: {a: hunter2}}}").unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    let shown = format!("{:?}", settings("protocols: {http: {tls: {cert_file: a, key_pem: hunter2}}}").unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}
