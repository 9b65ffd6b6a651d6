use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60_000_000_000;
const LIMITS: Limits = Limits { window: MINUTE, max_calls: 1_000 };

fn id(trace: u8, span: u8) -> SpanId {
    SpanId { trace: [trace; 16], span: [span; 8] }
}

/// A priced call of 10 and 20 tokens from 100 to 200.
fn call(trace: u8, span: u8) -> Call {
    Call {
        id: id(trace, span),
        parent: None,
        response: None,
        counts: [10, 20],
        time: [100, 200],
        is_priced: true,
        is_estimate: false,
        rank: Rank::Provider,
    }
}

fn with_id(calls: &Calls, call: Call, response_id: &str) -> Call {
    Call { response: Some(calls.response_key(b"", b"", response_id.as_bytes())), ..call }
}

#[test]
fn the_first_of_a_response_is_billed_whatever_the_trace() {
    let calls = Calls::new(LIMITS);
    let first = with_id(&calls, call(1, 1), "msg_1");
    assert_eq!(calls.claim(&first, 0), Claim::Billed);
    // A native span of its own trace, whose stream was counted otherwise.
    let native = Call { counts: [10, 21], time: [110, 190], rank: Rank::Native, ..call(2, 2) };
    let native = with_id(&calls, native, "msg_1");
    assert_eq!(calls.claim(&native, 0), Claim::Duplicate(id(1, 1)));
    assert_eq!(calls.claim(&with_id(&calls, call(3, 3), "msg_2"), 0), Claim::Billed, "another response");
    let of = |project: &[u8], environment: &[u8]| Some(calls.response_key(project, environment, b"msg_1"));
    assert_eq!(calls.claim(&Call { response: of(b"b", b""), ..call(4, 4) }, 0), Claim::Billed, "another project");
    assert_eq!(calls.claim(&Call { response: of(b"", b"dev"), ..call(5, 5) }, 0), Claim::Billed, "and environment");
    assert_eq!(calls.claim(&Call { response: of(b"", b"dev"), ..call(6, 6) }, 0), Claim::Duplicate(id(5, 5)));
}

#[test]
fn one_id_for_several_calls_does_not_make_them_one() {
    let calls = Calls::new(LIMITS);
    assert_eq!(calls.claim(&with_id(&calls, call(1, 1), "chatcmpl-1"), 0), Claim::Billed);
    let later = Call { time: [2_000_000_000, 2_000_000_100], ..with_id(&calls, call(1, 2), "chatcmpl-1") };
    assert_eq!(calls.claim(&Call { counts: [11, 20], ..later }, 0), Claim::Billed, "other counts at another time");
    let replayed = Call { id: id(2, 3), time: [4_000_000_000, 4_000_000_100], counts: [11, 20], ..later };
    assert_eq!(calls.claim(&replayed, 0), Claim::Billed, "same counts, but another trace at another time");
    let again = Call { id: id(2, 4), time: [9_000_000_000, 9_000_000_100], ..replayed };
    assert_eq!(calls.claim(&again, 0), Claim::Duplicate(id(2, 3)), "same counts in the same trace");
}

#[test]
fn calls_of_one_id_that_overlap_are_one_only_with_the_same_trace_or_counts() {
    let calls = Calls::new(LIMITS);
    for (trace, counts) in [(1, [1000, 100]), (2, [2000, 50]), (3, [3000, 50]), (4, [4000, 50])] {
        let other = Call { counts, time: [100, 200], ..with_id(&calls, call(trace, 1), "chatcmpl-123") };
        assert_eq!(calls.claim(&other, 0), Claim::Billed, "{trace}");
    }
    let native = Call { counts: [4001, 50], rank: Rank::Native, ..with_id(&calls, call(6, 1), "chatcmpl-123") };
    assert_eq!(calls.claim(&native, 0), Claim::Billed, "another input, so another call");
    let calls = Calls::new(LIMITS);
    let billed = Call { counts: [4000, 50], ..with_id(&calls, call(4, 1), "chatcmpl-123") };
    assert_eq!(calls.claim(&billed, 0), Claim::Billed);
    // In one trace streams may be counted differently, …
    let framework = Call { counts: [4000, 51], ..with_id(&calls, call(4, 2), "chatcmpl-123") };
    assert_eq!(calls.claim(&framework, 0), Claim::Duplicate(id(4, 1)));
    let other = Call { counts: [9, 19], rank: Rank::Framework, ..with_id(&calls, call(4, 3), "chatcmpl-123") };
    assert_eq!(calls.claim(&other, 0), Claim::Duplicate(id(4, 1)), "and frameworks count what they know");
    // … and an estimate is a guess at the same.
    let estimate = Call { counts: [4100, 49], is_estimate: true, ..with_id(&calls, call(5, 1), "chatcmpl-123") };
    assert_eq!(calls.claim(&estimate, 0), Claim::Duplicate(id(4, 1)));
    // Two guesses of one kind are of two calls if they differ, and one of another moment is of another call.
    let calls = Calls::new(LIMITS);
    for (n, tokens) in [4100, 4200, 4300].into_iter().enumerate() {
        let span = u8::try_from(n + 1).unwrap();
        let time = [1000 * n as u64, 1000 * n as u64 + 100];
        let guess =
            Call { counts: [tokens, 49], is_estimate: true, time, ..with_id(&calls, call(5, span), "the-only-id") };
        assert_eq!(calls.claim(&guess, 0), Claim::Billed, "{tokens}");
    }
    let calls = Calls::new(LIMITS);
    let billed = Call { counts: [4000, 50], ..with_id(&calls, call(4, 1), "chatcmpl-123") };
    assert_eq!(calls.claim(&billed, 0), Claim::Billed);
    // Calls that an agent makes at once.
    let sibling = Call { counts: [5000, 50], ..with_id(&calls, call(4, 4), "chatcmpl-123") };
    assert_eq!(calls.claim(&sibling, 0), Claim::Billed, "another input of the same emitter");
}

