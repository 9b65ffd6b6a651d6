//! Servers that send requests elsewhere.

use ::http::header::HeaderValue;
use weir_pipeline::extension::{HeaderEdit, OutgoingHeaders};
use weir_pipeline::metadata::Metadata;

use super::super::headers::Auth;
use super::super::tls::Pem;
use super::stub::{Answer, Stub};
use super::tls::authority_and_stub;
use super::*;
use crate::testing::{request, settled};

struct Token;

impl OutgoingHeaders for Token {
    fn edits(&self, _: Option<&Metadata>) -> Result<Vec<HeaderEdit>, String> {
        Ok(vec![HeaderEdit::Upsert("authorization".to_owned(), "Bearer secret".into())])
    }
}

/// With a header and a token, both secret.
fn settings(address: SocketAddr) -> HttpSettings {
    let mut settings = http_settings(address);
    settings.headers.insert("x-api-key", HeaderValue::from_static("secret"));
    settings.exchange.auth = Some(Auth(Arc::new(Token)));
    settings
}

fn to(status: u16, location: &str) -> Answer {
    Answer::http(status, &[("location", location)], b"")
}

#[tokio::test]
async fn a_request_goes_on_with_everything_to_the_same_place() {
    for status in [307, 308] {
        let stub = Stub::http([to(status, "/elsewhere?x=1"), Answer::http(503, &[], b"")]).await;
        let rig = Rig::http(settings(stub.address));
        assert_eq!(rig.export(2).await, Outcome::Done);
        let arrived = stub.arrived();
        let paths: Vec<_> = arrived.iter().map(|a| a.path.as_str()).collect();
        assert_eq!(paths, ["/v1/traces", "/elsewhere?x=1", "/v1/traces"], "each attempt begins at the beginning");
        for sent in &arrived {
            assert_eq!((sent.method.as_str(), &sent.body), ("POST", &request(2, 10)));
            assert_eq!((sent.header("x-api-key"), sent.header("authorization")), ("secret", "Bearer secret"));
            assert_eq!(sent.header("content-type"), "application/x-protobuf");
        }
        settled(&rig.telemetry, 2, 0, 0);
    }
}

#[tokio::test]
async fn others_get_the_data_without_what_is_secret() {
    // And back again: who has been elsewhere is trusted no more.
    let home = Stub::http([]).await;
    let other = Stub::http([to(307, &format!("http://{}/back", home.address)), Answer::http(200, &[], b"")]).await;
    let stub = Stub::http(vec![to(308, &format!("http://{}/x", other.address)); 2]).await;
    let rig = Rig::http(settings(stub.address));
    assert_eq!(rig.export(2).await, Outcome::Done);
    assert_eq!(rig.export(2).await, Outcome::Done);
    assert_eq!(stub.arrived().len(), 2);
    assert_eq!((other.arrived().len(), other.connections()), (2, 1), "the connection is kept");
    for sent in other.arrived().iter().chain([&home.only()]) {
        assert_eq!((sent.header("x-api-key"), sent.header("authorization")), ("", ""));
        assert_eq!((sent.header("content-type"), &sent.body), ("application/x-protobuf", &request(2, 10)));
    }
    assert_eq!((other.arrived()[0].path.as_str(), home.only().path.as_str()), ("/x", "/back"));
    assert_eq!(other.arrived()[0].authority, other.address.to_string());
    settled(&rig.telemetry, 4, 0, 0);
}

#[tokio::test]
async fn plain_text_is_left_for_tls_and_not_the_other_way_round() {
    let plain = Stub::http([]).await;
    let (secure, ca) =
        authority_and_stub([Answer::http(200, &[], b""), to(308, &format!("http://{}/x?y=z", plain.address))]).await;
    let stub = Stub::http(vec![to(308, &format!("https://{}/v1/traces", secure.address)); 2]).await;
    let mut settings = settings(stub.address);
    settings.tls.ca = Some(Pem::Text(ca.into()));
    let rig = Rig::http(settings);
    assert_eq!(rig.export(1).await, Outcome::Done);
    assert_eq!(secure.only().header("x-api-key"), "secret", "the same host");
    let Outcome::Rejected(reason) = rig.export(1).await else { panic!("that would be plain text") };
    let hint = format!("where we do not go: name the address itself, which is http://{}/x", plain.address);
    assert!(reason.starts_with("HTTP status 308") && reason.ends_with(&hint), "{reason}");
    assert!(plain.arrived().is_empty());
    settled(&rig.telemetry, 1, 1, 0);
}

#[tokio::test]
async fn not_all_is_followed_and_not_for_ever() {
    let circle = Stub::http(vec![to(307, "/again"); 11]).await;
    let mut once = settings(circle.address);
    once.exchange.retry.enabled = false;
    let Outcome::Retry { reason, .. } = Rig::http(once).export(1).await else { panic!("it goes round") };
    assert!(reason.contains("more than 10 times"), "{reason}");
    assert_eq!(circle.arrived().len(), 11);
    for (answer, hint) in [
        (to(301, "https://tempo.test/v1/traces?a=b"), "it sends us to https://tempo.test/v1/traces: name that as"),
        (Answer::http(307, &[], b""), "without saying where"),
        (Answer::http(304, &[], b""), "HTTP status 304 Not Modified"),
    ] {
        let stub = Stub::http([answer]).await;
        let Outcome::Rejected(reason) = Rig::http(settings(stub.address)).export(1).await else { panic!("{hint}") };
        assert!(reason.contains(hint) && !reason.contains("a=b"), "{reason}");
        assert_eq!(stub.arrived().len(), 1);
    }
}
