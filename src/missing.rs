//! Components of the Collector that Weir does not have, and what to do without them.

use weir_pipeline::graph::Missing;

const IN_FRONT: &str = "keep a Collector with this receiver in front and let it send OTLP to Weir (exporter `otlp`)";
const SCRAPES: &str = "Weir takes what is sent to it and collects nothing: keep a Collector with this receiver and let it \
                       send OTLP to Weir, or straight to where the metrics go";
const READS_LOGS: &str =
    "Weir reads no logs from files or systems: keep a Collector with this receiver and let it send OTLP to Weir";
const BEHIND: &str = "keep a Collector with this exporter behind Weir and send OTLP to it with `otlp_grpc`";
const SPEAKS_OTLP: &str = "this backend takes OTLP: use `otlp_http`";
const KNOWS_PLACE: &str = "say where a process runs with the `resource` processor, for instance \
                           `{key: k8s.pod.name, value: \"${env:POD_NAME}\", action: upsert}`, or with \
                           OTEL_RESOURCE_ATTRIBUTES in the application";
const METRICS_ONLY: &str = "Weir passes metrics on as they are: keep a Collector with this processor for them";
const TRACES_TO_METRICS: &str = "metrics of spans are asked in SQL (`weir sql`) where there is a `parquet` exporter, or made by a Collector behind Weir";

