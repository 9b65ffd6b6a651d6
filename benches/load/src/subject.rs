//! Processes under test: the raw proxy and Weir with a generated configuration.

use crate::{
    proc::{Usage, usage},
    stack::{Protocol, Tuning},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};

/// Time within which a process must listen, and must end when told to.
const PATIENCE: Duration = Duration::from_secs(30);

/// What stands between receiver and exporter, and which exporter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pipeline {
    /// OTLP on to the same protocol, no processors.
    Forward,
    /// OTLP through the cost processor on to the same protocol.
    Cost,
    /// The same, compressed on the way out.
    CostToGzip,
    /// OTLP through `attributes`, `cost` and `batch` on to the same protocol.
    Chain,
    /// OTLP into Parquet files in the process's temporary directory.
    Parquet,
}

/// How Weir is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Weir {
    pub(crate) binary: PathBuf,
    pub(crate) threads: usize,
    /// Leave the exporter's sending queue as it is by default, instead of switching it off.
    pub(crate) queue: bool,
}

/// A running child process; it is killed when dropped.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Where it listens.
    pub(crate) at: SocketAddr,
    /// From the moment before it was started until a connection was accepted.
    pub(crate) start_time: Duration,
    child: Child,
    directory: TempDir,
}

impl Subject {
    /// Starts the raw proxy of this same binary.
    pub(crate) async fn proxy(protocol: Protocol, to: SocketAddr, threads: usize, tuning: Tuning) -> Result<Self> {
        let at = free_port()?;
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        let word = match protocol {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http",
        };
        command
            .args(["proxy", "--protocol", word, "--listen", &at.to_string(), "--to", &to.to_string()])
            .args(["--threads", &threads.to_string()])
            .args(["--frame-size", &tuning.frame_size.to_string(), "--window", &tuning.window.to_string()])
            .args(["--http1-buffer", &tuning.http1_buffer.to_string()]);
        Self::start(command, at, tempfile::tempdir()?).await
    }

    /// Starts Weir with a configuration written for the occasion.
    pub(crate) async fn weir(weir: &Weir, pipeline: Pipeline, protocol: Protocol, to: SocketAddr) -> Result<Self> {
        let at = free_port()?;
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("weir.yaml");
        fs::write(&config, configuration(pipeline, protocol, at, to, weir.queue, directory.path()))?;
        let mut command = Command::new(&weir.binary);
        command.arg("run").arg("--config").arg(&config).args(["--threads", &weir.threads.to_string()]);
        Self::start(command, at, directory).await
    }

    async fn start(mut command: Command, at: SocketAddr, directory: TempDir) -> Result<Self> {
        let log = File::create(directory.path().join("log"))?;
        let program = command.get_program().to_owned();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut subject = Self { at, start_time: Duration::ZERO, child, directory };
        while TcpStream::connect(at).await.is_err() {
            if let Some(status) = subject.child.try_wait()? {
                bail!("{} ended with {status} before it listened:\n{}", program.display(), subject.log());
            }
            ensure!(started.elapsed() < PATIENCE, "{} does not listen on {at}:\n{}", program.display(), subject.log());
            sleep(Duration::from_millis(1)).await;
        }
        subject.start_time = started.elapsed();
        Ok(subject)
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        usage(self.child.id()).with_context(|| format!("the process has gone:\n{}", self.log()))
    }

