//! The whole measurement: sink, sender and the processes under test, in turns.

use crate::{
    payload::{Encoding, Pool, Shape, distinct_requests},
    proc::{self, Usage},
    report::{Series, Summary, mebibytes, paired, table, verdict},
    send::{Outcome, Sender},
    sink::Sink,
    stack::{Protocol, Tuning},
    subject::{Pipeline, Subject, Weir},
};
use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Requests in flight towards the Parquet exporter: it acknowledges after a commit, so a few would
/// measure commits and not spans.
const PARQUET_CONNECTIONS: usize = 64;

/// Requests in flight through the `batch` processor, which joins two megabytes before it sends them.
const CHAIN_CONNECTIONS: usize = 32;

/// Turns each contender gets within a round. Short ones, so that whatever else the machine does
/// meets all contenders alike.
const SLICES: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocols {
    Grpc,
    Http,
    All,
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// OTLP to OTLP, no processors, beside the proxy
    Forward,
    /// OTLP to OTLP through the cost processor, beside the proxy
    Cost,
    /// OTLP to OTLP through attributes, cost and batch, beside the proxy
    Chain,
    /// Gzip in and gzip out beside plain, all through the cost processor
    Gzip,
    /// OTLP/gRPC into Parquet files
    Parquet,
    /// Time until it listens, and memory when idle
    Start,
    /// All of these
    All,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The Weir binary
    #[arg(long, required_unless_present = "floor_only")]
    weir: Option<PathBuf>,
    /// Measure two proxies against each other instead: the ratio shows the noise
    #[arg(long, conflicts_with = "weir")]
    floor_only: bool,
    #[arg(long, default_value = "all")]
    protocol: Protocols,
    #[arg(long, value_delimiter = ',', default_value = "cost")]
    scenario: Vec<Scenario>,
    #[arg(long, default_value = "llm")]
    shape: Shape,
    #[arg(long, value_delimiter = ',', default_value = "100")]
    spans_per_request: Vec<usize>,
    /// Threads of the process under test
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Connections of the sender, with one request in flight on each
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Length of one measurement of one process; the number of requests follows from it
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Leave Weir's sending queue at its default instead of switching it off
    #[arg(long)]
    queue: bool,
    /// Largest HTTP/2 DATA frame that the sender makes and the sink accepts; 16384 is what gRPC in
    /// Go, and most peers left at their defaults, do
    #[arg(long, default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(16_384..=16_777_215))]
    peer_frame_size: u32,
    #[command(flatten)]
    tuning: Tuning,
}

/// Measures what was asked for and prints it. Missing a target is no error.
pub(crate) async fn run(args: Args) -> Result<()> {
    if !proc::supported() {
        println!("CPU accounting needs /proc, which this system does not have: nothing measured");
        return Ok(());
    }
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let peer = Tuning { frame_size: args.peer_frame_size, ..Tuning::default() };
    let bench = Bench { sink: Sink::start(anywhere, anywhere, peer)?, peer, args };
    println!("machine: {}", proc::machine());
    if let Some(weir) = bench.weir() {
        println!("weir: {}", version(&weir.binary));
    }
    println!(
        "{} rounds of {} s, {} thread(s) under test, {} connections, peers' HTTP/2 frames up to {} bytes",
        bench.args.rounds, bench.args.seconds, bench.args.threads, bench.args.connections, bench.args.peer_frame_size
    );

    let protocols: &[Protocol] = match bench.args.protocol {
        Protocols::Grpc => &[Protocol::Grpc],
        Protocols::Http => &[Protocol::Http],
        Protocols::All => &[Protocol::Grpc, Protocol::Http],
    };
    let Some(weir) = bench.weir() else {
        return bench.each(protocols, async |protocol, spans| bench.floor(protocol, spans).await).await;
    };
    let wanted = |scenario| bench.args.scenario.contains(&scenario) || bench.args.scenario.contains(&Scenario::All);
    for (scenario, pipeline) in
        [(Scenario::Forward, Pipeline::Forward), (Scenario::Cost, Pipeline::Cost), (Scenario::Chain, Pipeline::Chain)]
    {
        if wanted(scenario) {
            bench.each(protocols, async |protocol, spans| bench.ratio(&weir, pipeline, protocol, spans).await).await?;
        }
    }
    if wanted(Scenario::Gzip) {
        bench.each(protocols, async |protocol, spans| bench.gzip(&weir, protocol, spans).await).await?;
    }
    if wanted(Scenario::Parquet) {
        bench.each(&[Protocol::Grpc], async |_, spans| bench.parquet(&weir, spans).await).await?;
    }
    if wanted(Scenario::Start) {
        bench.start(&weir).await?;
    }
    Ok(())
}

