use std::time::{Duration, Instant};

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
    Server { id: "basicauth".to_owned(), file, inline: Arc::new(inline) }
}

fn ask(server: &Server, user: &str, password: &str) -> Option<String> {
    let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let identity = server.authenticate(&|name| (name == "authorization").then_some(value.as_str())).ok()?;
    identity.get("username").map(str::to_owned)
}

#[test]
fn every_kind_of_hash_lets_in_who_knows_the_password() {
    let apr1 = md5_crypt::hash(md5_crypt::APACHE, "salt", "secret");
    let unix = md5_crypt::hash(md5_crypt::UNIX, "salt", "secret");
    let text = format!("# users\nsha:{SHA}\nssha:{SSHA}\nbcrypt:{BCRYPT}\n\napr1:{apr1}\nunix:{unix}\nplain:secret\n");
    let server = server(&text, None);
    for user in ["sha", "ssha", "bcrypt", "apr1", "unix", "plain"] {
        // Twice: the second time it is remembered.
        for _ in 0..2 {
            assert_eq!(ask(&server, user, "secret").as_deref(), Some(user));
            assert_eq!(ask(&server, user, "Secret"), None, "{user}");
            assert_eq!(ask(&server, user, ""), None, "{user}");
        }
    }
    assert_eq!(ask(&server, "nobody", "secret"), None);
}

#[test]
fn a_password_may_contain_colons_and_a_header_must_be_well_formed() {
    let server = server("a:b:c\n", None);
    assert_eq!(ask(&server, "a", "b:c").as_deref(), Some("a"));
    for value in ["", "Basic", "Basic !", "Bearer YTpiOmM=", "Basic YQ==", &format!("Basic {}", "A".repeat(5000))] {
        let denied = server.authenticate(&|_| Some(value)).unwrap_err();
        assert!(denied.to_string().contains("is not of the form"), "{value}");
    }
    assert!(server.authenticate(&|_| Some("basic YTpiOmM=")).is_ok());
    assert!(server.authenticate(&|_| None).unwrap_err().to_string().contains("missing"));
}

#[test]
fn bcrypt_is_run_once() {
    // Cost 10 takes tens of milliseconds at least.
    let hash = bcrypt::hash("secret", 10).unwrap();
    let server = server(&format!("alice:{hash}"), None);
    let first = Instant::now();
    assert!(ask(&server, "alice", "secret").is_some());
    let first = first.elapsed();
    let rest = Instant::now();
    for _ in 0..100 {
        assert!(ask(&server, "alice", "secret").is_some());
    }
    assert!(rest.elapsed() < first, "{:?} for 100 after {first:?}", rest.elapsed());
    assert!(first > Duration::from_millis(1));
}

#[tokio::test]
async fn a_changed_file_is_believed_at_once_and_forgets_old_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    std::fs::write(&path, "alice:one\nbob:file\n").unwrap();
    let server = server("bob:inline\n", Some(Watched::new(&path, Users::parse).always_looking()));
    server.start().await.unwrap();
    assert!(ask(&server, "alice", "one").is_some());
    assert!(ask(&server, "bob", "inline").is_some() && ask(&server, "bob", "file").is_none());
    std::fs::write(&path, "alice:another\n").unwrap();
    assert!(ask(&server, "alice", "one").is_none() && ask(&server, "alice", "another").is_some());
    std::fs::write(&path, "alice\n").unwrap();
    assert!(ask(&server, "alice", "another").is_some(), "a broken file changes nothing");
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