#[test]
fn a_span_sent_twice_gets_the_same_answer_twice() {
    let calls = Calls::new(LIMITS);
    let (first, second) = (with_id(&calls, call(1, 1), "a"), with_id(&calls, call(2, 2), "a"));
    assert_eq!(calls.claim(&first, 0), Claim::Billed);
    assert_eq!(calls.claim(&second, 0), Claim::Duplicate(id(1, 1)));
    assert_eq!(calls.claim(&first, 1), Claim::BilledBefore);
    assert_eq!(calls.claim(&second, 1), Claim::Duplicate(id(1, 1)));
    let without = call(3, 3);
    assert_eq!(calls.claim(&without, 0), Claim::Billed);
    assert_eq!(calls.claim(&without, 0), Claim::BilledBefore);
}

#[test]
fn parent_and_child_of_equal_counts_are_one_call_in_either_order() {
    let child = Call { parent: Some([1; 8]), ..call(1, 2) };
    for order in [[call(1, 1), child], [child, call(1, 1)]] {
        let calls = Calls::new(LIMITS);
        assert_eq!(calls.claim(&order[0], 0), Claim::Billed);
        assert_eq!(calls.claim(&order[1], 0), Claim::Duplicate(order[0].id));
    }
    // Three in a row, the middle one not billed.
    let calls = Calls::new(LIMITS);
    let inner = Call { parent: Some([2; 8]), ..call(1, 3) };
    assert_eq!(calls.claim(&inner, 0), Claim::Billed);
    assert_eq!(calls.claim(&child, 0), Claim::Duplicate(inner.id));
    assert_eq!(calls.claim(&call(1, 1), 0), Claim::Duplicate(inner.id));
    // Other counts: a tool inside the call made one of its own.
    let calls = Calls::new(LIMITS);
    assert_eq!(calls.claim(&child, 0), Claim::Billed);
    assert_eq!(calls.claim(&Call { counts: [11, 20], ..call(1, 1) }, 0), Claim::Billed);
    // Another trace with the same span ids.
    assert_eq!(calls.claim(&call(9, 1), 0), Claim::Billed);
}

#[test]
fn a_sum_of_children_is_an_aggregate() {
    let calls = Calls::new(LIMITS);
    for span in [2, 3] {
        assert_eq!(calls.claim(&Call { parent: Some([1; 8]), ..call(1, span) }, 0), Claim::Billed);
    }
    assert_eq!(calls.claim(&Call { counts: [20, 40], ..call(1, 1) }, 0), Claim::Aggregate(id(1, 2)));
    // By its kind, whatever it counts, and one more above it.
    let agent = Call { parent: Some([7; 8]), ..call(1, 5) };
    assert_eq!(calls.claim(&Call { parent: Some([5; 8]), ..call(1, 6) }, 0), Claim::Billed);
    assert_eq!(calls.claims(&[]).below(agent.id, agent.parent, 0), Some(id(1, 6)));
    assert_eq!(calls.claims(&[]).below(id(1, 7), None, 0), Some(id(1, 6)));
    assert_eq!(calls.claims(&[]).below(id(1, 8), None, 0), None);
}

#[test]
fn siblings_of_one_call_are_counted_once_in_their_parent() {
    let calls = Calls::new(LIMITS);
    let parent = Some([1; 8]);
    assert_eq!(calls.claim(&Call { parent, ..with_id(&calls, call(1, 2), "a") }, 0), Claim::Billed);
    assert_eq!(calls.claim(&Call { parent, ..with_id(&calls, call(1, 3), "a") }, 0), Claim::Duplicate(id(1, 2)));
    assert_eq!(calls.claim(&call(1, 1), 0), Claim::Duplicate(id(1, 2)));
}

#[test]
fn a_stream_log_is_the_native_span_of_the_same_moment() {
    let calls = Calls::new(LIMITS);
    let native = Call { rank: Rank::Native, ..with_id(&calls, call(1, 1), "msg") };
    let log = Call { rank: Rank::StreamLog, time: [200, 200], ..call(1, 2) };
    assert_eq!(calls.claim(&native, 0), Claim::Billed);
    assert_eq!(calls.claim(&log, 0), Claim::Duplicate(id(1, 1)));
    assert_eq!(calls.claim(&Call { time: [MINUTE, MINUTE], ..Call { id: id(1, 3), ..log } }, 0), Claim::Billed);
}

