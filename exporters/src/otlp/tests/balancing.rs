//! Names that stand for several servers.

use std::sync::Mutex;

use tokio::net::TcpListener;

use super::super::dial::Names;
use super::stub::Stub;
use super::*;
use crate::testing::settled;

/// How long a test waits for what is made beside the requests.
const PATIENCE: Duration = Duration::from_secs(20);

/// A name that stands for these addresses.
fn named(addresses: &Arc<Mutex<Vec<SocketAddr>>>) -> GrpcSettings {
    let mut settings = grpc_settings("127.0.0.1:1".parse().unwrap());
    settings.target.host = "backends.test".to_owned();
    settings.target.is_balanced = true;
    settings.target.names = Names::Fixed(Arc::clone(addresses));
    settings
}

fn addresses(stubs: &[&Stub]) -> Arc<Mutex<Vec<SocketAddr>>> {
    Arc::new(Mutex::new(stubs.iter().map(|stub| stub.address).collect()))
}

/// Exports until `is_met`, and how many spans that took.
async fn export_until(rig: &Rig, is_met: impl Fn() -> bool) -> u64 {
    let mut spans = 0;
    let exporting = async {
        while !is_met() {
            assert_eq!(rig.export(1).await, Outcome::Done);
            spans += 1;
        }
    };
    tokio::time::timeout(PATIENCE, exporting).await.expect("it never came to that");
    spans
}

#[tokio::test]
async fn every_server_has_its_turn() {
    let stubs = [Stub::grpc([]).await, Stub::grpc([]).await, Stub::grpc([]).await];
    let rig = Rig::grpc(named(&addresses(&stubs.each_ref())));
    let first = export_until(&rig, || stubs.iter().all(|stub| !stub.arrived().is_empty())).await;
    let before = stubs.each_ref().map(|stub| stub.arrived().len());
    for _ in 0..30 {
        assert_eq!(rig.export(1).await, Outcome::Done);
    }
    for (stub, before) in stubs.iter().zip(before) {
        assert_eq!((stub.arrived().len() - before, stub.connections()), (10, 1));
    }
    settled(&rig.telemetry, first + 30, 0, 0);
}

#[tokio::test]
async fn the_first_alone_where_that_is_wanted() {
    let stubs = [Stub::grpc([]).await, Stub::grpc([]).await];
    let mut settings = named(&addresses(&stubs.each_ref()));
    settings.target.is_balanced = false;
    let rig = Rig::grpc(settings);
    for _ in 0..10 {
        assert_eq!(rig.export(1).await, Outcome::Done);
    }
    assert_eq!(stubs.each_ref().map(|stub| stub.arrived().len()), [10, 0]);
}

#[tokio::test]
async fn nobody_waits_for_a_server_that_is_away() {
    let stub = Stub::grpc([]).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let named_addresses = addresses(&[&stub]);
    named_addresses.lock().unwrap().insert(0, gone);
    let mut settings = named(&named_addresses);
    // A request that went there would fail.
    settings.exchange.retry.enabled = false;
    let rig = Rig::grpc(settings);
    for _ in 0..5 {
        assert_eq!(rig.export(1).await, Outcome::Done);
    }
    assert_eq!(stub.arrived().len(), 5);
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back() {
    let (stays, goes) = (Stub::grpc([]).await, Stub::grpc([]).await);
    let rig = Rig::grpc(named(&addresses(&[&stays, &goes])));
    export_until(&rig, || !goes.arrived().is_empty()).await;
    let back = goes.restart().await;
    // What was sent to it when it went is sent again, to the other one.
    let before = stays.arrived().len();
    export_until(&rig, || stays.arrived().len() > before + 2).await;
    export_until(&rig, || !back.arrived().is_empty()).await;
}

#[tokio::test]
async fn a_name_comes_to_stand_for_others() {
    let (old, new) = (Stub::grpc([]).await, Stub::grpc([]).await);
    let named_addresses = addresses(&[&old]);
    let mut settings = named(&named_addresses);
    settings.exchange.retry.enabled = false;
    let rig = Rig::grpc(settings);
    assert_eq!(rig.export(1).await, Outcome::Done);
    // The one that is open stays, until it goes; then the name is asked again.
    *named_addresses.lock().unwrap() = vec![new.address];
    drop(old);
    tokio::time::timeout(PATIENCE, async { while rig.export(1).await != Outcome::Done {} }).await.unwrap();
    assert!(!new.arrived().is_empty());
}

#[tokio::test]
async fn a_server_that_takes_connections_and_answers_nothing_has_few_turns() {
    let stub = Stub::grpc([]).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let names = addresses(&[&stub]);
    names.lock().unwrap().insert(0, silent.local_addr().unwrap());
    let mut settings = named(&names);
    settings.exchange.timeout = Some(Duration::from_millis(200));
    let rig = Rig::grpc(settings);
    // The first attempt goes there and fails, and no other does before a second has passed.
    let exporting = async {
        for _ in 0..20 {
            assert_eq!(rig.export(1).await, Outcome::Done);
        }
    };
    tokio::time::timeout(PATIENCE, exporting).await.expect("the other one answers");
    assert_eq!(stub.arrived().len(), 20);
}

#[tokio::test]
async fn tls_that_hangs_or_fails_at_one_address_leads_to_the_next() {
    let (stub, tls) = super::tls::grpc_stub().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Speaks no TLS, and ends each connection.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain_address = plain.local_addr().unwrap();
    tokio::spawn(async move { while plain.accept().await.is_ok() {} });
    let names = addresses(&[&stub]);
    for (at, address) in [silent.local_addr().unwrap(), plain_address].into_iter().enumerate() {
        names.lock().unwrap().insert(at, address);
    }
    let mut settings = named(&names);
    settings.exchange.retry.enabled = false;
    settings.target.tls = Some(tls);
    let rig = Rig::grpc(settings);
    for _ in 0..3 {
        assert_eq!(rig.export(1).await, Outcome::Done);
    }
    assert_eq!(stub.arrived().len(), 3);
}
