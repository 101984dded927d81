//! The conformance suite: the cases that every adapter of [`Store`] passes.
//!
//! With the cargo feature `testing` this module is public, so that a store outside of this crate
//! can be checked against the same rules as those in it:
//!
//! ```toml
//! [dev-dependencies]
//! callpark = { version = "0.2", features = ["testing"] }
//! ```
//!
//! One call runs all cases. Its argument opens a new, empty store for each of them:
//!
//! ```
//! use callpark::store::{MemoryStore, conformance};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! conformance::check_all(async || MemoryStore::new()).await;
//! # });
//! ```
//!
//! A store that needs a folder or a database of its own may hold it in a field, so that it is
//! removed together with the store. To have one test for each case, iterate over [`cases`].

#![expect(clippy::unwrap_used, reason = "a case fails by a panic")]

#[cfg(test)]
mod adapters;
mod append;
mod changes;
mod concurrency;
mod due;
mod events;
mod expiry;
mod follow_ups;
mod lists;
mod live;
mod messages;
mod output;
mod requests;
pub(super) mod world;

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::Store;

/// One rule, and the story that checks it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    name: &'static str,
    run: for<'a> fn(&'a dyn Store) -> BoxFuture<'a, ()>,
}

impl Case {
    /// The name of the case, such as `append::sequences_have_no_gap`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the case on a new, empty store, and closes the store.
    ///
    /// # Panics
    ///
    /// Panics if the store breaks the rule.
    pub async fn check(&self, store: &dyn Store) {
        (self.run)(store).await;
        store.close().await;
    }
}

/// Returns all cases.
pub fn cases() -> &'static [Case] {
    CASES
}

/// Runs all cases, each on a store of its own that `open` returns: new and empty.
///
/// # Panics
///
/// Panics after the last case if any has failed, with the names of those that have.
pub async fn check_all<S: Store>(open: impl AsyncFn() -> S) {
    let mut failed = Vec::new();
    for case in cases() {
        let store = open().await;
        if AssertUnwindSafe(case.check(&store)).catch_unwind().await.is_err() {
            failed.push(case.name());
        }
    }
    let (count, names) = (failed.len(), failed.join(", "));
    assert!(failed.is_empty(), "{count} of {} cases failed: {names}", cases().len());
}

/// Declares the table of all cases, and a test of each case for each adapter of this crate.
macro_rules! suite {
    ($($file:ident { $($case:ident)* })*) => {
        const CASES: &[Case] = &[$($(
            Case {
                name: concat!(stringify!($file), "::", stringify!($case)),
                run: |store| Box::pin($file::$case(store)),
            },
        )*)*];

        #[cfg(test)]
        adapters::test_each_adapter! { $($file { $($case)* })* }
    };
}

suite! {
    append {
        a_new_session_can_be_read
        everything_in_an_append_can_be_read
        every_field_comes_back
        events_come_back_byte_for_byte
        a_wrong_head_leaves_nothing
        a_session_is_made_once
        an_unknown_session_has_no_head
        sequences_have_no_gap
        an_append_must_not_contradict_itself
        without_events_the_head_stays
        the_store_knows_head_first_and_live
        a_deleted_call_is_gone_but_its_events_stay
        only_its_own_session_deletes_a_call
        a_closed_store_says_so
    }
    requests {
        every_effect_comes_back
        tenants_do_not_share_ids
        a_taken_id_leaves_nothing
        an_id_is_used_once_in_an_append
        neighbours_of_a_taken_id_go_on
    }
    events {
        pages_follow_each_other
        the_first_event_may_be_larger_than_the_page
        filters_keep_matches_and_skip_the_rest
        an_unknown_session_is_an_empty_log
        the_end_of_a_closed_log_is_marked
        sessions_do_not_mix
        a_log_among_others_is_whole
    }
    lists {
        tasks_come_newest_first
        calls_in_the_foreground_are_not_listed
        tasks_are_filtered
        a_full_page_at_the_end_has_no_next
        pages_stay_stable_while_tasks_come_and_go
        sessions_come_newest_first_and_filtered
        session_pages_show_current_counts
    }
    changes {
        tasks_come_in_the_order_of_their_last_change
        pages_follow_the_changes
        calls_in_the_foreground_count_but_are_not_shown
        tenants_and_sessions_are_kept_apart
        a_list_and_its_changes_meet
    }
    live {
        live_calls_come_oldest_first
        sessions_with_live_calls_are_paged
        open_sessions_are_counted_up_to_a_number
        the_newest_change_is_that_of_any_session
    }
    messages {
        the_newest_that_fit_come_back_in_order
        the_oldest_are_forgotten
        pages_of_a_history_are_in_order
        messages_go_in_with_the_rest_or_not_at_all
        a_history_goes_with_its_session
    }
    output {
        every_offset_finds_its_piece
        tails_hold_enough_bytes
        pages_hold_enough_bytes
        counts_of_kept_and_dropped_bytes_are_exact
        a_call_without_output_is_empty_and_one_that_is_not_there_is_none
        calls_do_not_mix
    }
    expiry {
        ended_calls_go_at_their_time
        a_call_takes_its_requests_along
        requests_about_no_call_go_by_age
        requests_of_a_deleted_call_go_by_age
        a_session_goes_when_it_is_done_and_empty
        a_removed_session_leaves_nothing
        rounds_are_short
        long_logs_lose_their_front
        trimmed_output_is_counted_as_dropped
        change_numbers_do_not_go_back
    }
    follow_ups {
        every_field_comes_back
        puts_of_one_append_follow_each_other
        a_task_stays_as_it_was_first_stored
        an_append_that_fails_leaves_none
        lists_come_newest_first_and_filtered
        pages_stay_stable_while_follow_ups_come_and_change
        they_go_at_their_time
        a_follow_up_keeps_its_session
    }
    due {
        due_follow_ups_come_in_the_order_of_their_times
        each_scope_sees_only_its_own
        changed_follow_ups_are_due_in_their_new_state
        leased_ones_are_found_by_the_request
        sessions_that_wait_the_longest_come_first
    }
    concurrency {
        many_sessions_are_written_at_once
        one_of_many_writers_wins
        reads_see_whole_appends
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn a_store_that_follows_the_rules_passes() {
        check_all(async || MemoryStore::new()).await;
    }

    #[tokio::test]
    #[should_panic(expected = "cases failed: append::a_new_session_can_be_read, append::")]
    async fn the_cases_that_failed_are_named() {
        check_all(async || {
            let store = MemoryStore::new();
            store.close().await;
            store
        })
        .await;
    }
}
