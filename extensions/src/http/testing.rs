//! A client for tests.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Status and body of a GET.
pub(crate) async fn get(to: SocketAddr, path: &str) -> (u16, String) {
    let (status, body) = ask("GET", to, path, &[]).await;
    (status, String::from_utf8(body.into()).unwrap())
}

/// Status and body of any request without a body.
pub(crate) async fn ask(method: &str, to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (u16, Bytes) {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", to.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    connection.await.unwrap().unwrap();
    (status, body)
}