    /// Waits until the process has nothing left to do, and returns its accounts then.
    pub(crate) async fn settled(&self) -> Result<Usage> {
        let mut last = self.usage()?;
        // What is not finished after ten seconds is not work left over but a process that never rests.
        for _ in 0..500 {
            sleep(Duration::from_millis(20)).await;
            let now = self.usage()?;
            if now.cpu - last.cpu < Duration::from_micros(200) {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }

    /// The end of what it wrote to its standard streams.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    /// Ends the process the polite way and returns how many bytes of Parquet it has left behind.
    pub(crate) async fn finish(mut self) -> Result<u64> {
        terminate(&mut self.child)?;
        let started = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(started.elapsed() < PATIENCE, "the process does not end when told to:\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
        bytes_of(self.directory.path(), "parquet")
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The configuration of Weir: one receiver, at most one processor, one exporter.
fn configuration(
    pipeline: Pipeline,
    protocol: Protocol,
    at: SocketAddr,
    to: SocketAddr,
    queue: bool,
    directory: &Path,
) -> String {
    let receiver = match protocol {
        Protocol::Grpc => "grpc",
        Protocol::Http => "http",
    };
    let queue = if queue { "" } else { ", sending_queue: {enabled: false}" };
    let compression = if pipeline == Pipeline::CostToGzip { "gzip" } else { "none" };
    let (exporter, exporters) = match (pipeline, protocol) {
        (Pipeline::Parquet, _) => ("parquet", format!("{{url: {}}}", directory.join("lake").display())),
        (_, Protocol::Grpc) => {
            ("otlp_grpc", format!("{{endpoint: {to}, compression: {compression}, tls: {{insecure: true}}{queue}}}"))
        }
        (_, Protocol::Http) => ("otlp_http", format!("{{endpoint: http://{to}, compression: {compression}{queue}}}")),
    };
    let (processors, named) = match pipeline {
        Pipeline::Cost | Pipeline::CostToGzip => ("processors: {cost: {}}\n", "processors: [cost], "),
        Pipeline::Chain => (
            "processors:\n  attributes: {actions: [{key: team, value: support, action: insert}, \
             {key: llm.headers, action: delete}]}\n  cost: {}\n  batch: {}\n",
            "processors: [attributes, cost, batch], ",
        ),
        Pipeline::Forward | Pipeline::Parquet => ("", ""),
    };
    format!(
        "receivers: {{otlp: {{protocols: {{{receiver}: {{endpoint: {at}}}}}}}}}\n\
         {processors}\
         exporters: {{{exporter}: {exporters}}}\n\
         service: {{pipelines: {{traces: {{receivers: [otlp], {named}exporters: [{exporter}]}}}}}}\n"
    )
}

/// A port on loopback that was free a moment ago.
fn free_port() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
    Ok(listener.local_addr()?)
}

/// Total size in bytes of the files below `directory` with this extension.
fn bytes_of(directory: &Path, extension: &str) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            total += bytes_of(&path, extension)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            total += entry.metadata()?.len();
        }
    }
    Ok(total)
}

#[cfg(unix)]
fn terminate(child: &mut Child) -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let pid = Pid::from_child(child);
    Ok(kill_process(pid, Signal::TERM)?)
}

#[cfg(not(unix))]
fn terminate(child: &mut Child) -> Result<()> {
    Ok(child.kill()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn configuration_names_every_component_it_uses() {
        let http = configuration(Pipeline::Cost, Protocol::Http, at(1), at(2), false, Path::new("/d"));
        assert_eq!(
            http,
            "receivers: {otlp: {protocols: {http: {endpoint: 127.0.0.1:1}}}}\n\
             processors: {cost: {}}\n\
             exporters: {otlp_http: {endpoint: http://127.0.0.1:2, compression: none, sending_queue: {enabled: false}}}\n\
             service: {pipelines: {traces: {receivers: [otlp], processors: [cost], exporters: [otlp_http]}}}\n"
        );
        let grpc = configuration(Pipeline::Forward, Protocol::Grpc, at(1), at(2), true, Path::new("/d"));
        assert_eq!(
            grpc,
            "receivers: {otlp: {protocols: {grpc: {endpoint: 127.0.0.1:1}}}}\n\
             exporters: {otlp_grpc: {endpoint: 127.0.0.1:2, compression: none, tls: {insecure: true}}}\n\
             service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp_grpc]}}}\n"
        );
        let parquet = configuration(Pipeline::Parquet, Protocol::Grpc, at(1), at(2), false, Path::new("/d"));
        assert!(parquet.contains("exporters: {parquet: {url: /d/lake}}\n"), "{parquet}");
    }

    #[test]
    fn only_files_with_the_extension_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        fs::write(directory.path().join("a/b/one.parquet"), [0; 10]).unwrap();
        fs::write(directory.path().join("two.parquet"), [0; 5]).unwrap();
        fs::write(directory.path().join("a/log.json"), [0; 7]).unwrap();
        assert_eq!(bytes_of(directory.path(), "parquet").unwrap(), 15);
    }

    #[tokio::test]
    async fn a_process_that_ends_at_once_is_reported_with_its_log() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--no-such-flag-of-a-test-binary");
        let error = Subject::start(command, free_port().unwrap(), tempfile::tempdir().unwrap()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("before it listened") && text.contains("no-such-flag"), "{text}");
    }
}
