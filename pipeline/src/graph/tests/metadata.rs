//! What is warned of where somebody reads what nobody keeps.

use super::*;
use crate::metadata::Reads;

/// Keeps metadata, unless its name says that it does not.
struct Clients(bool);

#[async_trait]
impl Receiver for Clients {
    fn bind(&self, _: usize) -> Result<(), StartError> {
        Ok(())
    }

    fn keeps_metadata(&self) -> bool {
        self.0
    }

    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        Vec::new()
    }

    async fn run(self: Arc<Self>, _: usize, _: Outlets, mut shutdown: Shutdown) {
        shutdown.requested().await;
    }
}

/// Joins batches, and keeps the headers of which its name consists; `reads` joins nothing and reads metadata.
struct Joins(Vec<String>, bool);

impl ProcessorFactory for Joins {
    fn create(&self, _: usize) -> Box<dyn Processor> {
        Box::new(Hold(Vec::new()))
    }

    fn reads_metadata(&self) -> bool {
        self.1
    }

    fn keeps_metadata(&self) -> Keeps<'_> {
        match &self.0[..] {
            _ if self.1 => Keeps::Everything,
            [] => Keeps::Nothing,
            names => Keeps::Headers(names),
        }
    }
}

/// Reads the header or, if it is `username`, the attribute that its name names.
struct Reader(Reads);

#[async_trait]
impl ExporterFactory for Reader {
    fn create(&self, _: usize, _: Signal, _: Shutdown) -> Arc<dyn Exporter> {
        Arc::new(Sink { seen: Telemetry::default().counter("seen", &[]), outcome: Outcome::Done, meeting: None })
    }

    fn reads_metadata(&self) -> Reads {
        self.0.clone()
    }

    fn promise(&self) -> String {
        "nothing".to_owned()
    }
}

fn missing(pipelines: &str) -> Vec<String> {
    fn name(section: &Section<'_>) -> String {
        section.context.id.split_once('/').map_or_else(String::new, |(_, name)| name.to_owned())
    }
    fn receiver(section: &Section<'_>) -> Result<Arc<dyn Receiver>, ConfigError> {
        Ok(Arc::new(Clients(name(section) != "unheard")))
    }
    fn processor(section: &Section<'_>) -> Result<Arc<dyn ProcessorFactory>, ConfigError> {
        let names = name(section).split('_').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(Arc::new(Joins(names, name(section) == "reads")))
    }
    fn exporter(section: &Section<'_>) -> Result<Arc<dyn ExporterFactory>, ConfigError> {
        Ok(Arc::new(Reader(match name(section).as_str() {
            "nothing" => Reads::default(),
            "unknown" => Reads::unknown(),
            "username" => Reads { attributes: vec!["username".to_owned()], ..Reads::default() },
            header => Reads { headers: vec![header.to_owned()], ..Reads::default() },
        })))
    }
    let yaml = format!(
        "
receivers: {{feed: , feed/unheard: }}
processors: {{hold: , hold/a: , hold/a_b: , hold/reads: }}
exporters: {{sink/a: , sink/b: , sink/username: , sink/nothing: , sink/unknown: }}
connectors: {{forward: }}
service: {{pipelines: {pipelines}}}
"
    );
    let mut components = components();
    components.receivers[0].build = receiver;
    components.processors[0].build = processor;
    components.exporters[0].build = exporter;
    let document = Document::parse([("weir.yaml", yaml.as_str())], &|_| None).unwrap();
    let graph = Graph::build(&document, &components, &Telemetry::default(), &Environment::with(|| 0, 1)).unwrap();
    graph.missing_metadata().iter().map(ToString::to_string).collect()
}

/// One pipeline, `[processors], exporters: [exporters]`.
fn missing_in(receiver: &str, rest: &str) -> Vec<String> {
    missing(&format!("{{traces: {{receivers: [{receiver}], processors: {rest}}}}}"))
}

#[test]
fn what_is_kept_is_no_reason_to_warn() {
    for rest in [
        "[], exporters: [sink/a, sink/username]",
        "[hold/reads, hold/a], exporters: [sink/a, sink/username]",
        "[hold/a_b, hold/a], exporters: [sink/a, sink/username]",
        "[hold], exporters: [sink/nothing, sink/unknown]",
    ] {
        assert_eq!(missing_in("feed", rest), [""; 0], "{rest}");
    }
}

#[test]
fn who_reads_behind_a_processor_that_joins_everything_is_named() {
    let joined = "what clients said, and the processor `hold` joins what several of them sent and keeps nothing of it: \
                  give that `metadata_keys`";
    let found = missing_in("feed", "[hold, hold/reads, hold/a], exporters: [sink/a, sink/username]");
    let expected = ["processor `hold/reads`", "exporter `sink/a`", "exporter `sink/username`"];
    assert_eq!(found, expected.map(|who| format!("service::pipelines::traces: {who} reads {joined}")));
    let found = missing_in("feed", "[hold/a_b, hold/a], exporters: [sink/b, sink/username]");
    let other = "service::pipelines::traces: exporter `sink/b` reads the header \"b\" of clients, which the processor \
                 `hold/a` does not keep: name it in its `metadata_keys`";
    assert_eq!(found, [other]);
}

#[test]
fn who_reads_what_no_receiver_keeps_is_named() {
    let found = missing_in("feed/unheard", "[hold, hold/reads], exporters: [sink/a, sink/username, sink/nothing]");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("`hold/reads` reads what clients said, and no receiver of"), "{found:?}");
    assert!(found[1].ends_with("keeps that: set `include_metadata: true` there"), "{found:?}");
    assert!(found[2].ends_with("and no receiver of the pipeline finds that out: set `auth` there"), "{found:?}");
}

#[test]
fn metadata_go_through_connectors_and_one_source_that_has_them_is_enough() {
    let through = |more: &str| {
        missing(&format!(
            "{{traces/in: {{receivers: [feed], processors: [hold], exporters: [forward]}}, {more}
              traces/out: {{receivers: [forward], exporters: [sink/a]}}}}"
        ))
    };
    let found = through("");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("service::pipelines::traces/out: exporter `sink/a` reads what"), "{found:?}");
    assert_eq!(through("traces/more: {receivers: [feed], processors: [hold/a], exporters: [forward]},"), [""; 0]);
}
