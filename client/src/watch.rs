//! Changes of tasks, over cuts.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    client::Client,
    error::Error,
    follow::{End, Feed, Followed, Position, Taken, follow},
    v1,
};

/// What a watch gives.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WatchItem {
    /// The watch is open for the first time, and gives the changes after this one.
    Began {
        /// The change.
        watch_sequence: i64,
    },
    /// Tasks changed. A task that changes several times in quick succession may be given once.
    Changed {
        /// The tasks, in the order of their changes.
        tasks: Vec<v1::Task>,
        /// The change up to which everything has been given.
        watch_sequence: i64,
    },
    /// The watch was cut and is open again.
    Resumed {
        /// It goes on after this change. `None`: with what it was asked to begin with.
        after_sequence: Option<i64>,
    },
}

/// Changes of tasks: a `Stream` of `Result<WatchItem, Error>`. It goes on over cuts, and misses
/// nothing. It ends after an error only.
pub struct WatchStream {
    followed: Followed<WatchFeed>,
}

impl WatchStream {
    pub(crate) fn new(client: &Client, request: v1::WatchRequest) -> Self {
        let cursor = request.watch_sequence;
        let feed = WatchFeed { session_id: request.session_id, cursor, began: false };
        Self { followed: follow(client, feed) }
    }

    /// The change to watch from: the last one handed out, or what the request began after. `None`:
    /// there is none yet.
    pub fn cursor(&self) -> Option<i64> {
        self.followed.position().cursor
    }

    /// How often the watch was opened or tried.
    pub fn tries(&self) -> u32 {
        self.followed.counts().tries
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchItem, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.followed.poll_next(cx)
    }
}

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStream")
            .field("cursor", &self.cursor())
            .field("tries", &self.tries())
            .finish_non_exhaustive()
    }
}

struct WatchFeed {
    session_id: String,
    cursor: Option<i64>,
    began: bool,
}

impl Feed for WatchFeed {
    const RPC: &'static str = "BackgroundTasks.Watch";
    type Request = v1::WatchRequest;
    type Message = v1::WatchResponse;
    type Items = VecDeque<WatchItem>;

    fn request(&self) -> v1::WatchRequest {
        v1::WatchRequest { session_id: self.session_id.clone(), watch_sequence: self.cursor }
    }

    async fn open(
        client: &Client,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Streaming<v1::WatchResponse>>, Status> {
        client.background_tasks_streams().watch(request).await
    }

    fn take(&mut self, message: v1::WatchResponse, items: &mut VecDeque<WatchItem>) -> Taken {
        let v1::WatchResponse { tasks, watch_sequence, heartbeat } = message;
        let progressed = self.cursor.is_some_and(|cursor| cursor < watch_sequence);
        let again = self.cursor.is_some_and(|cursor| cursor >= watch_sequence);
        self.cursor = self.cursor.max(Some(watch_sequence));
        let mut taken = Taken { progressed, ..Taken::default() };
        if heartbeat {
            taken.heartbeat = true;
            if !self.began {
                items.push_back(WatchItem::Began { watch_sequence });
            }
        } else if again {
            taken.duplicates = tasks.len() as u64;
        } else {
            items.push_back(WatchItem::Changed { tasks, watch_sequence });
        }
        self.began = true;
        taken
    }

    fn end(&self) -> End {
        End::Ahead
    }

    fn cursor(&self) -> Option<i64> {
        self.cursor
    }

    fn resumed(&self) -> WatchItem {
        WatchItem::Resumed { after_sequence: self.cursor }
    }

    fn refused(&mut self, _error: &Error) -> bool {
        false
    }

    fn note(item: &WatchItem, position: &mut Position) {
        if let WatchItem::Began { watch_sequence } | WatchItem::Changed { watch_sequence, .. } =
            item
        {
            position.cursor = Some(*watch_sequence);
        }
    }
}
