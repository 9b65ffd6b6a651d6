//! A reader that sends Weir's own metrics at intervals.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use weir_pipeline::host::Host;
use weir_pipeline::telemetry::Level;

use super::collect::Collected;
use super::config::Periodic;
use super::otlp;

/// How long a stop waits for the last numbers to be taken.
const LAST: Duration = Duration::from_secs(5);

/// The task that sends; it ends with this.
#[derive(Debug)]
pub(super) struct Sending {
    address: String,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What is sent where.
struct Source {
    reader: Periodic,
    host: Host,
    level: Level,
    resource: BTreeMap<String, String>,
}

impl Sending {
    /// Starts a task of the runtime that this is called in.
    pub(super) fn start(reader: Periodic, host: Host, level: Level, resource: BTreeMap<String, String>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let address = reader.push.address();
        let source = Source { reader, host, level, resource };
        let task = tokio::spawn(source.send_until(stopped));
        Self { address, stop, task: Mutex::new(Some(task)) }
    }

    /// Where to.
    pub(super) fn address(&self) -> String {
        self.address.clone()
    }

    /// Sends the last numbers and stops.
    pub(super) async fn stop(&self) {
        // Without a task there is nobody to hear it.
        let _ = self.stop.send(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // It sends and does nothing else: it cannot panic, and it is bounded.
            let _ = task.await;
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Source {
    async fn send_until(self, mut stopped: watch::Receiver<bool>) {
        let mut ticks = interval_at(Instant::now() + self.reader.interval, self.reader.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = async {
                ticks.tick().await;
                self.send(self.reader.timeout).await;
            };
            tokio::select! {
                () = next => {}
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        self.send(self.reader.timeout.min(LAST)).await;
    }

    async fn send(&self, limit: Duration) {
        let now = self.host.started_unix_nanos().saturating_add(self.host.uptime_nanos());
        let collected = Collected::now(&self.host, self.level);
        let request = otlp::request(&collected, &self.resource, self.host.started_unix_nanos(), now);
        let push = &self.reader.push;
        let error = match timeout(limit, push.push(request.into())).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {limit:?}"),
        };
        // What was not taken is part of the next numbers.
        tracing::warn!("Weir's own metrics were not taken by {}: {error}", push.address());
    }
}
