//! The changes of tasks.

use std::{collections::VecDeque, fmt};

use tonic::{Request, Response, Status, Streaming};

use crate::{
    error::Error,
    stream::resume::{Completion, Position, Progress, ResumingStream, StreamSource, resuming},
    transport::connection::Connection,
    v1,
};

/// An item of a [`WatchStream`].
///
/// ```
/// use callpark_client::WatchItem;
///
/// fn print(item: &WatchItem) {
///     if let WatchItem::Changed { tasks, watch_sequence } = item {
///         println!("change {watch_sequence}: {} tasks", tasks.len());
///     }
/// }
/// # print(&WatchItem::Began { watch_sequence: 1 });
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WatchItem {
    /// The watch is open for the first time.
    Began {
        /// The number of the change after which the watch delivers changes.
        watch_sequence: i64,
    },
    /// Tasks have changed. A task that changes several times in quick succession may be delivered
    /// once.
    Changed {
        /// The tasks, in the order of their changes.
        tasks: Vec<v1::Task>,
        /// The number of the change up to which everything has been delivered.
        watch_sequence: i64,
    },
    /// The watch was interrupted and is open again.
    Resumed {
        /// The number of the change after which the watch continues, or `None` if it begins where
        /// the request asked for.
        after_sequence: Option<i64>,
    },
}

/// The changes of tasks: a `Stream` of `Result<WatchItem, Error>`.
///
/// [`Tasks::watch`](crate::Tasks::watch) returns it. It survives interruptions without missing a
/// change, and ends only after an error.
///
/// ```no_run
/// use callpark_client::{Client, Error, WatchItem, WatchTasks};
/// use futures::TryStreamExt as _;
///
/// # async fn show(client: Client) -> Result<(), Error> {
/// let mut watch = client.tasks().watch(WatchTasks::new());
/// while let Some(item) = watch.try_next().await? {
///     if let WatchItem::Changed { tasks, .. } = item {
///         for task in tasks {
///             println!("{} {:?}", task.background_id, task.state());
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct WatchStream {
    stream: ResumingStream<WatchSource>,
}

impl WatchStream {
    pub(crate) fn new(connection: &Connection, request: v1::WatchRequest) -> Self {
        let cursor = request.watch_sequence;
        let source = WatchSource { session_id: request.session_id, cursor, began: false };
        Self { stream: ResumingStream::new(connection, source) }
    }

    /// Returns the number of the change to continue after: the last one that was delivered, or the
    /// one in the request. `None` if there is none yet.
    pub fn cursor(&self) -> Option<i64> {
        self.stream.position().cursor
    }
}

resuming!(WatchStream of WatchItem);

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStream")
            .field("cursor", &self.cursor())
            .field("attempts", &self.attempts())
            .finish_non_exhaustive()
    }
}

struct WatchSource {
    session_id: String,
    cursor: Option<i64>,
    began: bool,
}

impl StreamSource for WatchSource {
    type Request = v1::WatchRequest;
    type Message = v1::WatchResponse;
    type Items = VecDeque<WatchItem>;

    fn rpc(&self) -> &'static str {
        "BackgroundTasks.Watch"
    }

    fn request(&self) -> v1::WatchRequest {
        v1::WatchRequest { session_id: self.session_id.clone(), watch_sequence: self.cursor }
    }

    async fn open(
        connection: &Connection,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Streaming<v1::WatchResponse>>, Status> {
        connection.background_tasks_streams().watch(request).await
    }

    fn take(&mut self, message: v1::WatchResponse, items: &mut VecDeque<WatchItem>) -> Progress {
        let v1::WatchResponse { tasks, watch_sequence, heartbeat } = message;
        let progressed = self.cursor.is_some_and(|cursor| cursor < watch_sequence);
        let is_duplicate = self.cursor.is_some_and(|cursor| cursor >= watch_sequence);
        self.cursor = self.cursor.max(Some(watch_sequence));
        let mut progress = Progress { progressed, ..Progress::default() };
        if heartbeat {
            progress.heartbeat = true;
            if !self.began {
                items.push_back(WatchItem::Began { watch_sequence });
            }
        } else if is_duplicate {
            progress.duplicates = tasks.len() as u64;
        } else {
            items.push_back(WatchItem::Changed { tasks, watch_sequence });
        }
        self.began = true;
        progress
    }

    fn completion(&self) -> Completion {
        Completion::Incomplete
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

    fn track(item: &WatchItem, position: &mut Position) {
        if let WatchItem::Began { watch_sequence } | WatchItem::Changed { watch_sequence, .. } =
            item
        {
            position.cursor = Some(*watch_sequence);
        }
    }
}
