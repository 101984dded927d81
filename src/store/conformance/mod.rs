//! What every adapter must do, told once and run for each.

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

use std::sync::Arc;

use super::{CachedStore, MemoryStore, SqliteOptions, SqliteStore, Store, Synchronous};
use crate::telemetry::Metrics;

/// A store of its own for one case.
struct Fixture {
    store: Box<dyn Store>,
    /// Removed when the case is over.
    _directory: Option<tempfile::TempDir>,
}

fn in_memory() -> Fixture {
    Fixture { store: Box::new(MemoryStore::new()), _directory: None }
}

fn in_sqlite() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    // Nothing here is about a loss of power, and syncs make the suite slow.
    let options = SqliteOptions { path, synchronous: Synchronous::Normal };
    let store = Box::new(SqliteStore::open(&options, Metrics::default()).unwrap());
    Fixture { store, _directory: Some(directory) }
}

/// With a memory in front, which must not be noticed.
fn in_memory_remembered() -> Fixture {
    let store = CachedStore::new(Arc::new(MemoryStore::new()), Metrics::default());
    Fixture { store: Box::new(store), _directory: None }
}

macro_rules! run {
    ($adapter:ident, $open:ident, $($file:ident { $($case:ident)* })*) => {
        mod $adapter {
            $(mod $file {
                $(
                    #[tokio::test]
                    async fn $case() {
                        let fixture = super::super::$open();
                        super::super::$file::$case(&*fixture.store).await;
                        fixture.store.close().await;
                    }
                )*
            })*
        }
    };
}

macro_rules! suite {
    ($($cases:tt)*) => {
        run!(memory, in_memory, $($cases)*);
        run!(sqlite, in_sqlite, $($cases)*);
        run!(remembered, in_memory_remembered, $($cases)*);
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
        filters_keep_what_matches_and_move_on
        an_unknown_session_is_an_empty_log
        the_end_of_a_closed_log_is_told
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
    }
    messages {
        the_newest_that_fit_come_back_in_order
        the_oldest_are_forgotten
        messages_go_in_with_the_rest_or_not_at_all
        a_history_goes_with_its_session
    }
    output {
        every_offset_finds_its_piece
        tails_hold_enough_bytes
        pages_hold_enough_bytes
        counts_tell_what_is_kept_and_dropped
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
        what_is_due_comes_in_the_order_of_its_times
        each_scope_sees_only_its_own
        what_changes_is_due_as_it_is_now
        leased_ones_are_found_by_the_request
        sessions_that_wait_the_longest_come_first
    }
    concurrency {
        many_sessions_are_written_at_once
        one_of_many_writers_wins
        reads_see_whole_appends
    }
}