struct Bench {
    sink: Sink,
    peer: Tuning,
    args: Args,
}

/// What is measured, and what it is sent.
struct Contender {
    name: &'static str,
    program: Program,
    protocol: Protocol,
    pool: Arc<Pool>,
    connections: usize,
}

#[derive(Clone, Debug)]
enum Program {
    Proxy,
    Weir(Weir, Pipeline),
}

/// A contender's process of one round.
struct Running<'a> {
    contender: &'a Contender,
    subject: Subject,
    sender: Sender,
}

/// What one contender's rounds gave.
#[derive(Default)]
struct Measured {
    series: Series,
    /// Spans sent in all, warm-up included.
    spans: u64,
    /// Bytes of Parquet left behind in all.
    on_disk: u64,
    round: Round,
}

/// Sums over the slices of one round.
#[derive(Default)]
struct Round {
    cpu: Duration,
    faults: u64,
    requests: u64,
    spans: u64,
}

impl Measured {
    fn close_round(&mut self, last: &Usage) {
        let round = std::mem::take(&mut self.round);
        self.series.cpu.push(round.cpu.as_secs_f64() * 1e6 / round.spans as f64);
        self.series.faults.push(round.faults as f64 / round.requests as f64);
        self.series.peak_rss = self.series.peak_rss.max(last.peak_rss);
    }
}

impl Bench {
    fn weir(&self) -> Option<Weir> {
        let binary = self.args.weir.clone()?;
        Some(Weir { binary, threads: self.args.threads, queue: self.args.queue })
    }

    async fn each(&self, protocols: &[Protocol], measure: impl AsyncFn(Protocol, usize) -> Result<()>) -> Result<()> {
        for protocol in protocols {
            for spans in &self.args.spans_per_request {
                measure(*protocol, *spans).await?;
            }
        }
        Ok(())
    }

    fn pool(&self, spans: usize, encoding: Encoding) -> Result<Pool> {
        let shape = self.args.shape;
        Pool::generate(shape, spans, distinct_requests(shape, spans), encoding)
    }

    fn contender(&self, name: &'static str, program: Program, protocol: Protocol, pool: &Arc<Pool>) -> Contender {
        Contender { name, program, protocol, pool: Arc::clone(pool), connections: self.args.connections }
    }

    async fn floor(&self, protocol: Protocol, spans: usize) -> Result<()> {
        let pool = Arc::new(self.pool(spans, Encoding::Identity)?);
        let contenders = ["proxy", "proxy again"].map(|name| self.contender(name, Program::Proxy, protocol, &pool));
        let [a, b] = self.alternate(&contenders).await?.map(|measured| measured.series);
        self.title(&format!("{0} → {0}, the floor against itself", protocol.name()), &pool);
        let ratio = paired(&b.cpu, &a.cpu, |b, a| b / a);
        println!("{}\n  ratio {ratio:.3}", table(&[a, b]));
        Ok(())
    }

    async fn ratio(&self, weir: &Weir, pipeline: Pipeline, protocol: Protocol, spans: usize) -> Result<()> {
        let pool = Arc::new(self.pool(spans, Encoding::Identity)?);
        let mut contenders = [
            self.contender("proxy (floor)", Program::Proxy, protocol, &pool),
            self.contender("weir", Program::Weir(weir.clone(), pipeline), protocol, &pool),
        ];
        if pipeline == Pipeline::Chain {
            contenders.iter_mut().for_each(|contender| contender.connections = CHAIN_CONNECTIONS);
        }
        let [floor, weir] = self.alternate(&contenders).await?.map(|measured| measured.series);
        let through = match pipeline {
            Pipeline::Cost | Pipeline::CostToGzip => " → cost",
            Pipeline::Chain => " → attributes → cost → batch",
            Pipeline::Forward | Pipeline::Parquet => "",
        };
        self.title(&format!("{0}{through} → {0}", protocol.name()), &pool);
        let ratio = paired(&weir.cpu, &floor.cpu, |weir, floor| weir / floor);
        // Targets are set for the standard load only.
        let standard = self.args.shape == Shape::Llm && spans == 100 && self.args.threads == 1;
        let target = match (pipeline, protocol) {
            (Pipeline::Cost, Protocol::Grpc) if standard => Some(1.35),
            (Pipeline::Cost, Protocol::Http) if standard => Some(1.7),
            (Pipeline::Chain, Protocol::Grpc) if standard => Some(1.4),
            _ => None,
        };
        let more = paired(&weir.cpu, &floor.cpu, |weir, floor| weir - floor);
        println!(
            "{}\n  ratio {ratio:.3}, {more:.3} µs above the floor{}",
            table(&[floor, weir]),
            verdict(ratio.median, target, "")
        );
        Ok(())
    }

