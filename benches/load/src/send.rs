//! A closed-loop sender: each connection sends its next request when the last is answered.

use crate::{
    payload::{Encoding, Pool},
    stack::{Connection, Protocol, Tuning, check_answer, export_request},
};
use anyhow::Result;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Connections that stay open between runs.
#[derive(Debug)]
pub(crate) struct Sender {
    protocol: Protocol,
    to: SocketAddr,
    tuning: Tuning,
    connections: Vec<Connection>,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Requests sent, answered well or not.
    pub(crate) requests: u64,
    /// Spans in requests that were accepted.
    pub(crate) spans: u64,
    /// Answers other than OK, by their text.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) elapsed: Duration,
    latencies: Vec<Duration>,
}

impl Outcome {
    /// Accepted spans per second.
    pub(crate) fn spans_per_second(&self) -> f64 {
        self.spans as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that `share` of the requests did not exceed; zero if none was sent.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        let rank = (share * self.latencies.len() as f64).ceil() as usize;
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl Sender {
    pub(crate) async fn connect(
        protocol: Protocol,
        to: SocketAddr,
        connections: usize,
        tuning: Tuning,
    ) -> Result<Self> {
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections.max(1) {
            open.push(Connection::open(protocol, to, tuning).await?);
        }
        Ok(Self { protocol, to, tuning, connections: open })
    }

    /// Sends `requests` requests of `pool` in rotation and waits for all answers.
    ///
    /// An answer other than OK is counted. A connection that cannot be opened again is an error.
    pub(crate) async fn send(&mut self, pool: &Arc<Pool>, requests: u64) -> Result<Outcome> {
        let turns = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for connection in self.connections.drain(..) {
            let worker = Worker { protocol: self.protocol, to: self.to, tuning: self.tuning, connection };
            tasks.spawn(worker.run(Arc::clone(pool), Arc::clone(&turns), requests));
        }
        let mut outcome =
            Outcome { requests: 0, spans: 0, errors: BTreeMap::new(), elapsed: Duration::ZERO, latencies: Vec::new() };
        while let Some(finished) = tasks.join_next().await {
            let (connection, part) = finished??;
            self.connections.push(connection);
            for (error, times) in part.errors {
                *outcome.errors.entry(error).or_default() += times;
            }
            outcome.latencies.extend(part.latencies);
        }
        outcome.elapsed = started.elapsed();
        outcome.requests = outcome.latencies.len() as u64;
        outcome.spans = (outcome.requests - outcome.errors.values().sum::<u64>()) * pool.spans_per_request as u64;
        outcome.latencies.sort_unstable();
        Ok(outcome)
    }
}

#[derive(Debug)]
struct Worker {
    protocol: Protocol,
    to: SocketAddr,
    tuning: Tuning,
    connection: Connection,
}

#[derive(Debug, Default)]
struct Part {
    errors: BTreeMap<String, u64>,
    latencies: Vec<Duration>,
}

impl Worker {
    async fn run(mut self, pool: Arc<Pool>, turns: Arc<AtomicU64>, requests: u64) -> Result<(Connection, Part)> {
        let mut part = Part::default();
        loop {
            let turn = turns.fetch_add(1, Relaxed);
            if turn >= requests {
                return Ok((self.connection, part));
            }
            let started = Instant::now();
            if let Err(error) = self.export(&pool, turn).await {
                *part.errors.entry(format!("{error:#}")).or_default() += 1;
                if self.connection.is_closed() {
                    self.connection = Connection::open(self.protocol, self.to, self.tuning).await?;
                }
            }
            part.latencies.push(started.elapsed());
        }
    }

    async fn export(&mut self, pool: &Pool, turn: u64) -> Result<()> {
        let body = pool.fresh(turn, self.protocol == Protocol::Grpc);
        let gzip = pool.encoding == Encoding::Gzip;
        let request = export_request(self.protocol, self.to, body, gzip, self.tuning.frame_size)?;
        let response = self.connection.send(request).await?;
        check_answer(self.protocol, response).await
    }
}
