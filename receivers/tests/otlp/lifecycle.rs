//! Starting, stopping, time-outs, and clients that go away.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::StatusCode;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_pipeline::clock::Environment;
use weir_pipeline::config::Node;
use weir_pipeline::node::{Context, Receiver};
use weir_pipeline::receipt::Outcome;
use weir_pipeline::signal::Signal;
use weir_pipeline::telemetry::Telemetry;
use weir_receivers::otlp::{OtlpReceiver, OtlpSettings};

use crate::support::*;

fn receiver(endpoint: &str) -> OtlpReceiver {
    let yaml = format!("protocols: {{grpc: {{endpoint: '{endpoint}'}}}}");
    let node = Node::parse("weir.yaml", &yaml).unwrap();
    let environment = Environment::with(|| 1, 1);
    let context = Context::new("otlp/a", Telemetry::default(), environment);
    OtlpReceiver::from_config(&node, "receivers::otlp/a", context).unwrap()
}

#[tokio::test]
async fn an_address_in_use_stops_the_start() {
    let first = receiver("127.0.0.1:0");
    first.bind(2).unwrap();
    let (_, address) = first.addresses()[0];
    let error = receiver(&address.to_string()).bind(2).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "otlp/a: {address} is already in use: another collector? change receivers::otlp/a::protocols::grpc::endpoint"
        )
    );
}

/// Something that cleans up has removed the file of a socket.
#[tokio::test]
async fn a_socket_whose_file_is_gone_can_be_listened_on_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("otlp.sock");
    let receiver = || {
        let yaml = format!("protocols: {{grpc: {{endpoint: '{}', transport: unix}}}}", path.display());
        let context = Context::new("otlp/a", Telemetry::default(), Environment::with(|| 1, 1));
        OtlpReceiver::from_config(&Node::parse("weir.yaml", &yaml).unwrap(), "receivers::otlp/a", context).unwrap()
    };
    let first = receiver();
    first.bind(2).unwrap();
    assert!(first.is_reachable());
    assert!(receiver().bind(2).unwrap_err().to_string().contains("already in use"));
    std::fs::remove_file(&path).unwrap();
    assert!(!first.is_reachable());
    let second = receiver();
    second.bind(2).unwrap();
    assert!(second.is_reachable() && !first.is_reachable(), "that is the file of another");
    drop(first);
    tokio::net::UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn localhost_is_both_loopback_addresses_on_one_port() {
    let receiver = Arc::new(receiver("localhost:0"));
    receiver.bind(1).unwrap();
    let addresses = receiver.addresses();
    assert!(addresses[0].1.is_ipv4());
    assert!(addresses.iter().all(|(p, a)| *p == "grpc" && a.ip().is_loopback() && a.port() == addresses[0].1.port()));
}

#[tokio::test]
async fn requests_under_way_are_finished_at_shutdown_and_idle_connections_closed() {
    let mut server = Server::start(Options::default()).await;
    server.settle_with(None);
    // One request waiting for its receipt over each transport, and idle connections beside them.
    let over_http = tokio::spawn(send_bytes(server.http, TRACES, PROTOBUF, traces(1)));
    let first = server.taken().await;
    let over_grpc = tokio::spawn(send_grpc(server.grpc, call(EXPORT_TRACES), framed(0, &traces(2))));
    let second = server.taken().await;
    let mut idle_grpc = grpc_connect(server.grpc).await;
    idle_grpc.ready().await.unwrap();
    let mut silent = TcpStream::connect(server.http).await.unwrap();
    let io = TokioIo::new(TcpStream::connect(server.http).await.unwrap());
    let (mut kept_alive, connection) = hyper::client::conn::http1::handshake::<_, Full<Bytes>>(io).await.unwrap();
    let kept_alive_ended = tokio::spawn(connection);
    let get = http::Request::get("/nowhere").header("host", "weir.test").body(Full::default()).unwrap();
    assert_eq!(Reply::read(kept_alive.send_request(get).await.unwrap()).await.status, StatusCode::NOT_FOUND);

    server.request_stop();
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0, "a connection that never spoke is closed");
    kept_alive_ended.await.unwrap().unwrap();
    // Both requests are still waited for.
    assert!(!over_http.is_finished() && !over_grpc.is_finished());
    first.batch.unwrap().settle(&Outcome::Done);
    second.batch.unwrap().settle(&Outcome::Retry { after: None, reason: "stopping".into() });
    assert_eq!(over_http.await.unwrap().status, StatusCode::OK);
    assert_eq!(over_grpc.await.unwrap().grpc_status(), (14, "stopping".to_owned()));
    let (http, grpc) = (server.http, server.grpc);
    server.stopped().await;
    assert!(TcpStream::connect(http).await.is_err() && TcpStream::connect(grpc).await.is_err());
}

