//! The authors of what a model is shown.

use super::enum_table;

enum_table! {
    /// The author of a message or a part of it.
    pub enum Origin {
        /// The caller, on behalf of a person.
        Person => "person",
        /// A tool, or the software behind it.
        Tool => "tool",
        /// callpark itself.
        Callpark => "callpark",
        /// A model.
        Model => "model",
    }
}

impl Origin {
    pub(super) fn person() -> Self {
        Self::Person
    }

    pub(super) fn tool() -> Self {
        Self::Tool
    }

    pub(super) fn model() -> Self {
        Self::Model
    }

    pub(super) fn is_person(&self) -> bool {
        *self == Self::Person
    }

    pub(super) fn is_tool(&self) -> bool {
        *self == Self::Tool
    }

    pub(super) fn is_model(&self) -> bool {
        *self == Self::Model
    }
}
