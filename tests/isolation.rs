//! No span of one project is ever visible to another (I4), whatever happens: a property test on the real binary.
//!
//! A case is made of a seed. It has three or four projects, some of whose names begin with others, each with the built-in
//! environments and one of its own, a key for each environment, and one key that is written in the configuration. Then
//! come steps, each of them one of
//!
//! * a key that is made, or revoked, by the admin API;
//! * up to five requests at once, so that they are joined on their way, over HTTP or gRPC: with a key that is good,
//!   revoked, cut, changed, in two headers, of the wrong scheme, or no key at all; with headers, a query string and
//!   attributes of resources and spans that name other projects and environments, nobody, paths or SQL, as texts, bytes
//!   and lists, also twice; and some with what the destination of the first project refuses for good.
//!
//! Every span is marked in its name, an attribute and its resource. A list of who sent what with which key is the oracle:
//! what is in the rows of each project and of one environment, in what its destination was sent, in the counts of the
//! admin API and the metrics, is exactly its own; and no answer, error, header, label or line of the log shows a key, a
//! span or another project. Somebody who has `weir sql --project P --env E` gets nothing else by hostile statements.
//!
//! Cases run for [`BUDGET`]. When one fails, it is tried with fewer and fewer steps, and told with its seed, which
//! `WEIR_ISOLATION_SEED` runs again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "lake")]

#[path = "isolation/plan.rs"]
mod plan;
mod support;
#[path = "isolation/world.rs"]
mod world;

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use plan::{Plan, Random};
use world::World;

/// No further case begins after this time.
const BUDGET: Duration = Duration::from_secs(15);

/// A case alone, which a mistake of this test itself must not keep from being told.
async fn run(seed: u64, plan: &Plan, steps: usize) -> Result<()> {
    let mut world = World::start(plan).await?;
    for (number, step) in plan.steps[..steps].iter().enumerate() {
        world.step(number, step).await.with_context(|| format!("in step {number}"))?;
    }
    world.look(&mut Random::new(!seed)).await
}

/// The fewest of the first steps with which the case fails, and how. Not every failure comes each time.
async fn shrink(seed: u64, plan: &Plan, failure: anyhow::Error) -> (usize, anyhow::Error) {
    let (mut good, mut bad, mut failure) = (0, plan.steps.len(), failure);
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        match run(seed, plan, middle).await {
            Ok(()) => good = middle,
            Err(error) => (bad, failure) = (middle, error),
        }
    }
    (bad, failure)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_span_is_ever_seen_by_another_project() {
    let given = std::env::var("WEIR_ISOLATION_SEED").ok();
    let given = given.map(|seed| seed.parse::<u64>().expect("WEIR_ISOLATION_SEED is a number"));
    let began = Instant::now();
    let mut seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
    loop {
        let plan = Plan::of(seed);
        if let Err(failure) = run(seed, &plan, plan.steps.len()).await {
            let (steps, failure) = shrink(seed, &plan, failure).await;
            panic!("WEIR_ISOLATION_SEED={seed} fails with {steps} of {} steps: {failure:#}", plan.steps.len());
        }
        if given.is_some() || began.elapsed() > BUDGET {
            return;
        }
        seed = seed.wrapping_add(1);
    }
}
