//! Looking after a store from time to time.

use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::{Maintenance, Report};
use crate::objects::one_line;

/// The first pass begins at the latest so long after the start.
const FIRST: Duration = Duration::from_secs(60);

/// A thread that runs [`Maintenance::run`] every so often, with a random part, so that replicas spread out.
#[derive(Debug)]
pub struct Background {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts the thread. Passes are between half an interval and a whole one apart.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(maintenance: Maintenance, interval: Duration) -> std::io::Result<Self> {
        let (stop, stopping) = watch::channel(false);
        // A runtime of its own: reading a table's log takes a processor for a while, and lanes must not wait for it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("weir-maintain".to_owned());
        let thread = thread.spawn(move || runtime.block_on(run(&maintenance, interval, stopping)))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops. A pass that is under way is given up at its next step, and whoever runs the next one goes on.
    pub fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It has said so itself if it panicked.
            let _ = thread.join();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn run(maintenance: &Maintenance, interval: Duration, mut stopping: watch::Receiver<bool>) {
    let mut pause = interval.min(FIRST);
    loop {
        let pass = async {
            tokio::time::sleep(pause.mul_f64(0.5 + maintenance.clock.random_unit() / 2.0)).await;
            maintenance.run(false).await
        };
        tokio::select! {
            biased;
            // An error means that nobody is left to say so.
            _ = stopping.wait_for(|stop| *stop) => return,
            done = pass => match done {
                Ok(report) => tell(&report),
                Err(error) => tracing::warn!(error = one_line(&error), "the store could not be looked after"),
            },
        }
        pause = interval;
    }
}

fn tell(report: &Report) {
    for finished in &report.finished {
        tracing::info!(kind = finished.kind, name = finished.name, "a deletion is complete");
    }
    for (folder, removed) in &report.swept {
        tracing::info!(folder, what = removed.freed.to_string(), "late files of a deleted project were deleted");
    }
    for (project, stored) in &report.expired {
        for (environment, amount) in &stored.0 {
            let what = amount.to_string();
            tracing::info!(project, environment, what, "spans past their retention were removed");
        }
    }
    for (project, freed) in &report.vacuumed {
        tracing::info!(project, what = freed.to_string(), "files that no query needs were deleted");
    }
    for problem in &report.problems {
        tracing::warn!(problem, "not everything in the store could be looked after");
    }
}
