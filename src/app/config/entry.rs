//! The arrays of tables of a configuration: tools, MCP servers, models, agents, issuers of tokens, callers with
//! certificates, grants and limits of tenants.

use serde::de::DeserializeOwned;

use super::error::SettingError;
use super::file::FileTable;
use super::settings::Config;
use crate::auth::ClientCertificateConfig;
use crate::model::Grant;
use crate::quota::TenantLimits;
use crate::tool::{CommandTool, CommandToolConfig};

/// One table of an array, such as one `[[tools]]`.
pub(super) trait Entry: DeserializeOwned {
    /// The key of the array.
    const KEY: &'static str;

    fn name(&self) -> &str;

    /// Checks the values that the type does not constrain. The error names the problem and a valid form.
    fn check(&self) -> Result<(), String>;
}

impl Entry for Grant {
    const KEY: &'static str = "grants";

    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Result<(), String> {
        self.check()
    }
}

impl Entry for ClientCertificateConfig {
    const KEY: &'static str = "client_certificates";

    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Result<(), String> {
        self.check()
    }
}

impl Entry for CommandToolConfig {
    const KEY: &'static str = "tools";

    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Result<(), String> {
        CommandTool::new(self.clone()).map(drop).map_err(|error| error.to_string())
    }
}

impl Entry for TenantLimits {
    const KEY: &'static str = "tenant_limits";

    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn check(&self) -> Result<(), String> {
        self.check()
    }
}

macro_rules! entries {
    ($($feature:literal $type:ty = $key:literal;)+) => {$(
        #[cfg(feature = $feature)]
        impl Entry for $type {
            const KEY: &'static str = $key;

            fn name(&self) -> &str {
                &self.name
            }

            fn check(&self) -> Result<(), String> {
                self.check()
            }
        }
    )+};
}

entries! {
    "mcp" crate::mcp::ServerConfig = "mcp_servers";
    "openai" crate::agent::ModelConfig = "models";
    "acp" crate::acp::AgentConfig = "agents";
    "jwt" crate::auth::jwt::JwtIssuerConfig = "jwt_issuers";
}

impl Config {
    /// Takes the tables of the configuration file. Returns the errors of those that are wrong.
    pub(super) fn read_tables(&mut self, tables: &[FileTable]) -> Vec<SettingError> {
        let mut errors = Vec::new();
        self.tools = read(tables, &mut errors);
        self.client_certificates = read(tables, &mut errors);
        self.grants = read(tables, &mut errors);
        self.tenant_limits = read(tables, &mut errors);
        #[cfg(feature = "mcp")]
        (self.mcp_servers = read(tables, &mut errors));
        #[cfg(not(feature = "mcp"))]
        errors.extend(unsupported(tables, "mcp_servers", "mcp"));
        #[cfg(feature = "openai")]
        (self.models = read(tables, &mut errors));
        #[cfg(not(feature = "openai"))]
        errors.extend(unsupported(tables, "models", "openai"));
        #[cfg(feature = "acp")]
        (self.agents = read(tables, &mut errors));
        #[cfg(not(feature = "acp"))]
        errors.extend(unsupported(tables, "agents", "acp"));
        #[cfg(feature = "jwt")]
        (self.jwt_issuers = read(tables, &mut errors));
        #[cfg(not(feature = "jwt"))]
        errors.extend(unsupported(tables, "jwt_issuers", "jwt"));
        errors
    }

    /// Returns the errors of tables that the program has set.
    pub(super) fn table_errors(&self) -> Vec<SettingError> {
        [
            wrong(&self.tools),
            wrong(&self.client_certificates),
            wrong(&self.grants),
            wrong(&self.tenant_limits),
            #[cfg(feature = "mcp")]
            wrong(&self.mcp_servers),
            #[cfg(feature = "openai")]
            wrong(&self.models),
            #[cfg(feature = "acp")]
            wrong(&self.agents),
            #[cfg(feature = "jwt")]
            wrong(&self.jwt_issuers),
        ]
        .concat()
    }
}

fn read<T: Entry>(tables: &[FileTable], errors: &mut Vec<SettingError>) -> Vec<T> {
    let mut entries = Vec::new();
    for table in tables.iter().filter(|table| table.key == T::KEY) {
        let entry = table.read::<T>();
        let checked =
            |entry: T| entry.check().map(|()| entry).map_err(|reason| table.error(reason));
        match entry.and_then(checked) {
            Ok(entry) => entries.push(entry),
            Err(error) => errors.push(error),
        }
    }
    entries
}

fn wrong<T: Entry>(entries: &[T]) -> Vec<SettingError> {
    let error = |entry: &T| {
        let reason = entry.check().err()?;
        Some(SettingError::in_program(T::KEY, entry.name().to_owned(), reason))
    };
    entries.iter().filter_map(error).collect()
}

/// Returns the errors of tables for a feature that this build does not have.
#[cfg(not(all(feature = "mcp", feature = "openai", feature = "acp", feature = "jwt")))]
fn unsupported(tables: &[FileTable], key: &str, feature: &str) -> Vec<SettingError> {
    let reason = format!("this build of callpark has no {key}: build it with feature `{feature}`");
    let tables = tables.iter().filter(|table| table.key == key);
    tables.map(|table| table.error(reason.clone())).collect()
}
