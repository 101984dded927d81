//! Arguments of the command line, and how they are parsed.

pub(super) mod call;
pub(super) mod connect;
pub(super) mod duration;
pub(super) mod enums;
mod id_page;
pub(super) mod ids;
pub(super) mod settings;
pub(super) mod stdin;
pub(super) mod store;
pub(super) mod tool_arguments;