/// All of them; looked through only when a configuration names a type that is not there.
pub(crate) const MISSING: &[Missing] = &[
    // === Receivers ===
    Missing {
        section: "receivers",
        names: &["jaeger", "zipkin", "opencensus", "skywalking", "sapm", "datadog", "awsxray", "faro", "libhoney"],
        instead: "let the applications send OTLP, which every OpenTelemetry SDK does, or keep a Collector with this \
                  receiver in front and let it send OTLP to Weir (exporter `otlp`)",
    },
    Missing {
        section: "receivers",
        names: &["otelarrow", "stef", "kafka", "pulsar", "solace", "googlecloudpubsub", "azureeventhub", "awsfirehose"],
        instead: IN_FRONT,
    },
    Missing {
        section: "receivers",
        names: &["awss3", "azureblob"],
        instead: "`otlp_json_file` reads OTLP/JSON from files: copy them here, or keep a Collector with this receiver in \
                  front",
    },
    Missing {
        section: "receivers",
        names: &["nop"],
        instead: "a pipeline without data needs no receiver: remove the pipeline",
    },
    Missing {
        section: "receivers",
        names: &[
            "filelog",
            "file_log",
            "fluentforward",
            "journald",
            "k8s_events",
            "k8sobjects",
            "k8s_objects",
            "loki",
            "namedpipe",
            "osquery",
            "splunk_hec",
            "syslog",
            "tcplog",
            "udplog",
            "webhookevent",
            "windowseventlog",
            "windows_event_log",
            "awscloudwatch",
        ],
        instead: READS_LOGS,
    },
    Missing {
        section: "receivers",
        names: &[
            "prometheus",
            "prometheus_simple",
            "prometheusremotewrite",
            "hostmetrics",
            "host_metrics",
            "kubeletstats",
            "k8s_cluster",
            "docker_stats",
            "podman_stats",
            "statsd",
            "carbon",
            "collectd",
            "influxdb",
            "signalfx",
            "wavefront",
            "httpcheck",
            "tcpcheck",
            "tlscheck",
            "sshcheck",
            "icmpcheck",
            "nginx",
            "apache",
            "haproxy",
            "redis",
            "memcached",
            "mysql",
            "postgresql",
            "mongodb",
            "mongodbatlas",
            "sqlserver",
            "oracledb",
            "sqlquery",
            "elasticsearch",
            "rabbitmq",
            "kafkametrics",
            "zookeeper",
            "jmx",
            "snmp",
            "vcenter",
            "windowsperfcounters",
            "iis",
            "awsecscontainermetrics",
            "awscontainerinsightreceiver",
            "azuremonitor",
            "googlecloudmonitoring",
            "cloudfoundry",
            "github",
            "gitlab",
            "receiver_creator",
        ],
        instead: SCRAPES,
    },
    // === Processors ===
    Missing {
        section: "processors",
        names: &["tail_sampling", "groupbytrace"],
        instead: "`probabilistic_sampler` samples whole traces by their ids; to decide by what a trace holds, keep a \
                  Collector with this processor behind Weir",
    },
    Missing {
        section: "processors",
        names: &["transform"],
        instead: "OTTL is not supported: `attributes`, `resource` and `span` change spans, `filter` drops them, and the \
                  `routing` connector sends them apart",
    },
    Missing {
        section: "processors",
        names: &["redaction"],
        instead: "`attributes` deletes or hashes attributes by name (`action: delete`, `action: hash`)",
    },
    Missing {
        section: "processors",
        names: &["k8sattributes", "k8s_attributes", "resourcedetection", "resource_detection", "geoip", "dnslookup"],
        instead: KNOWS_PLACE,
    },
    Missing {
        section: "processors",
        names: &["queuebatch"],
        instead: "use `batch`, or `sending_queue::batch` of the exporter",
    },
    Missing {
        section: "processors",
        names: &["routing"],
        instead: "it has become a connector: move it to `connectors` and end the pipeline in it",
    },
    Missing {
        section: "processors",
        names: &[
            "groupbyattrs",
            "logdedup",
            "log_dedup",
            "logstransform",
            "remotetap",
            "schema",
            "sumologic",
            "unroll",
        ],
        instead: "keep a Collector with this processor behind Weir",
    },
    Missing {
        section: "processors",
        names: &[
            "cumulativetodelta",
            "cumulative_to_delta",
            "deltatocumulative",
            "delta_to_cumulative",
            "deltatorate",
            "interval",
            "metricsgeneration",
            "metricstransform",
            "metrics_transform",
        ],
        instead: METRICS_ONLY,
    },
    // === Exporters ===
    Missing {
        section: "exporters",
        names: &["logging"],
        instead: "it is called `debug` now, and `loglevel` has become `verbosity: basic|normal|detailed`",
    },
    Missing {
        section: "exporters",
        names: &["jaeger", "jaeger_thrift"],
        instead: "Jaeger takes OTLP: use `otlp_grpc` with its port 4317",
    },
    Missing {
        section: "exporters",
        names: &["loki"],
        instead: "Loki takes OTLP: use `otlp_http` with `logs_endpoint: http://loki:3100/otlp/v1/logs`",
    },
    Missing {
        section: "exporters",
        names: &["prometheusremotewrite", "prometheus_remote_write"],
        instead: "Prometheus and Mimir take OTLP: use `otlp_http` with `metrics_endpoint`, which for Prometheus is \
                  http://prometheus:9090/api/v1/otlp/v1/metrics",
    },
    Missing {
        section: "exporters",
        names: &["prometheus"],
        instead: "Prometheus takes OTLP: use `otlp_http` with `metrics_endpoint: \
                  http://prometheus:9090/api/v1/otlp/v1/metrics`; Weir's own metrics are at :8888/metrics",
    },
    Missing {
        section: "exporters",
        names: &["loadbalancing", "load_balancing"],
        instead: "use `otlp_grpc` with a load balancer in front of the backends; spans of one trace then reach any of \
                  them",
    },
    Missing {
        section: "exporters",
        names: &["awss3", "azureblob", "googlecloudstorage"],
        instead: "`parquet` writes spans to s3://, gs:// and az:// as Delta Lake tables",
    },
    Missing {
        section: "exporters",
        names: &["datadog"],
        instead: "Datadog takes OTLP: use `otlp_http` as in configs/backends/datadog.yaml",
    },
    Missing {
        section: "exporters",
        names: &["splunk_hec", "sapm", "signalfx"],
        instead: "Splunk takes OTLP: use `otlp_http` as in configs/backends/splunk.yaml",
    },
    Missing {
        section: "exporters",
        names: &["azuremonitor", "azure_monitor"],
        instead: "send to a Collector that has it, as in configs/backends/azure_monitor.yaml",
    },
    Missing {
        section: "exporters",
        names: &["googlecloud", "googlemanagedprometheus"],
        instead: "Google Cloud takes OTLP: use `otlp_http` as in configs/backends/google_cloud.yaml",
    },
    Missing {
        section: "exporters",
        names: &["elasticsearch"],
        instead: "Elastic takes OTLP: use `otlp_http` as in configs/backends/elastic.yaml",
    },
    Missing {
        section: "exporters",
        names: &["sentry"],
        instead: "Sentry takes OTLP: use `otlp_http` as in configs/backends/sentry.yaml",
    },
    Missing {
        section: "exporters",
        names: &["bmchelix"],
        instead: "BMC Helix takes OTLP: use `otlp_http` as in configs/backends/bmc_helix.yaml",
    },
    Missing {
        section: "exporters",
        names: &["tencentcloud_logservice"],
        instead: "Tencent Cloud takes OTLP: use `otlp_http` as in configs/backends/tencent_cloud.yaml",
    },
    Missing {
        section: "exporters",
        names: &["honeycombmarker", "coralogix", "logzio", "logicmonitor", "faro", "mezmo", "opensearch", "skywalking"],
        instead: SPEAKS_OTLP,
    },
    Missing {
        section: "exporters",
        names: &[
            "alertmanager",
            "alibabacloud_logservice",
            "awscloudwatchlogs",
            "awsemf",
            "awskinesis",
            "awsxray",
            "azuredataexplorer",
            "azureeventhub",
            "carbon",
            "cassandra",
            "clickhouse",
            "dataset",
            "doris",
            "googlecloudpubsub",
            "influxdb",
            "kafka",
            "kinetica",
            "opencensus",
            "otelarrow",
            "pulsar",
            "rabbitmq",
            "sematext",
            "stef",
            "sumologic",
            "syslog",
            "tinybird",
            "zipkin",
        ],
        instead: BEHIND,
    },
    // === Connectors ===
    Missing {
        section: "connectors",
        names: &[
            "spanmetrics",
            "span_metrics",
            "servicegraph",
            "service_graph",
            "count",
            "sum",
            "signaltometrics",
            "exceptions",
            "datadog",
            "grafanacloud",
            "slowsql",
        ],
        instead: TRACES_TO_METRICS,
    },
    Missing {
        section: "connectors",
        names: &["failover", "roundrobin", "round_robin"],
        instead: "name several exporters in the pipeline, each with its own queue, or let a load balancer choose",
    },
    Missing {
        section: "connectors",
        names: &["otlpjson", "otlp_json", "metricsaslogs", "metrics_as_logs"],
        instead: "keep a Collector with this connector behind Weir",
    },
    // === Extensions ===
    Missing {
        section: "extensions",
        names: &["db_storage", "redis_storage", "leveldb_storage"],
        instead: "use `file_storage`",
    },
    Missing {
        section: "extensions",
        names: &["healthcheckv2"],
        instead: "use `health_check`, which answers 200 or 503 at one path",
    },
    Missing {
        section: "extensions",
        names: &["memory_ballast"],
        instead: "remove it: there is no garbage collector to calm; `memory_limiter` limits memory",
    },
    Missing {
        section: "extensions",
        names: &["cgroupruntime"],
        instead: "remove it: Weir uses the processors and the memory that its container has",
    },
    Missing {
        section: "extensions",
        names: &["oauth2client", "oidc", "sigv4auth", "googleclientauth", "azure_auth", "azureauth", "asapclient"],
        instead: "`bearertokenauth` with `filename` follows a file in which something else keeps a fresh token, and \
                  `basicauth` knows passwords",
    },
    Missing {
        section: "extensions",
        names: &["opamp", "remotetap"],
        instead: "remove it: `weir run --watch`, SIGHUP and `POST /-/reload` load a changed configuration",
    },
    Missing {
        section: "extensions",
        names: &[
            "k8s_observer",
            "host_observer",
            "docker_observer",
            "ecs_observer",
            "ecs_task_observer",
            "k8s_leader_elector",
        ],
        instead: "remove it: it serves receivers that collect, and Weir has none of these",
    },
    Missing {
        section: "extensions",
        names: &["jaegerremotesampling", "http_forwarder", "awsproxy", "ack", "datadog", "sumologic"],
        instead: "keep a Collector with this extension beside Weir",
    },
    Missing {
        section: "extensions",
        names: &["otlp_encoding", "json_log_encoding", "text_encoding", "zipkin_encoding", "jaeger_encoding"],
        instead: "remove it: the encodings of Weir's components are in their own settings",
    },
];
