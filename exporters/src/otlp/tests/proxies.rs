//! The way to a server through a proxy.

use ::http::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weir_pipeline::config::Node;

use super::super::connect::Proxy;
use super::stub::Stub;
use super::*;
use crate::testing::settled;

/// A proxy: answers CONNECT with `answer` and, if that is a success, passes bytes on; keeps the head of each request.
async fn proxy(answer: &'static str, heads: Arc<std::sync::Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            heads.lock().unwrap().push(head.clone());
            client.write_all(answer.as_bytes()).await.unwrap();
            let to = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
            if let (Some(to), true) = (to, answer.contains(" 200 ")) {
                let mut server = TcpStream::connect(to).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await.is_ok() });
            }
        }
    });
    address
}

fn through(address: SocketAddr) -> Option<Proxy> {
    let authorization = Some(HeaderValue::from_static("Basic bWU6cHc="));
    Some(Proxy { host: address.ip().to_string(), port: address.port(), authorization })
}

#[tokio::test]
async fn tls_goes_through_a_tunnel_of_the_proxy() {
    let heads = Arc::default();
    let address = proxy("HTTP/1.1 200 OK\r\n\r\n", Arc::clone(&heads)).await;
    let (stub, tls) = super::tls::https_stub().await;
    let mut settings = http_settings(stub.address);
    let to = settings.traces.as_mut().unwrap();
    to.uri = format!("https://{}/v1/traces", stub.address).parse().unwrap();
    (to.target.tls, to.target.proxy) = (Some(tls), through(address));
    let rig = Rig::http(settings);
    for _ in 0..2 {
        assert_eq!(rig.export(1).await, Outcome::Done);
    }
    assert!(stub.arrived().iter().all(|a| a.path == "/v1/traces" && a.header("proxy-authorization").is_empty()));
    let heads = heads.lock().unwrap();
    let connect = format!("CONNECT {} HTTP/1.1\r\n", stub.address);
    assert!(heads.len() == 1 && heads[0].starts_with(&connect), "{heads:?}");
    assert!(heads[0].contains("proxy-authorization: Basic bWU6cHc=\r\n"), "{heads:?}");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named() {
    let address =
        proxy("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", Arc::default()).await;
    let (stub, tls) = super::tls::https_stub().await;
    let mut settings = http_settings(stub.address);
    settings.exchange.retry.enabled = false;
    let to = settings.traces.as_mut().unwrap();
    (to.target.tls, to.target.proxy) = (Some(tls), through(address));
    let Outcome::Retry { reason, .. } = Rig::http(settings).export(1).await else { panic!("the proxy refuses") };
    assert!(reason.contains(&format!("through the proxy {address}")) && reason.contains("407"), "{reason}");
}

#[tokio::test]
async fn plain_requests_are_given_to_the_proxy_with_the_whole_url() {
    let heads = Arc::default();
    let address = proxy("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Arc::clone(&heads)).await;
    let yaml = format!("{{endpoint: 'http://collector.test:4318', proxy_url: 'http://me:pw@{address}'}}");
    let context = context();
    let telemetry = context.telemetry.clone();
    let node = Node::parse("weir.yaml", &yaml).unwrap();
    let rig = Rig::of(&OtlpHttp::from_config(&node, "exporters::x", &[], &context).unwrap(), telemetry);
    rig.export(1).await;
    rig.exporter.drain().await;
    let heads = heads.lock().unwrap();
    assert!(heads[0].starts_with("POST http://collector.test:4318/v1/traces HTTP/1.1\r\n"), "{heads:?}");
    assert!(heads[0].contains("host: collector.test:4318\r\n") && heads[0].contains("Basic bWU6cHc="), "{heads:?}");
    settled(&rig.telemetry, 1, 0, 0);
}

#[tokio::test]
async fn grpc_goes_through_a_tunnel_too() {
    let heads = Arc::default();
    let address = proxy("HTTP/1.1 200 OK\r\n\r\n", Arc::clone(&heads)).await;
    let stub = Stub::grpc([]).await;
    let mut settings = grpc_settings(stub.address);
    (settings.target.proxy, settings.target.is_balanced) = (through(address), true);
    let rig = Rig::grpc(settings);
    for _ in 0..2 {
        assert_eq!(rig.export(1).await, Outcome::Done);
    }
    assert!(stub.arrived().len() == 2 && stub.connections() == 1);
    let heads = heads.lock().unwrap();
    let connect = format!("CONNECT {} HTTP/1.1\r\n", stub.address);
    assert!(heads.len() == 1 && heads[0].starts_with(&connect), "{heads:?}");
}
