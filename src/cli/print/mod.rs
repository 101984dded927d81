//! Output: data on standard output, everything else on standard error.

pub(super) mod colour;
pub(super) mod event;
pub(super) mod failure;
pub(super) mod json;
pub(super) mod labels;
pub(super) mod lists;
pub(super) mod output;
pub(super) mod result;
pub(super) mod spinner;
pub(super) mod table;
mod terminal_filter;
pub(super) mod text;
pub(super) mod time;
