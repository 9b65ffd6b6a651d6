//! A reader that sends Weir's own metrics at intervals.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use weir_pipeline::host::Host;
use weir_pipeline::telemetry::{Level, PushError};

use super::collect::Collected;
use super::config::Periodic;
use super::otlp;
use super::since::Since;

/// How long a stop waits for the last numbers to be taken.
const LAST: Duration = Duration::from_secs(5);

/// The task that sends; it ends with this.
#[derive(Debug)]
pub(super) struct Sending {
    address: String,
    since: Arc<tokio::sync::Mutex<Since>>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What is sent where.
struct Source {
    reader: Periodic,
    host: Host,
    level: Level,
    resource: BTreeMap<String, String>,
    /// Locked while something is sent: what goes takes its turn with what comes after a reload, and nothing is told by
    /// both.
    since: Arc<tokio::sync::Mutex<Since>>,
}

impl Sending {
    /// Starts a task of the runtime that this is called in. `former` are those that ran before, if the process does not
    /// just start: a reader goes on where the former one of its destination is, of several the `nth`.
    pub(super) fn start(
        reader: Periodic,
        host: Host,
        level: Level,
        resource: BTreeMap<String, String>,
        former: Option<&[Self]>,
        nth: usize,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let address = reader.push.address();
        let same = former.and_then(|former| former.iter().filter(|former| former.address == address).nth(nth));
        let since = same.map(|former| Arc::clone(&former.since)).unwrap_or_else(|| {
            let mut since = Since::start(host.started_unix_nanos());
            if former.is_some() {
                let now = now(&host);
                Collected::now(&host, Level::Detailed).be_known_to(&mut since, now);
            }
            Arc::new(tokio::sync::Mutex::new(since))
        });
        let source = Source { reader, host, level, resource, since: Arc::clone(&since) };
        let task = tokio::spawn(source.send_until(stopped));
        Self { address, since, stop, task: Mutex::new(Some(task)) }
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
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stopped.wait_for(|stop| *stop) => break,
            }
            // What is on its way may have been taken: it is waited for, lest it be told again.
            let ends = async {
                // An error means that nobody is left to stop it, nor to wait.
                let _ = stopped.wait_for(|stop| *stop).await;
                sleep(LAST).await;
            };
            tokio::select! {
                () = self.send(self.reader.timeout) => {}
                () = ends => break,
            }
        }
        self.send(self.reader.timeout.min(LAST)).await;
    }

    async fn send(&self, limit: Duration) {
        let push = &self.reader.push;
        let mut since = self.since.lock().await;
        let now_unix_nanos = now(&self.host);
        // Whatever is shown, all of it is known to the destination: after a reload it may be shown more.
        let collected = Collected::now(&self.host, Level::Detailed);
        let extract = otlp::Extract {
            level: self.level,
            started_unix_nanos: self.host.started_unix_nanos(),
            now_unix_nanos,
            temporality: push.temporality(),
            since: &since,
        };
        let request = otlp::request(&collected, &self.resource, extract);
        let pushed = match timeout(limit, push.push(request.into())).await {
            Ok(pushed) => pushed,
            Err(_) => Err(PushError::Refused(format!("no answer within {limit:?}"))),
        };
        // What was refused is part of the next numbers. A reader that counts from the start keeps these books too: after
        // a reload it may be another.
        if !matches!(pushed, Err(PushError::Refused(_))) {
            collected.be_known_to(&mut since, now_unix_nanos);
        }
        if let Err(error) = pushed {
            tracing::warn!("Weir's own metrics were not taken by {}: {error}", push.address());
        }
    }
}

fn now(host: &Host) -> u64 {
    host.started_unix_nanos().saturating_add(host.uptime_nanos())
}
