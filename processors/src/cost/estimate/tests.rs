use proptest::prelude::*;

use super::*;

#[test]
fn vocabularies_go_by_the_family_of_the_model() {
    for (model, vocabulary) in [
        ("gpt-4o-mini", Some(Vocabulary::O200k)),
        ("openai/gpt-4.1-nano", Some(Vocabulary::O200k)),
        ("ft:gpt-4o-2024-08-06:org::id", Some(Vocabulary::O200k)),
        ("GPT-4-0613", Some(Vocabulary::Cl100k)),
        ("gpt-3.5-turbo-instruct", Some(Vocabulary::Cl100k)),
        ("gpt-35-turbo", Some(Vocabulary::Cl100k)),
        ("gpt-4o-audio-preview", None),
        ("gpt-5-mini", None),
        ("o3", None),
        ("gpt-oss-20b", None),
        ("my-gpt-4o", None),
        ("claude-3-5-haiku", None),
        ("", None),
    ] {
        assert_eq!(Vocabulary::of(model), vocabulary, "{model}");
    }
}

#[test]
fn tokens_are_openais() {
    let o200k = Vocabulary::O200k.tokenizer();
    assert_eq!(count(o200k, ""), 0);
    // The example of the cookbook.
    assert_eq!(count(Vocabulary::Cl100k.tokenizer(), "tiktoken is great!"), 6);
    // A text that is cut into pieces has a token more at each cut, at most.
    let long = "one two three four five. ".repeat(4_000);
    let whole = o200k.count_ordinary(&long) as u64;
    let pieces = (long.len() / PIECE) as u64 + 1;
    let cut = count(o200k, &long);
    assert!((whole..=whole + pieces).contains(&cut), "{cut} for {whole}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The tokenizer's patterns look back and ahead: no text may make them give up.
    #[test]
    fn no_text_is_too_much(part in "[ \t\r\n\u{3000}a-zA-Z0-9'.é漢🦀]{1,4}", times in 1usize..40_000) {
        let text = part.repeat(times.min(MAX_BYTES / part.len()));
        prop_assert!(count(Vocabulary::O200k.tokenizer(), &text) > 0);
    }
}
