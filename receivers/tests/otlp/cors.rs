//! Requests of web pages, and headers that every answer has.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;

use crate::support::*;

const PAGE: &str = "https://app.example.com";

fn options(keys: &str) -> Options {
    Options { http: format!("cors: {{{keys}}},"), ..Options::default() }
}

async fn request(server: &Server, method: Method, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(TRACES).header("host", "weir.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(server.http, request.body(Full::<Bytes>::new(traces(1).into())).unwrap()).await
}

async fn preflight(server: &Server, origin: &str, method: &str, headers: &str) -> Reply {
    let asked =
        [("origin", origin), ("access-control-request-method", method), ("access-control-request-headers", headers)];
    request(server, Method::OPTIONS, &asked).await
}

#[tokio::test]
async fn a_preflight_is_answered() {
    let keys = "allowed_origins: ['https://*.example.com'], allowed_headers: [Authorization], max_age: 7200";
    let mut server = Server::start(options(keys)).await;
    let reply = preflight(&server, PAGE, "POST", "authorization,content-type").await;
    assert_eq!((reply.status, reply.body.len()), (StatusCode::NO_CONTENT, 0));
    for (name, want) in [
        ("access-control-allow-origin", PAGE),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "authorization,content-type"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "7200"),
        ("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ] {
        assert_eq!(reply.header(name), want, "{name}");
    }
    for (origin, method, headers) in [
        ("https://app.example.com.evil.test", "POST", ""),
        ("http://app.example.com", "POST", ""),
        ("", "POST", ""),
        (PAGE, "DELETE", ""),
        (PAGE, "POST", "x-other"),
    ] {
        let reply = preflight(&server, origin, method, headers).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{origin} {method} {headers}");
        assert_eq!(reply.header("access-control-allow-origin"), "", "{origin} {method} {headers}");
        assert!(reply.header("vary").starts_with("Origin"));
    }
    // What is no preflight is not allowed here either.
    assert_eq!(request(&server, Method::OPTIONS, &[("origin", PAGE)]).await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(server.is_quiet());
    server.stop().await;
}

#[tokio::test]
async fn the_answer_may_be_read_by_pages_that_are_allowed() {
    let keys = format!("allowed_origins: ['{PAGE}'], exposed_headers: [retry-after, x-b]");
    let mut server = Server::start(options(&keys)).await;
    for (content_type, status) in [(PROTOBUF, StatusCode::OK), ("text/plain", StatusCode::UNSUPPORTED_MEDIA_TYPE)] {
        let reply = request(&server, Method::POST, &[("content-type", content_type), ("origin", PAGE)]).await;
        assert_eq!((reply.status, reply.header("vary")), (status, "Origin"));
        assert_eq!(reply.header("access-control-allow-origin"), PAGE);
        assert_eq!(reply.header("access-control-allow-credentials"), "true");
        assert_eq!(reply.header("access-control-expose-headers"), "retry-after, x-b");
    }
    server.taken().await;
    // Others are served, for it is the browser who keeps the answer from them.
    for headers in [&[("content-type", PROTOBUF), ("origin", "https://other.test")][..], &[("content-type", PROTOBUF)]]
    {
        let reply = request(&server, Method::POST, headers).await;
        assert_eq!((reply.status, reply.header("vary")), (StatusCode::OK, "Origin"));
        assert_eq!(reply.header("access-control-allow-origin"), "");
        server.taken().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn any_origin_is_answered_with_a_star() {
    let mut server = Server::start(options("allowed_origins: ['*'], allowed_headers: ['*'], max_age: -1")).await;
    let reply = preflight(&server, "null", "POST", "x-anything").await;
    assert_eq!((reply.header("access-control-allow-origin"), reply.header("access-control-max-age")), ("*", "0"));
    assert_eq!(reply.header("access-control-allow-headers"), "x-anything");
    let reply = request(&server, Method::POST, &[("content-type", PROTOBUF), ("origin", PAGE)]).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (StatusCode::OK, "*"));
    server.taken().await;
    server.stop().await;
}

#[tokio::test]
async fn without_the_section_nothing_is_said() {
    let server = Server::start(Options::default()).await;
    let reply = preflight(&server, PAGE, "POST", "").await;
    assert_eq!((reply.status, reply.header("vary")), (StatusCode::METHOD_NOT_ALLOWED, ""));
    server.stop().await;
}

#[tokio::test]
async fn configured_headers_are_in_every_answer() {
    let http = "response_headers: {x-served-by: weir, Content-Type: text/html}, cors: {allowed_origins: ['*']},";
    let mut server = Server::start(Options { http: http.to_owned(), ..Options::default() }).await;
    let good = request(&server, Method::POST, &[("content-type", PROTOBUF)]).await;
    assert_eq!(good.header("content-type"), PROTOBUF, "what the answer says itself counts");
    server.taken().await;
    let not_found = send_bytes(server.http, "/", PROTOBUF, "").await;
    let not_allowed = request(&server, Method::GET, &[]).await;
    let malformed = send_bytes(server.http, TRACES, JSON, "{").await;
    let asked = preflight(&server, PAGE, "POST", "").await;
    for (reply, status) in [(good, 200), (not_found, 404), (not_allowed, 405), (malformed, 400), (asked, 204)] {
        assert_eq!((reply.status.as_u16(), reply.header("x-served-by")), (status, "weir"));
    }
    server.stop().await;
}
