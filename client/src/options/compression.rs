//! Compression of messages.

/// The compression of messages, in both directions.
///
/// Compression costs processor time on both sides, and pays between machines, for large output.
///
/// ```
/// use callpark_client::{ClientOptions, Compression};
///
/// let options = ClientOptions::new("https://tools.example.com").with_compression(Compression::Gzip);
/// assert_eq!(options.compression, Compression::Gzip);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// No compression.
    #[default]
    Off,
    /// Requests are compressed with gzip, and the server is asked to do the same with its answers.
    Gzip,
}
