//! The errors of PostgreSQL, sorted by their consequences.

use std::error::Error as _;
use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// An error of a read or a write.
#[derive(Debug)]
pub(super) enum PostgresError {
    /// The operation was refused, or a record is unreadable.
    Store(StoreError),
    /// The connection is lost, or there is none.
    Lost(String),
    /// The database has refused a statement.
    Refused(Refusal),
}

/// A statement that the database refused.
#[derive(Debug)]
pub(super) struct Refusal {
    code: SqlState,
    text: String,
}

impl Refusal {
    /// Returns whether one of several changes that were made together may be the cause, so that each should
    /// be tried alone.
    pub(super) fn concerns_one(&self) -> bool {
        // Classes 22, 23 and 40: invalid data, a violated constraint, and a conflict with another transaction.
        ["22", "23", "40"].iter().any(|class| self.code.code().starts_with(class))
    }

    /// Returns whether the transaction may succeed if it is made again.
    pub(super) fn is_transient(&self) -> bool {
        [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(&self.code)
    }
}

impl PostgresError {
    /// Returns the cause as text.
    pub(super) fn cause(&self) -> String {
        match self {
            Self::Lost(cause) => cause.clone(),
            Self::Store(error) => error.to_string(),
            Self::Refused(refusal) => format!("{refusal:?}"),
        }
    }
}

impl From<StoreError> for PostgresError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Error> for PostgresError {
    fn from(error: Error) -> Self {
        let Some(refused) = error.as_db_error() else {
            let text = describe(&error);
            return match is_of_a_value(&error) {
                true => Self::Store(StoreError::Corrupt(text)),
                false => Self::Lost(text),
            };
        };
        let code = refused.code().clone();
        let text = refused.message().to_owned();
        match ends_connection(&code) {
            true => Self::Lost(text),
            false => Self::Refused(Refusal { code, text }),
        }
    }
}

impl From<PoolError> for PostgresError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => match Self::from(error) {
                Self::Refused(refusal) => Self::Store(refusal.into()),
                other => other,
            },
            PoolError::Closed => Self::Store(StoreError::Unavailable("it is closed".to_owned())),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<Refusal> for StoreError {
    fn from(Refusal { code, text }: Refusal) -> Self {
        match code {
            SqlState::DISK_FULL => {
                Self::Full(format!("{text}; make room on the disk of the database"))
            }
            SqlState::READ_ONLY_SQL_TRANSACTION => Self::Unavailable(
                "the database takes no writes: it is a standby, or read-only; name the primary in \
                 the URL, or end the read-only mode"
                    .to_owned(),
            ),
            SqlState::TOO_MANY_CONNECTIONS => Self::Unavailable(format!(
                "the database has no free connection ({text}): raise its max_connections, or \
                 close other connections"
            )),
            SqlState::QUERY_CANCELED => {
                Self::Unavailable("the statement took too long: narrow the filter of a list, or look at the load of the \
                 database"
                    .to_owned())
            }
            SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => Self::Corrupt(text),
            SqlState::INSUFFICIENT_PRIVILEGE => Self::Unavailable(format!(
                "{text}: make the role of the URL the owner of the schema callpark"
            )),
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                Self::Unavailable(format!("{text}: check the user and the password"))
            }
            SqlState::INVALID_CATALOG_NAME => {
                Self::Unavailable(format!("{text}: create it, or name another in the URL"))
            }
            code => Self::Unavailable(format!("the database refused it: {text} ({})", code.code())),
        }
    }
}

impl From<PostgresError> for StoreError {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Store(error) => error,
            PostgresError::Refused(refusal) => refusal.into(),
            PostgresError::Lost(cause) => Self::Unavailable(format!(
                "the database cannot be reached: {cause}; check that it runs at the address of the \
                 URL"
            )),
        }
    }
}

/// Returns the error of a database that did not answer in time.
pub(super) fn timed_out(after: Duration) -> PostgresError {
    PostgresError::Lost(format!("it has not answered for {}", humantime::format_duration(after)))
}

/// Returns whether the server ends the connection together with the error.
fn ends_connection(code: &SqlState) -> bool {
    // 57P01 to 57P05: a shutdown, a crash, a start, a dropped database, an idle session. 25P03: an idle
    // transaction. Class 08 is about connections.
    let code = code.code();
    code.starts_with("57P") || code == "25P03" || code.starts_with("08")
}

fn is_of_a_value(error: &Error) -> bool {
    error.source().is_some_and(|source| {
        source.is::<tokio_postgres::types::WasNull>()
            || source.is::<tokio_postgres::types::WrongType>()
    })
}

/// Returns the error with its cause. Neither has the password.
fn describe(error: &Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
