//! The ids on a page of any list.

use callpark_client::v1;

/// The ids on a page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) ids: Vec<String>,
    pub(super) next_page_token: String,
    /// `true` if records are left out because they are damaged.
    pub(super) has_unreadable: bool,
}

impl Page {
    pub(super) fn of_sessions(page: v1::ListSessionsResponse) -> Self {
        Self {
            ids: page.sessions.into_iter().map(|session| session.session_id).collect(),
            next_page_token: page.next_page_token,
            has_unreadable: page.unreadable_sessions != 0,
        }
    }

    pub(super) fn of_tasks(page: v1::ListResponse) -> Self {
        Self {
            ids: page.tasks.into_iter().map(|task| task.background_id).collect(),
            next_page_token: page.next_page_token,
            has_unreadable: page.unreadable_tasks != 0,
        }
    }

    pub(super) fn of_follow_ups(page: v1::ListFollowUpsResponse) -> Self {
        Self {
            ids: page.follow_ups.into_iter().map(|follow_up| follow_up.follow_up_id).collect(),
            next_page_token: page.next_page_token,
            has_unreadable: page.unreadable_follow_ups != 0,
        }
    }
}