    async fn gzip(&self, weir: &Weir, protocol: Protocol, spans: usize) -> Result<()> {
        let plain = Arc::new(self.pool(spans, Encoding::Identity)?.repeating());
        let small = Arc::new(self.pool(spans, Encoding::Gzip)?);
        let program = |pipeline| Program::Weir(weir.clone(), pipeline);
        let contenders = [
            self.contender("weir, plain", program(Pipeline::Cost), protocol, &plain),
            self.contender("weir, gzip in", program(Pipeline::Cost), protocol, &small),
            self.contender("weir, gzip out", program(Pipeline::CostToGzip), protocol, &plain),
        ];
        let [without, input, output] = self.alternate(&contenders).await?.map(|measured| measured.series);
        self.title(&format!("{0} → cost → {0} with gzip", protocol.name()), &small);
        let more = |with: &Series| paired(&with.cpu, &without.cpu, |with, without| with - without);
        let (more_in, more_out) = (more(&input), more(&output));
        let target = (self.args.shape == Shape::Llm && spans == 100).then_some(1.2);
        println!(
            "{}\n  gzip in costs {more_in:.3} µs more a span{}\n  gzip out costs {more_out:.3} µs more a span",
            table(&[without, input, output]),
            verdict(more_in.median, target, " µs")
        );
        Ok(())
    }

    async fn parquet(&self, weir: &Weir, spans: usize) -> Result<()> {
        let pool = Arc::new(self.pool(spans, Encoding::Identity)?);
        let contender = Contender {
            connections: PARQUET_CONNECTIONS,
            ..self.contender("weir", Program::Weir(weir.clone(), Pipeline::Parquet), Protocol::Grpc, &pool)
        };
        let [measured] = self.alternate(&[contender]).await?;
        self.title("gRPC → Parquet", &pool);
        println!(
            "{}\n  {:.1} bytes a span on disk",
            table(&[measured.series]),
            measured.on_disk as f64 / measured.spans as f64
        );
        Ok(())
    }

    async fn start(&self, weir: &Weir) -> Result<()> {
        let mut times = Vec::new();
        let mut resident = Vec::new();
        for _ in 0..10 {
            let subject = Subject::weir(weir, Pipeline::Cost, Protocol::Grpc, self.sink.grpc).await?;
            times.push(subject.start_time.as_secs_f64() * 1e3);
            sleep(Duration::from_secs(1)).await;
            resident.push(mebibytes(subject.usage()?.rss));
        }
        let (time, rss) = (Summary::of(&times), Summary::of(&resident));
        println!("\nstart and rest, 10 times");
        println!("  listening after {time:.1} ms{}", verdict(time.median, Some(50.0), " ms"));
        println!("  idle RSS after 1 s {rss:.1} MiB{}", verdict(rss.median, Some(25.0), " MiB"));
        Ok(())
    }

    fn title(&self, path: &str, pool: &Pool) {
        println!(
            "\n{path}, {} spans, {} a request, {} bytes a request",
            self.args.shape.name(),
            pool.spans_per_request,
            pool.mean_bytes()
        );
    }