#[tokio::test]
async fn a_client_that_goes_away_is_still_counted() {
    let mut server = Server::start(Options::default()).await;
    server.settle_with(None);
    let request = post(TRACES, PROTOBUF).body(Full::<Bytes>::new(traces(3).into())).unwrap();
    let io = TokioIo::new(TcpStream::connect(server.http).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let pending = tokio::spawn(async move { sender.send_request(request).await.is_ok() });
    let taken = server.taken().await;
    connection.abort();
    assert!(!pending.await.unwrap());
    taken.batch.unwrap().settle(&Outcome::Done);
    let telemetry = server.telemetry.clone();
    server.stop().await;
    // The count is made by a task of the runtime, whose turn has come once others have had theirs.
    while telemetry.sum("otelcol_receiver_accepted_spans") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(telemetry.sum("otelcol_receiver_accepted_spans"), 3);
    assert_eq!(telemetry.sum("otelcol_receiver_refused_spans"), 0);
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let edit: fn(&mut OtlpSettings) = |settings| {
        settings.timeouts.first_bytes = Duration::from_millis(40);
        settings.timeouts.head = Duration::from_millis(40);
        settings.timeouts.body_idle = Duration::from_millis(40);
    };
    let server = Server::start(Options { edit, ..Options::default() }).await;
    // Silence, and half an HTTP/2 preface, on either port; half a head on the HTTP port.
    for (to, opening) in [
        (server.http, &b""[..]),
        (server.grpc, b""),
        (server.http, b"PRI * HT"),
        (server.grpc, b"PRI"),
        (server.http, b"POST / HTTP/1.1\r\nhost"),
    ] {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(opening).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"", "{}", String::from_utf8_lossy(opening));
    }
    // A body that stops is answered, and the connection then closed.
    let piece = Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"\x0a")));
    let body = StreamBody::new(stream::iter([piece]).chain(stream::pending()));
    let reply = send(server.http, post(TRACES, PROTOBUF).body(body).unwrap()).await;
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(reply.rpc_status().message, "the request body did not arrive within 0 s");
    assert_eq!((server.failed_requests(), server.budget.used()), (1, 0));
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_does_not_end_is_closed_after_the_drain_time() {
    let options = Options { edit: |s| s.timeouts.drain = Duration::from_millis(40), ..Options::default() };
    let mut server = Server::start(options).await;
    server.settle_with(None);
    let pending = tokio::spawn(send_grpc(server.grpc, call(EXPORT_TRACES), framed(0, &traces(1))));
    let taken = server.taken().await;
    server.stop().await;
    assert!(pending.await.is_err(), "the client sees a broken connection and will come again");
    drop(taken);
}

#[tokio::test]
async fn who_is_slow_to_send_or_to_read_delays_no_stop() {
    let edit: fn(&mut OtlpSettings) = |s| {
        (s.timeouts.stragglers, s.timeouts.drain) = (Duration::from_millis(20), Duration::from_secs(300));
    };
    let mut server = Server::start(Options { edit, ..Options::default() }).await;
    server.settle_with(None);
    // One has sent half of its request, one waits for the pipelines.
    let piece = Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"\x0a")));
    let body = StreamBody::new(stream::iter([piece]).chain(stream::pending()));
    let half = tokio::spawn(send(server.http, post(TRACES, PROTOBUF).body(body).unwrap()));
    let whole = tokio::spawn(send_bytes(server.http, TRACES, PROTOBUF, traces(3)));
    let taken = server.taken().await;
    server.request_stop();
    let stopping = server.stopped();
    let mut stopping = std::pin::pin!(stopping);
    let early = tokio::time::timeout(Duration::from_millis(700), &mut stopping).await;
    assert!(early.is_err(), "what the pipelines have is waited for");
    taken.batch.unwrap().settle(&Outcome::Done);
    tokio::time::timeout(Duration::from_secs(60), stopping).await.expect("nobody else is");
    assert_eq!(whole.await.unwrap().status, StatusCode::OK);
    assert!(half.await.is_err(), "the client sees a broken connection and will come again");
}

#[tokio::test]
async fn many_requests_share_connections() {
    let mut server = Server::start(Options::default()).await;
    let sender = grpc_connect(server.grpc).await;
    let calls = (0..200).map(|n| {
        let mut sender = sender.clone();
        async move {
            let body = framed(0, &traces(n % 7 + 1));
            let request = call(EXPORT_TRACES).body(Full::new(body.into())).unwrap();
            sender.ready().await.unwrap();
            Reply::read(sender.send_request(request).await.unwrap()).await.grpc_status().0
        }
    });
    let statuses = futures::future::join_all(calls).await;
    assert_eq!(statuses, vec![0; 200]);
    let want: usize = (0..200).map(|n| n % 7 + 1).sum();
    assert_eq!(server.count("accepted", Signal::Traces, "grpc"), want as u64);
    for _ in 0..200 {
        server.taken().await;
    }
    server.stop().await;
}
