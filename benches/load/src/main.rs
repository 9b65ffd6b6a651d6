//! `weir-load`: CPU per span of a collector between a sender and a sink, beside a raw proxy.
#![expect(clippy::print_stdout, reason = "a command-line tool reports on standard output")]

mod compare;
mod count;
mod payload;
mod proc;
mod proxy;
mod report;
mod send;
mod sink;
mod stack;
mod subject;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use payload::{Encoding, Pool, Shape};
use stack::{Protocol, Tuning};
use std::{net::SocketAddr, sync::Arc};

/// glibc gives the top of the heap back after large requests and faults it in again, by turns and
/// by chance: a fifth of the CPU, and most of the noise between two runs of the same program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Accept OTLP exports over both protocols, count and discard them, report on Ctrl-C
    Sink {
        #[arg(long, default_value = "127.0.0.1:4327")]
        grpc: SocketAddr,
        #[arg(long, default_value = "127.0.0.1:4328")]
        http: SocketAddr,
        #[command(flatten)]
        tuning: Tuning,
    },
    /// Forward exports byte for byte: the floor
    Proxy {
        #[arg(long)]
        protocol: Protocol,
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        to: SocketAddr,
        /// Threads, each with a listener and a runtime of its own
        #[arg(long, default_value_t = 1)]
        threads: usize,
        #[command(flatten)]
        tuning: Tuning,
    },
    /// Send generated exports in a closed loop
    Send {
        #[arg(long)]
        protocol: Protocol,
        #[arg(long)]
        to: SocketAddr,
        #[arg(long, default_value_t = 100)]
        spans_per_request: usize,
        #[arg(long, default_value = "llm")]
        shape: Shape,
        #[arg(long, default_value_t = 4)]
        connections: usize,
        #[arg(long, default_value_t = 1_000)]
        requests: u64,
        #[arg(long, default_value = "identity")]
        encoding: Encoding,
        #[command(flatten)]
        tuning: Tuning,
    },
    /// Measure Weir beside the raw proxy and print the ratio
    Compare(compare::Args),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Sink { grpc, http, tuning } => {
            let sink = sink::Sink::start(grpc, http, tuning)?;
            println!("sink: gRPC on {}, HTTP on {}; Ctrl-C reports", sink.grpc, sink.http);
            runtime()?.block_on(tokio::signal::ctrl_c())?;
            let received = sink.counters.read();
            println!(
                "received {} requests, {} spans, {} bytes; refused {} requests",
                received.requests, received.spans, received.bytes, received.refused
            );
            Ok(())
        }
        Command::Proxy { protocol, listen, to, threads, tuning } => proxy::run(protocol, listen, to, threads, tuning),
        Command::Send { protocol, to, spans_per_request, shape, connections, requests, encoding, tuning } => {
            let distinct = payload::distinct_requests(shape, spans_per_request);
            let pool = Arc::new(Pool::generate(shape, spans_per_request, distinct, encoding)?);
            let outcome = runtime()?.block_on(async {
                send::Sender::connect(protocol, to, connections, tuning).await?.send(&pool, requests).await
            })?;
            println!(
                "{} requests, {} spans accepted in {:.2} s: {:.0} spans/s, {} bytes a request, p50 {:.2?}, p99 {:.2?}",
                outcome.requests,
                outcome.spans,
                outcome.elapsed.as_secs_f64(),
                outcome.spans_per_second(),
                pool.mean_bytes(),
                outcome.latency(0.5),
                outcome.latency(0.99),
            );
            for (error, times) in &outcome.errors {
                println!("{times} times: {error}");
            }
            anyhow::ensure!(outcome.errors.is_empty(), "some requests were not accepted");
            Ok(())
        }
        Command::Compare(args) => runtime()?.block_on(compare::run(args)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot build a runtime")
}
