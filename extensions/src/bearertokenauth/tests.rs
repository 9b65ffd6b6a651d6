use weir_pipeline::config::Node;

use super::*;

fn parse(yaml: &str) -> Result<Settings, String> {
    let node = Node::parse("weir.yaml", yaml).unwrap();
    Settings::parse(&node, "extensions::bearertokenauth").map_err(|e| e.to_string())
}

fn auth(yaml: &str) -> BearerTokenAuth {
    BearerTokenAuth::new(parse(yaml).unwrap(), "bearertokenauth".to_owned())
}

fn ask(auth: &BearerTokenAuth, name: &str, value: &str) -> Result<(), String> {
    auth.authenticate(&|wanted| (wanted == name).then_some(value)).map(drop).map_err(|denied| denied.to_string())
}

#[test]
fn who_shows_a_token_is_let_in() {
    let auth = auth("{tokens: [abc, def]}");
    for good in ["Bearer abc", "bearer def", "BEARER  abc "] {
        assert_eq!(ask(&auth, "authorization", good), Ok(()), "{good}");
    }
    for bad in ["Bearer abcd", "Bearer ab", "Bearer ", "Bearer abc def", "Bearer ABC"] {
        assert_eq!(ask(&auth, "authorization", bad), Err("the token is not known".to_owned()), "{bad}");
    }
    for bad in ["abc", "Bearerabc", "Basic abc", "", "Béarer abc"] {
        assert_eq!(
            ask(&auth, "authorization", bad),
            Err("the token is not of the expected scheme".to_owned()),
            "{bad}"
        );
    }
    assert_eq!(ask(&auth, "x-token", "Bearer abc"), Err("the header with the token is missing".to_owned()));
}

#[test]
fn scheme_and_header_can_be_others() {
    let auth = auth("{scheme: '', header: X-Api-Key, token: abc}");
    assert_eq!(ask(&auth, "x-api-key", "abc"), Ok(()));
    assert_eq!(auth.edits(None), Ok(vec![HeaderEdit::Upsert("x-api-key".to_owned(), "abc".into())]));
}

#[tokio::test]
async fn a_file_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let mut auth = auth(&format!("{{filename: '{}'}}", path.display()));
    let refused = auth.start().await.unwrap_err().to_string();
    assert!(refused.starts_with("bearertokenauth: cannot read "), "{refused}");
    auth.tokens = Tokens::File(Watched::new(&path, TokenSet::parse).always_looking());
    std::fs::write(&path, "one\ntwo\n").unwrap();
    auth.start().await.unwrap();
    assert_eq!(ask(&auth, "authorization", "Bearer two"), Ok(()));
    assert_eq!(auth.edits(None), Ok(vec![HeaderEdit::Upsert("authorization".to_owned(), "Bearer one".into())]));
    std::fs::write(&path, "three").unwrap();
    assert_eq!(ask(&auth, "authorization", "Bearer three"), Ok(()));
    assert!(ask(&auth, "authorization", "Bearer two").is_err());
    std::fs::write(&path, "\n").unwrap();
    assert_eq!(ask(&auth, "authorization", "Bearer three"), Ok(()), "an empty file revokes nothing");
}

#[test]
fn what_is_wrong_is_said_and_tokens_are_not() {
    for (yaml, error) in [
        ("{}", "weir.yaml:1:1: extensions::bearertokenauth: there is no token: give `token`"),
        ("{token: ''}", "weir.yaml:1:9: extensions::bearertokenauth::token: a token must not be empty"),
        ("{token: \"hunter2\\n\"}", "weir.yaml:1:9: extensions::bearertokenauth::token: a token has characters"),
        ("{tokens: []}", "weir.yaml:1:10: extensions::bearertokenauth::tokens: there must be at least one"),
        ("{token: hunter2, filename: f}", "weir.yaml:1:1: extensions::bearertokenauth: `token`, `tokens` and"),
        ("{header: 'a b', token: hunter2}", "weir.yaml:1:10: extensions::bearertokenauth::header: is not the name"),
        ("{tokn: hunter2}", "weir.yaml:1:2: extensions::bearertokenauth: unknown key `tokn`: did you mean `token`?"),
    ] {
        let refused = parse(yaml).err().unwrap();
        assert!(refused.starts_with(error), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}
