//! Builders of requests.
//!
//! Each builder wraps one message of the contract and converts into it. A method of the client takes
//! either.

mod arguments;
mod follow_up;
mod run_tool;
mod run_turn;
mod session;
mod task;
mod update_session;

pub use arguments::IntoArguments;
pub use follow_up::{AcknowledgeFollowUp, LeaseFollowUps, ListFollowUps, RetryFollowUp};
pub use run_tool::{ListTools, RunTool};
pub use run_turn::{CancelTurn, RunTurn};
pub use session::{CloseSession, CreateSession, ListMessages, ListSessions, SessionEvents};
pub use task::{CancelTask, DeleteTask, ListTasks, ReadOutput, StartTask, WatchTasks};
pub use update_session::UpdateSession;

/// Defines a builder: its message and its setters, each with the kind of its field.
macro_rules! builder {
    (
        $(#[$attribute:meta])*
        $builder:ident($message:ident) {
            $($(#[$doc:meta])* $field:ident: $kind:tt $(($($kind_argument:tt)*))?,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq)]
        #[must_use = "a request does nothing until it is sent"]
        pub struct $builder {
            pub(super) message: v1::$message,
        }

        impl $builder {
            $($crate::request::setter! {
                $(#[$doc])* $field: $kind $(($($kind_argument)*))?
            })*
        }

        impl From<$builder> for v1::$message {
            fn from(request: $builder) -> Self {
                request.message
            }
        }
    };
}

/// Defines one setter of a builder.
macro_rules! setter {
    ($(#[$doc:meta])* $field:ident: text) => {
        $(#[$doc])*
        pub fn $field(mut self, $field: impl Into<String>) -> Self {
            self.message.$field = $field.into();
            self
        }
    };
    ($(#[$doc:meta])* $field:ident: bytes) => {
        $(#[$doc])*
        pub fn $field(mut self, $field: impl Into<bytes::Bytes>) -> Self {
            self.message.$field = $field.into();
            self
        }
    };
    ($(#[$doc:meta])* $field:ident: flag) => {
        $(#[$doc])*
        pub fn $field(mut self) -> Self {
            self.message.$field = true;
            self
        }
    };
    ($(#[$doc:meta])* $field:ident: count) => {
        $(#[$doc])*
        pub fn $field(mut self, $field: u32) -> Self {
            self.message.$field = i32::try_from($field).unwrap_or(i32::MAX);
            self
        }
    };
    ($(#[$doc:meta])* $field:ident: number($type:ty)) => {
        $(#[$doc])*
        pub fn $field(mut self, $field: $type) -> Self {
            self.message.$field = Some($field);
            self
        }
    };
    ($(#[$doc:meta])* $field:ident: duration) => {
        $(#[$doc])*
        pub fn $field(mut self, $field: std::time::Duration) -> Self {
            self.message.$field = Some($crate::request::to_message($field));
            self
        }
    };
    ($(#[$doc:meta])* $field:ident: time) => {
        $(#[$doc])*
        pub fn $field(mut self, $field: std::time::SystemTime) -> Self {
            self.message.$field = Some($field.into());
            self
        }
    };
    ($(#[$doc:meta])* $field:ident: choice($type:ty)) => {
        $(#[$doc])*
        pub fn $field(mut self, $field: $type) -> Self {
            self.message.$field = $field.into();
            self
        }
    };
    ($(#[$doc:meta])* $field:ident: choices($setter:ident: $type:ty)) => {
        $(#[$doc])*
        pub fn $setter(mut self, $setter: $type) -> Self {
            self.message.$field.push($setter.into());
            self
        }
    };
    ($(#[$doc:meta])* $field:ident: label) => {
        $(#[$doc])*
        pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
            self.message.$field.insert(key.into(), value.into());
            self
        }
    };
}

pub(crate) use builder;
pub(crate) use setter;

/// Converts a duration. One that does not fit into a message becomes the longest one that does, which
/// the server refuses with the name of the field.
pub(crate) fn to_message(duration: std::time::Duration) -> prost_types::Duration {
    let longest = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
    prost_types::Duration::try_from(duration).unwrap_or(longest)
}
