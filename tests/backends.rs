//! The sample configurations for backends load in every build, the one without the store included; and what the
//! environment says of the way to a backend is followed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;

use support::{PATIENCE, Weir, client, spans, weir};

/// The names after `${env:` in a text.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split("${env:").skip(1).map(|rest| rest.split(['}', ':']).next().unwrap())
}

/// What a variable holds: a secret if its name says so.
fn value(name: &str) -> &'static str {
    if ["KEY", "TOKEN", "AUTH"].iter().any(|word| name.contains(word)) { "hush" } else { "name" }
}

#[test]
fn every_recipe_for_a_backend_is_valid_and_keeps_its_secrets_out() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/backends");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["validate", "--config"])
            .arg(&path)
            .envs(variables(&text).map(|name| (name, value(name))))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("OK means") && !said.contains("warning"), "{}: {said}", path.display());
        assert!(!said.contains("hush"), "{} shows a secret: {said}", path.display());
        count += 1;
    }
    assert_eq!(count, 30);
}

/// Reads a request and answers with success; returns its first line.
fn answer(stream: TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_the_environment_names_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.yaml");
    let config = "\
receivers: {otlp: {protocols: {http: {endpoint: '127.0.0.1:0'}}}}
exporters: {otlp_http: {endpoint: 'http://collector.test:4318', sending_queue: {enabled: false}}}
service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp_http]}}}
";
    std::fs::write(&path, config).unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = weir();
    command.args(["run", "--config"]).arg(&path);
    command.env("HTTP_PROXY", format!("http://{}", proxy.local_addr().unwrap())).env("NO_PROXY", "other.test");
    let (sender, asked) = mpsc::channel();
    std::thread::spawn(move || sender.send(answer(proxy.accept().unwrap().0)));
    let weir = Weir::spawn(command);
    let message = spans::request(&[(&[], "through a proxy")]);
    let headers = [("content-type", "application/x-protobuf")];
    let (status, _) = client::post(&client::http1(), weir.http.unwrap(), "/v1/traces", &headers, message).await;
    assert_eq!(status, 200);
    assert_eq!(asked.recv_timeout(PATIENCE).unwrap(), "POST http://collector.test:4318/v1/traces HTTP/1.1\r\n");
    assert!(weir.stop().0.success());
}
