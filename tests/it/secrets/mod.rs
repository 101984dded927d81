//! Secrets: arguments that nothing keeps, and a search of everything that a server writes.

mod arguments;
mod canary;
