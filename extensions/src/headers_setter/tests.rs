use weir_pipeline::config::Node;
use weir_pipeline::metadata::Identity;

use super::*;

fn parse(yaml: &str) -> Result<Arc<HeadersSetter>, String> {
    let node = Node::parse("weir.yaml", yaml).unwrap();
    let settings = Settings::parse(&node, "extensions::headers_setter").map_err(|e| e.to_string())?;
    Ok(Arc::new(HeadersSetter { settings }))
}

const EVERYTHING: &str = "
headers:
  - {key: X-Scope-OrgID, action: insert, from_context: X-Tenant, default_value: nobody}
  - {key: x-other, action: update, from_context: metadata.x-other}
  - {key: X-User, from_attribute: username}
  - {key: X-User2, from_context: auth.username, default_value: anonymous}
  - {key: X-Team, action: upsert, value: llm}
  - {key: X-Debug, action: delete}
";

#[test]
fn values_come_from_the_client_from_who_it_is_or_from_the_configuration() {
    let setter = parse(EVERYTHING).unwrap();
    let identity = Identity::new(vec![("username", "alice".into())]);
    let metadata = Metadata::new([("x-tenant", "acme"), ("X-Other", "o")]).with_identity(Arc::new(identity));
    let text = |s: &str| s.to_owned();
    assert_eq!(
        setter.edits(Some(&metadata)).unwrap(),
        [
            HeaderEdit::Insert(text("x-scope-orgid"), "acme".into()),
            HeaderEdit::Update(text("x-other"), "o".into()),
            HeaderEdit::Upsert(text("x-user"), "alice".into()),
            HeaderEdit::Upsert(text("x-user2"), "alice".into()),
            HeaderEdit::Upsert(text("x-team"), "llm".into()),
            HeaderEdit::Delete(text("x-debug")),
        ]
    );
    assert_eq!(
        setter.edits(None).unwrap(),
        [
            HeaderEdit::Insert(text("x-scope-orgid"), "nobody".into()),
            HeaderEdit::Upsert(text("x-user2"), "anonymous".into()),
            HeaderEdit::Upsert(text("x-team"), "llm".into()),
            HeaderEdit::Delete(text("x-debug")),
        ]
    );
}

#[test]
fn it_says_what_it_reads() {
    let reads = parse(EVERYTHING).unwrap().reads();
    assert_eq!((&reads.headers[..], reads.is_unknown), (&["x-tenant", "x-other"].map(str::to_owned)[..], false));
    assert_eq!(reads.attributes, ["username", "username"]);
}

#[test]
fn what_is_not_clear_or_no_header_is_not_sent() {
    let setter = parse(EVERYTHING).unwrap();
    let twice = Metadata::new([("x-tenant", "acme"), ("X-TENANT", "other")]);
    let error = setter.edits(Some(&twice)).unwrap_err();
    assert_eq!(error, "the client sent the header X-Tenant more than once: it is not clear which is meant");
    let identity = Identity::new(vec![("username", "a\nx-evil: 1".into())]);
    let error = setter.edits(Some(&Metadata::new([]).with_identity(Arc::new(identity)))).unwrap_err();
    assert_eq!(error, "a value has characters that a header cannot carry");
}

#[test]
fn what_is_wrong_is_said_and_where() {
    for (yaml, error) in [
        ("{}", "weir.yaml:1:1: extensions::headers_setter::headers: there must be at least one"),
        ("{headers: [{}]}", "weir.yaml:1:12: extensions::headers_setter::headers[0]::key: is not the name of a header"),
        ("{headers: [{key: a}]}", "weir.yaml:1:12: extensions::headers_setter::headers[0]: there is no value: give"),
        (
            "{headers: [{key: a, value: b, from_context: c}]}",
            "weir.yaml:1:12: extensions::headers_setter::headers[0]: `v",
        ),
        (
            "{headers: [{key: a, value: b, action: delete}]}",
            "weir.yaml:1:39: extensions::headers_setter::headers[0]::action",
        ),
        (
            "{headers: [{key: a, value: b, default_value: c}]}",
            "weir.yaml:1:46: extensions::headers_setter::headers[0]::def",
        ),
        (
            "{headers: [{key: a, value: \"b\\n\"}]}",
            "weir.yaml:1:28: extensions::headers_setter::headers[0]::value: has",
        ),
        (
            "{headers: [{key: a, valu: b}]}",
            "weir.yaml:1:21: extensions::headers_setter::headers[0]: unknown key `valu`",
        ),
        ("{headers: [{key: a, action: set}]}", "weir.yaml:1:29: extensions::headers_setter::headers[0]::action: "),
    ] {
        let refused = parse(yaml).err().unwrap();
        assert!(refused.starts_with(error), "{refused}");
    }
}