#[test]
fn an_estimate_is_the_same_call_whatever_it_counts() {
    let calls = Calls::new(LIMITS);
    assert_eq!(calls.claim(&Call { parent: Some([1; 8]), ..call(1, 2) }, 0), Claim::Billed);
    let estimate = Call { counts: [9, 19], is_estimate: true, ..call(1, 1) };
    assert_eq!(calls.claim(&estimate, 0), Claim::Duplicate(id(1, 2)));
}

#[test]
fn only_what_has_a_price_is_billed() {
    let calls = Calls::new(LIMITS);
    let unpriced = Call { is_priced: false, ..with_id(&calls, call(1, 1), "a") };
    assert_eq!(calls.claim(&unpriced, 0), Claim::Unpriced);
    assert_eq!(calls.claim(&with_id(&calls, call(1, 2), "a"), 0), Claim::Billed);
    assert_eq!(calls.claim(&unpriced, 0), Claim::Duplicate(id(1, 2)));
}

#[test]
fn what_is_remembered_is_bounded_in_time_and_number() {
    let calls = Calls::new(LIMITS);
    let first = with_id(&calls, call(1, 1), "a");
    assert_eq!(calls.claim(&first, 0), Claim::Billed);
    let second = with_id(&calls, call(2, 2), "a");
    assert_eq!(calls.claim(&second, MINUTE), Claim::Duplicate(id(1, 1)), "and is used then");
    let third = with_id(&calls, call(3, 3), "a");
    assert_eq!(calls.claim(&third, 2 * MINUTE), Claim::Duplicate(id(1, 1)));
    assert_eq!(calls.claim(&with_id(&calls, call(4, 4), "a"), 3 * MINUTE + 1), Claim::Billed, "forgotten");

    let calls = Calls::new(LIMITS);
    for n in 0..10_000u32 {
        let mut one = with_id(&calls, call(1, 1), &n.to_string());
        one.id.trace[..4].copy_from_slice(&n.to_le_bytes());
        assert_eq!(calls.claim(&Call { parent: Some([9; 8]), ..one }, u64::from(n)), Claim::Billed);
    }
    assert_eq!(calls.len(), LIMITS.max_calls * RECORDS_PER_CALL);
}

#[test]
fn of_many_threads_exactly_one_is_billed() {
    let calls = Arc::new(Calls::new(LIMITS));
    let threads: Vec<_> = (0..8u8)
        .map(|thread| {
            let calls = Arc::clone(&calls);
            std::thread::spawn(move || {
                (0..200u32)
                    .filter(|n| {
                        // Each thread has one span a response; its own span ids differ by the response.
                        let mut one = with_id(&calls, call(thread, 1), &n.to_string());
                        one.id.span[..4].copy_from_slice(&n.to_le_bytes());
                        calls.claim(&one, 0) == Claim::Billed
                    })
                    .count()
            })
        })
        .collect();
    let billed: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
    assert_eq!(billed, 200);
}

#[test]
fn ranks_go_by_the_scope() {
    assert_eq!(Rank::of("com.anthropic.sdk.python", false), Rank::Native);
    assert_eq!(Rank::of("opentelemetry.instrumentation.anthropic", false), Rank::Provider);
    assert_eq!(Rank::of("opentelemetry.instrumentation.langchain", false), Rank::Framework);
    assert_eq!(Rank::of("opentelemetry.instrumentation.litellm", false), Rank::Gateway);
    assert_eq!(Rank::of("ai", false), Rank::Framework);
    assert_eq!(Rank::of("logfire.openai", true), Rank::StreamLog);
    assert!(Rank::Native < Rank::Provider && Rank::Provider < Rank::Framework);
}

proptest! {
    /// Whatever the order: of the spans of one response one is billed, and the others name it.
    #[test]
    fn one_of_each_response_is_billed(spans in proptest::collection::vec((0u8..6, 0u8..8, 0u8..8, any::<bool>()), 1..60)) {
        let calls = Calls::new(LIMITS);
        let mut billed = std::collections::BTreeMap::new();
        for (response, span, parent, priced) in spans {
            let one = with_id(&calls, call(response, span), &response.to_string());
            // Counts differ by response, so that only the id joins across traces.
            let counts = [u64::from(response), 1];
            let one = Call { counts, is_priced: priced, parent: (parent != span).then_some([parent; 8]), ..one };
            match calls.claim(&one, 0) {
                Claim::Billed => prop_assert_eq!(billed.insert(response, one.id), None),
                Claim::BilledBefore => prop_assert_eq!(billed.get(&response), Some(&one.id)),
                Claim::Duplicate(of) => prop_assert_eq!(billed.get(&response), Some(&of)),
                Claim::Unpriced => prop_assert!(!billed.contains_key(&response)),
                Claim::Aggregate(of) => prop_assert!(false, "{:?} of {:?}", one, of),
            }
        }
    }
}