    /// Runs equal numbers of requests through each contender in turn, round by round.
    ///
    /// Every round has new processes: where the allocator and the kernel happen to place things
    /// moves the CPU of a process by several per cent for all its life.
    async fn alternate<const N: usize>(&self, contenders: &[Contender; N]) -> Result<[Measured; N]> {
        let mut measured: [Measured; N] = std::array::from_fn(|_| Measured::default());
        let mut requests = None;
        for _ in 0..self.args.rounds.max(1) {
            let mut lanes = Vec::with_capacity(N);
            let mut slowest = f64::INFINITY;
            for (contender, measured) in contenders.iter().zip(&mut measured) {
                let mut running = self.start_contender(contender).await?;
                slowest = slowest.min(self.warm_up(&mut running, measured).await?);
                lanes.push((running, measured));
            }
            let requests = *requests.get_or_insert(((slowest * self.args.seconds) as u64 / SLICES).max(1));
            for slice in 0..SLICES {
                // Who goes first changes, so that neither always has the warmer machine.
                if slice % 2 == 1 {
                    lanes.reverse();
                }
                for (running, measured) in &mut lanes {
                    self.measure(running, requests, measured).await?;
                }
                if slice % 2 == 1 {
                    lanes.reverse();
                }
            }
            for (running, measured) in lanes {
                measured.close_round(&running.subject.usage()?);
                measured.on_disk += running.subject.finish().await?;
            }
        }
        Ok(measured)
    }

    async fn start_contender<'a>(&self, contender: &'a Contender) -> Result<Running<'a>> {
        let (protocol, to) = (contender.protocol, self.sink.address(contender.protocol));
        let subject = match &contender.program {
            Program::Proxy => Subject::proxy(protocol, to, self.args.threads, self.args.tuning).await?,
            Program::Weir(weir, pipeline) => Subject::weir(weir, *pipeline, protocol, to).await?,
        };
        let sender = Sender::connect(protocol, subject.at, contender.connections, self.peer).await?;
        Ok(Running { contender, subject, sender })
    }

    /// Sends for a second or more; returns requests per second of the longest run, whose end weighs least: what waits to
    /// be joined with more waits in vain there.
    async fn warm_up(&self, running: &mut Running<'_>, measured: &mut Measured) -> Result<f64> {
        let started = Instant::now();
        let mut requests = 64;
        loop {
            let outcome = self.send(running, requests).await?;
            measured.spans += outcome.spans;
            if started.elapsed() >= Duration::from_secs(1) {
                return Ok(outcome.requests as f64 / outcome.elapsed.as_secs_f64());
            }
            requests *= 2;
        }
    }

    async fn measure(&self, running: &mut Running<'_>, requests: u64, measured: &mut Measured) -> Result<()> {
        let before = running.subject.settled().await?;
        let outcome = self.send(running, requests).await?;
        let after = running.subject.settled().await?;
        measured.spans += outcome.spans;
        measured.round.cpu += after.cpu - before.cpu;
        measured.round.faults += after.minor_faults - before.minor_faults;
        measured.round.requests += outcome.requests;
        measured.round.spans += outcome.spans;
        measured.series.name = running.contender.name;
        measured.series.rate.push(outcome.spans_per_second());
        measured.series.p99.push(outcome.latency(0.99).as_secs_f64() * 1e3);
        Ok(())
    }

    /// Sends and makes sure that everything was accepted and, where it should, arrived.
    async fn send(&self, running: &mut Running<'_>, requests: u64) -> Result<Outcome> {
        let before = self.sink.counters.read().spans;
        let Contender { name, program, pool, .. } = running.contender;
        let sent = running.sender.send(pool, requests).await;
        let outcome = sent.with_context(|| format!("cannot send to {name}:\n{}", running.subject.log()))?;
        ensure!(
            outcome.errors.is_empty(),
            "{name} did not accept everything: {}\n{}",
            listed(&outcome.errors),
            running.subject.log()
        );
        if !matches!(program, Program::Weir(_, Pipeline::Parquet)) {
            let started = Instant::now();
            let mut arrived = self.sink.counters.read().spans - before;
            // Only a sending queue makes this wait.
            while arrived < outcome.spans && started.elapsed() < Duration::from_secs(10) {
                sleep(Duration::from_millis(5)).await;
                arrived = self.sink.counters.read().spans - before;
            }
            ensure!(arrived == outcome.spans, "{name} accepted {} spans, {arrived} arrived", outcome.spans);
        }
        Ok(outcome)
    }
}

fn listed(errors: &BTreeMap<String, u64>) -> String {
    errors.iter().map(|(error, times)| format!("{times} times {error}")).collect::<Vec<_>>().join("; ")
}

/// What the binary says of itself; a binary that says nothing can still be measured.
fn version(binary: &PathBuf) -> String {
    let said = Command::new(binary).arg("--version").output().ok().filter(|output| output.status.success());
    let text = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!("{} ({})", binary.display(), text.unwrap_or_else(|| "version unknown".into()))
}
