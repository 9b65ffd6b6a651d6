//! Running the real binary against real sockets.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod client;
pub mod corpus;
pub mod numbered;
pub mod schema;
pub mod sink;
pub mod spans;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A `weir run` of a test, killed if the test forgets to stop it.
pub struct Weir {
    child: Child,
    log: mpsc::Receiver<String>,
    seen: Vec<String>,
    /// Where it listens, if the configuration asked for it.
    pub grpc: Option<SocketAddr>,
    pub http: Option<SocketAddr>,
}

/// How long anything in a test may take before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_remove("WEIR_LOG").stdin(Stdio::null());
    command
}

impl Weir {
    /// Starts `weir run` with a configuration in a folder of its own and waits until it is ready.
    pub fn start(folder: &Path, config: &str) -> Self {
        Self::start_with(folder, config, &[])
    }

    pub fn start_with(folder: &Path, config: &str, arguments: &[&str]) -> Self {
        let path = folder.join("weir.yaml");
        std::fs::write(&path, config).unwrap();
        let mut command = weir();
        command.current_dir(folder).args(["run", "--config"]).arg(&path).args(arguments);
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, log) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // Read so that the process never blocks on a full pipe.
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(drop));
        let mut weir = Self { child, log, seen: Vec::new(), grpc: None, http: None };
        weir.wait_for("ready");
        for line in weir.seen.clone() {
            if let Some((_, rest)) = line.split_once(" listens on ") {
                let (address, protocol) = rest.split_once(' ').unwrap();
                let address = Some(address.parse().unwrap());
                if protocol.contains("grpc") { weir.grpc = address } else { weir.http = address }
            }
        }
        weir
    }

    /// Waits for a log line that contains `text`, and returns it.
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no {text:?} in the log:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// A line that was logged before it was ready.
    pub fn seen(&self, text: &str) -> String {
        let found = self.seen.iter().find(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("no {text:?} in the log:\n{}", self.seen.join("\n"))).clone()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM and waits for the end: exit status and the whole log.
    pub fn stop(mut self) -> (ExitStatus, String) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        let status = wait(&mut self.child);
        // The thread that reads the log ends with the pipe.
        self.seen.extend(self.log.iter());
        (status, self.seen.join("\n"))
    }

    /// kill -9
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "weir does not stop");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// The standard output of a command over a store that succeeds.
pub fn ok(store: &Path, arguments: &[&str]) -> String {
    let output = weir().args(arguments).env("WEIR_STORE", store).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes an API key with the command.
pub fn key(store: &Path, project: &str, env: &str) -> String {
    ok(store, &["keys", "create", "--project", project, "--env", env]).trim().to_owned()
}

/// The names of a project's spans, sorted.
pub fn names(store: &Path, project: &str, env: Option<&str>) -> Vec<String> {
    let mut arguments = vec!["sql", "--format", "csv", "--project", project];
    arguments.extend(env.iter().flat_map(|env| ["--env", env]));
    arguments.push("SELECT name FROM spans ORDER BY name");
    ok(store, &arguments).lines().skip(1).map(str::to_owned).collect()
}

/// `weir sql` over a store, as CSV without its header.
pub fn sql(store: &Path, query: &str) -> Vec<String> {
    let output = sql_output(store, query, "csv");
    assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().skip(1).map(str::to_owned).collect()
}

pub fn sql_output(store: &Path, query: &str, format: &str) -> Output {
    weir().args(["sql", "--format", format, "--store"]).arg(store).arg(query).output().unwrap()
}

/// A command line as words: splits at spaces outside single quotes.
pub fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// An address where nobody listens: it was free a moment ago, and binding port 0 does not give it out again so soon.
pub fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A folder that goes with the test.
pub fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}
