//! The items of session and call streams.

use crate::v1;

/// An item of a [`SessionStream`](crate::SessionStream) or a [`CallStream`](crate::CallStream).
///
/// ```
/// use callpark_client::SessionItem;
///
/// fn print(item: &SessionItem) {
///     match item {
///         SessionItem::Event(event) => println!("{} {:?}", event.sequence, event.payload),
///         SessionItem::Gap { from, to } => println!("{from} to {to} are no longer kept"),
///         SessionItem::Resumed { .. } => println!("the connection was restored"),
///         _ => {}
///     }
/// }
/// # print(&SessionItem::Gap { from: 1, to: 2 });
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SessionItem {
    /// An event of the log. Sequences strictly increase within an epoch. Events with a payload that
    /// this version of the client does not know are skipped.
    Event(Box<v1::SessionEvent>),
    /// The state of the log. A session stream delivers it when it opens and after each `Resumed`.
    Snapshot(Box<v1::Snapshot>),
    /// All events up to the head have been delivered; live events follow. A session stream delivers
    /// it once after each `Snapshot`.
    CaughtUp {
        /// The head.
        head_sequence: i64,
    },
    /// Events are missing. The stream continues after them.
    Gap {
        /// The first missing sequence.
        from: i64,
        /// The last missing sequence.
        to: i64,
    },
    /// The log was replaced by another one. The events of the new log follow, from the first one that
    /// it contains.
    EpochChanged {
        /// The epoch of the events so far.
        old: String,
        /// The epoch of the events that follow.
        new: String,
    },
    /// The stream was interrupted and is open again.
    Resumed {
        /// The sequence after which the stream continues, or `None` if it begins where the request
        /// asked for.
        after_sequence: Option<i64>,
    },
}
