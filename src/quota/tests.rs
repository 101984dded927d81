//! Limits under requests at the same time, and the entries of tenants.

use std::thread;

use super::*;

fn quotas(change: impl FnOnce(&mut TenantLimits)) -> Quotas {
    let mut limits = TenantLimits::unlimited("*");
    change(&mut limits);
    Quotas::new(vec![limits], Metrics::default())
}

fn tenant(name: &str) -> Tenant {
    Tenant::new(name)
}

#[test]
fn of_many_at_the_same_time_exactly_as_many_pass_as_the_limit_says() {
    let quotas = quotas(|limits| limits.max_live_calls = Some(7));
    let acme = tenant("acme");
    let hold = || quotas.hold(&acme, Use::LiveCall).map(|held| held.expect("a limit"));
    for _ in 0..20 {
        let held: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..64).map(|_| scope.spawn(hold)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(held.iter().filter(|held| held.is_ok()).count(), 7);
    }
    assert!(hold().is_ok(), "what was held was given back");
}

#[test]
fn starts_cost_other_requests_nothing() {
    let quotas = quotas(|limits| {
        (limits.starts_per_second, limits.starts_burst) = (Some(0.01), Some(2));
        limits.requests_per_second = Some(0.01);
    });
    let request = |name, kind| quotas.request(&tenant(name), kind);
    assert_eq!(request("acme", RequestKind::Start), Ok(()));
    assert_eq!(request("acme", RequestKind::Start), Ok(()));
    let exceeded = request("acme", RequestKind::Start).expect_err("the burst is over");
    assert_eq!((exceeded.limit, exceeded.maximum.as_str()), (TenantLimit::StartsPerSecond, "0.01"));
    let wait = exceeded.retry_after.as_secs();
    assert!((90..=100).contains(&wait), "one request in 100 s: {wait}");
    assert_eq!(request("acme", RequestKind::Other), Ok(()));
    assert_eq!(request("other", RequestKind::Start), Ok(()), "another tenant has its own");
}

#[test]
fn streams_that_start_something_leave_a_quarter() {
    let quotas = quotas(|limits| limits.max_streams = Some(4));
    let acme = tenant("acme");
    let starting: Vec<_> = (0..3).map(|_| quotas.hold(&acme, Use::StartStream)).collect();
    assert!(starting.iter().all(Result::is_ok));
    assert!(quotas.hold(&acme, Use::StartStream).is_err());
    let reading = quotas.hold(&acme, Use::Stream);
    assert!(reading.is_ok());
    assert!(quotas.hold(&acme, Use::Stream).is_err());
}

#[test]
fn what_exists_counts_beyond_the_limit() {
    let quotas = quotas(|limits| limits.max_running_calls = Some(1));
    let acme = tenant("acme");
    let kept: Vec<_> = (0..3).map(|_| quotas.keep(&acme, Use::RunningCall)).collect();
    assert!(quotas.hold(&acme, Use::RunningCall).is_err());
    drop(kept);
    assert!(quotas.hold(&acme, Use::RunningCall).is_ok());
    assert!(quotas.keep(&acme, Use::LiveCall).is_none(), "there is no such limit");
}

#[test]
fn the_first_table_that_matches_is_that_of_a_tenant() {
    let table =
        |name, max| TenantLimits { max_streams: Some(max), ..TenantLimits::unlimited(name) };
    let tables = vec![table("acme", 2), TenantLimits::unlimited("vip-*"), table("*", 1)];
    let quotas = Quotas::new(tables, Metrics::default());
    let streams = |name: &str| {
        let held: Vec<_> = (0..5).map(|_| quotas.hold(&tenant(name), Use::Stream)).collect();
        held.iter().filter(|held| held.is_ok()).count()
    };
    assert_eq!([streams("acme"), streams("vip-7"), streams("someone")], [2, 5, 1]);
}

#[tokio::test(start_paused = true)]
async fn entries_of_idle_tenants_are_dropped() {
    let quotas = quotas(|limits| {
        limits.requests_per_second = Some(1.0);
        limits.max_live_calls = Some(1);
    });
    let entries = || {
        quotas.0.as_ref().map_or(0, |shared| shared.entries.lock().expect("no panic").tenants.len())
    };
    let held = quotas.hold(&tenant("at-work"), Use::LiveCall);
    for index in 0..ENTRIES_BEFORE_SWEEP {
        assert_eq!(quotas.request(&tenant(&format!("t{index}")), RequestKind::Other), Ok(()));
    }
    assert!(entries() > ENTRIES_BEFORE_SWEEP, "none of them is idle: {}", entries());
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    for index in 0..=ENTRIES_BEFORE_SWEEP {
        assert_eq!(quotas.request(&tenant(&format!("u{index}")), RequestKind::Other), Ok(()));
    }
    assert!(entries() <= ENTRIES_BEFORE_SWEEP + 2, "the first ones are gone: {}", entries());
    assert!(quotas.hold(&tenant("at-work"), Use::LiveCall).is_err(), "what is held still counts");
    drop(held);
}
