//! The address of the store, as a setting names it.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use super::value::{InvalidValue, Value};

/// The word for the database in the data folder.
const SQLITE: &str = "sqlite";

/// The text that stands for a password.
const MASK: &str = "***";

/// The address of the store. Its text has `***` in the place of a password.
#[derive(Clone)]
pub enum StoreAddress {
    /// The SQLite database in the data folder.
    Sqlite,
    /// A PostgreSQL database: its URL, which may hold the password.
    Postgres(SecretString),
}

impl StoreAddress {
    /// Returns whether the store is the database in the data folder.
    pub fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite)
    }
}

impl Value for StoreAddress {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            SQLITE => Ok(Self::Sqlite),
            _ if has_scheme(text) => {
                check_url(text)?;
                Ok(Self::Postgres(text.into()))
            }
            _ => Err(format!(
                "`{SQLITE}` or the URL of a PostgreSQL database such as \
                 postgres://user@host/database is expected"
            )),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Sqlite => SQLITE.to_owned(),
            Self::Postgres(url) => masked(url.expose_secret()),
        }
    }

    /// Nothing is known of a URL that is not valid: any part of it may be the password.
    fn show_text(text: &str) -> String {
        match text.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://{MASK}"),
            None => text.to_owned(),
        }
    }
}

#[cfg(feature = "postgres")]
fn check_url(text: &str) -> Result<(), String> {
    crate::store::PostgresOptions::new(text).check().map_err(|error| error.to_string())
}

#[cfg(not(feature = "postgres"))]
fn check_url(_: &str) -> Result<(), String> {
    Err("this program was built without the feature `postgres`: build it with that, or use `sqlite`"
        .to_owned())
}

fn has_scheme(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

/// Returns a valid URL with a mask in the place of its passwords: the user ends at the first `@`.
fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return MASK.to_owned() };
    let (user, place) = rest.split_once('@').map_or(("", rest), |(user, place)| (user, place));
    let user = match user.split_once(':') {
        Some((name, _)) => format!("{name}:{MASK}@"),
        None if user.is_empty() => String::new(),
        None => format!("{user}@"),
    };
    let (place, parameters) = place.split_once('?').unwrap_or((place, ""));
    let shown = parameters.split('&').filter(|parameter| !parameter.is_empty());
    let shown = shown.map(|parameter| match parameter.split_once('=') {
        Some(("password", _)) => format!("password={MASK}"),
        _ => parameter.to_owned(),
    });
    let shown = shown.collect::<Vec<_>>().join("&");
    let mark = if shown.is_empty() { "" } else { "?" };
    format!("{scheme}://{user}{place}{mark}{shown}")
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for StoreAddress {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sqlite, Self::Sqlite) => true,
            (Self::Postgres(one), Self::Postgres(other)) => {
                one.expose_secret() == other.expose_secret()
            }
            _ => false,
        }
    }
}

impl std::str::FromStr for StoreAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Value::parse(text).map_err(InvalidValue::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        for (url, shown) in [
            ("postgres://me:s3cret@db/x", "postgres://me:***@db/x"),
            (
                "postgresql://me@db/x?password=s3cret&sslmode=require",
                "postgresql://me@db/x?password=***&sslmode=require",
            ),
            ("postgres://me@db/x", "postgres://me@db/x"),
            ("postgres://db/x?", "postgres://db/x"),
        ] {
            assert_eq!(masked(url), shown);
        }
        let shown = StoreAddress::show_text("mysql://me:s3@cret?s3cret@db/x");
        assert_eq!(shown, "mysql://***");
        assert_eq!(StoreAddress::show_text("sqllite"), "sqllite");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn addresses_are_read_as_they_are_shown() {
        for text in ["sqlite", "postgres://me:s3cret@db/x", "postgresql:///x?host=/run/postgresql"]
        {
            let address: StoreAddress = text.parse().expect(text);
            assert_eq!(format!("{address} {address:?}").matches("s3cret").count(), 0);
            assert!(address.show().parse::<StoreAddress>().is_ok(), "{address}");
            assert_eq!(address.is_sqlite(), text == "sqlite");
        }
        for text in ["", "mysql://db/x", "postgres://me:s3cret@db", "postgres://me:s3cret@db:x/y"] {
            let error = text.parse::<StoreAddress>().expect_err(text).to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
