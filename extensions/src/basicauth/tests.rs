use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use weir_pipeline::config::Node;

use super::*;

const SHA: &str = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";
const SSHA: &str = "{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0";
const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

fn parse(yaml: &str) -> Result<Settings, String> {
    let node = Node::parse("weir.yaml", yaml).unwrap();
    Settings::parse(&node, "extensions::basicauth").map_err(|e| e.to_string())
}

fn server(inline: &str, file: Option<Watched<Users>>) -> Server {
    let inline = if inline.is_empty() { Users::none() } else { Users::parse(inline).unwrap() };
    Server { id: "basicauth".to_owned(), file, inline: Arc::new(inline), checks: Checks::default() }
}

fn decide(server: &Server, user: &str, password: &str) -> Result<Decision, Denied> {
    let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    server.authenticate(&|name| (name == "authorization").then_some(value.as_str()))
}

/// What a future has to say when it is asked for the first time.
fn at_once<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

async fn ask(server: &Server, user: &str, password: &str) -> Option<String> {
    let identity = decide(server, user, password).ok()?.wait().await.ok()?;
    identity.get("username").map(str::to_owned)
}

#[tokio::test]
async fn every_kind_of_hash_lets_in_who_knows_the_password() {
    let apr1 = md5_crypt::hash(md5_crypt::APACHE, "salt", "secret");
    let unix = md5_crypt::hash(md5_crypt::UNIX, "salt", "secret");
    let text = format!("# users\nsha:{SHA}\nssha:{SSHA}\nbcrypt:{BCRYPT}\n\napr1:{apr1}\nunix:{unix}\nplain:secret\n");
    let server = server(&text, None);
    for user in ["sha", "ssha", "bcrypt", "apr1", "unix", "plain"] {
        // Twice: the second time it is remembered.
        for _ in 0..2 {
            assert_eq!(ask(&server, user, "secret").await.as_deref(), Some(user));
            assert_eq!(ask(&server, user, "Secret").await, None, "{user}");
            assert_eq!(ask(&server, user, "").await, None, "{user}");
        }
    }
    assert_eq!(ask(&server, "nobody", "secret").await, None);
}

#[tokio::test]
async fn a_password_may_contain_colons_and_a_header_must_be_well_formed() {
    let server = server("a:b:c\n", None);
    assert_eq!(ask(&server, "a", "b:c").await.as_deref(), Some("a"));
    for value in ["", "Basic", "Basic !", "Bearer YTpiOmM=", "Basic YQ==", &format!("Basic {}", "A".repeat(5000))] {
        let denied = server.authenticate(&|_| Some(value)).unwrap_err();
        assert!(denied.to_string().contains("is not of the form"), "{value}");
    }
    assert!(server.authenticate(&|_| Some("basic YTpiOmM=")).is_ok());
    assert!(server.authenticate(&|_| None).unwrap_err().to_string().contains("missing"));
}

/// A server of costly hashes that checks one password at a time, while `waiting` others wait.
fn queueing(waiting: usize, file: Option<Watched<Users>>) -> Server {
    Server { checks: Checks::new(1, waiting), ..server(&format!("alice:{BCRYPT}\nbob:secret\n"), file) }
}

#[tokio::test]
async fn who_is_known_does_not_wait_for_the_passwords_of_others() {
    let server = queueing(16, None);
    assert_eq!(ask(&server, "alice", "secret").await.as_deref(), Some("alice"));
    let turn = server.checks.turn().await;
    let mut wrong: Vec<_> = (0..17)
        .map(|n| decide(&server, if n % 2 == 0 { "alice" } else { "nobody" }, &format!("{n}")).unwrap().wait())
        .map(Box::pin)
        .collect();
    for check in &mut wrong {
        assert!(at_once(check.as_mut()).is_none());
    }
    // Remembered, or checked at once.
    for user in ["alice", "bob"] {
        let identity = decide(&server, user, "secret").unwrap().made().unwrap();
        assert_eq!(identity.get("username"), Some(user));
    }
    drop(turn);
    for check in wrong {
        assert_eq!(check.await, Err(WRONG));
    }
}

#[tokio::test]
async fn the_line_ends_and_whoever_leaves_it_makes_room() {
    let server = queueing(1, None);
    let turn = server.checks.turn().await;
    let (first, second) = (decide(&server, "nobody", "secret").unwrap(), decide(&server, "alice", "secret").unwrap());
    for user in ["alice", "nobody"] {
        assert!(matches!(decide(&server, user, "secret"), Err(Denied::Undecided(_))), "{user} should come again");
    }
    drop(first);
    let third = decide(&server, "alice", "secret").unwrap();
    drop(turn);
    let (second, third) = (second.wait().await.unwrap(), third.wait().await.unwrap());
    assert!(Arc::ptr_eq(&second, &third));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let server = queueing(1, None);
    let _turn = server.checks.turn().await;
    let waited = decide(&server, "alice", "secret").unwrap().wait().await;
    assert!(matches!(waited, Err(Denied::Undecided(_))));
}

#[tokio::test]
async fn requests_with_the_same_password_are_checked_once() {
    let server = queueing(2, None);
    let turn = server.checks.turn().await;
    let (first, second) = (decide(&server, "alice", "secret").unwrap(), decide(&server, "alice", "secret").unwrap());
    drop(turn);
    assert!(first.wait().await.is_ok());
    // No thread is needed for this one, and none waited for.
    assert!(at_once(pin!(second.wait())).unwrap().is_ok());
}

#[tokio::test]
async fn a_changed_file_forgets_what_was_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    std::fs::write(&path, format!("carol:{BCRYPT}\n")).unwrap();
    let server = queueing(1, Some(Watched::new(&path, Users::parse).always_looking()));
    assert!(ask(&server, "carol", "secret").await.is_some());
    assert!(decide(&server, "carol", "secret").unwrap().made().is_some());
    std::fs::write(&path, format!("# changed\ncarol:{BCRYPT}\n")).unwrap();
    assert!(decide(&server, "carol", "secret").unwrap().made().is_none());
    assert!(ask(&server, "carol", "secret").await.is_some());
    std::fs::write(&path, format!("dave:{BCRYPT}\n")).unwrap();
    assert!(ask(&server, "carol", "secret").await.is_none());
}

#[tokio::test]
async fn a_changed_file_is_believed_at_once_and_forgets_old_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    std::fs::write(&path, "alice:one\nbob:file\n").unwrap();
    let server = server("bob:inline\n", Some(Watched::new(&path, Users::parse).always_looking()));
    server.start().await.unwrap();
    assert!(ask(&server, "alice", "one").await.is_some());
    assert!(ask(&server, "bob", "inline").await.is_some() && ask(&server, "bob", "file").await.is_none());
    std::fs::write(&path, "alice:another\n").unwrap();
    assert!(ask(&server, "alice", "one").await.is_none() && ask(&server, "alice", "another").await.is_some());
    std::fs::write(&path, "alice\n").unwrap();
    assert!(ask(&server, "alice", "another").await.is_some(), "a broken file changes nothing");
}

#[tokio::test]
async fn a_client_shows_its_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    let yaml = format!("client_auth: {{username: weir, password_file: '{}'}}", path.display());
    let Role::Client(client) = parse(&yaml).unwrap().role else { panic!("not a client") };
    let shown = Shown { id: "basicauth".to_owned(), client };
    assert!(shown.start().await.unwrap_err().message.starts_with("cannot read "));
    std::fs::write(&path, "secret\n").unwrap();
    let value = format!("Basic {}", STANDARD.encode("weir:secret"));
    assert_eq!(shown.edits(None).unwrap(), [HeaderEdit::Upsert("authorization".to_owned(), value.into())]);
}

#[test]
fn what_is_wrong_is_said_and_passwords_are_not() {
    let at = "weir.yaml:1:";
    for (yaml, error) in [
        ("{}", "1: extensions::basicauth: there are no passwords: give `htpasswd`"),
        ("{htpasswd: {}}", "12: extensions::basicauth::htpasswd: there are no users"),
        ("{htpasswd: {inline: hunter2}}", "21: extensions::basicauth::htpasswd::inline: line 1: expected `user:hash`"),
        ("{htpasswd: {inline: \"a:b\\na:hunter2\"}}", "21: extensions::basicauth::htpasswd::inline: line 2: this user"),
        ("{htpasswd: {inline: 'a:$6$hunter2'}}", "21: extensions::basicauth::htpasswd::inline: line 1: this kind of"),
        ("{htpasswd: {inline: 'a:$2y$05$hunter2'}}", "21: extensions::basicauth::htpasswd::inline: line 1: the bcrypt"),
        (
            "{htpasswd: {inline: 'a:{SHA}hunter2'}}",
            "21: extensions::basicauth::htpasswd::inline: line 1: the {SHA} hash",
        ),
        ("{htpasswd: {inline: 'a:'}}", "21: extensions::basicauth::htpasswd::inline: line 1: the password is empty"),
        ("{client_auth: {username: a}}", "15: extensions::basicauth::client_auth::password: give `password` or"),
        (
            "{client_auth: {username: 'a:b', password: hunter2}}",
            "26: extensions::basicauth::client_auth::username: must",
        ),
        ("{client_auth: {username: a, password: ''}}", "39: extensions::basicauth::client_auth::password: give"),
        ("{htpasswd: {inline: 'a:b'}, client_auth: {}}", "1: extensions::basicauth: `htpasswd` and `client_auth` excl"),
    ] {
        let refused = parse(yaml).err().unwrap();
        assert!(refused.starts_with(&format!("{at}{error}")), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}
