//! The port of providers of tools, and the tools that were found at one.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::{ArgumentError, Arguments, CallableTool, Registry, coerce_arguments};
use crate::model::{Tool, ToolKind, ToolSource};

/// The separator between the name of a provider and that of its tool.
pub const PROVIDER_SEPARATOR: &str = "__";

/// The reason why tools of a provider are not available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderUnavailable {
    /// The provider.
    pub provider: String,
    /// The error, and what to do.
    pub reason: String,
}

/// The tools of a provider.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The tools that are offered.
    pub registry: Arc<Registry>,
    /// The reasons why others are left out, one sentence each.
    pub left_out: Vec<String>,
}

impl From<Registry> for Catalog {
    fn from(registry: Registry) -> Self {
        Self { registry: Arc::new(registry), left_out: Vec::new() }
    }
}

/// A source of tools that must be asked for them. The names of its tools begin with the name of the
/// provider and [`PROVIDER_SEPARATOR`].
#[async_trait]
pub trait ToolProvider: Send + Sync + 'static {
    /// Returns the name of the provider.
    fn name(&self) -> &str;

    /// Returns the tools that are available now, and connects first if necessary. The future may be
    /// dropped: a start that is under way must go on, or a slow one would never finish.
    async fn catalog(&self) -> Result<Arc<Catalog>, ProviderUnavailable>;

    /// Returns the tools for a call that has been accepted. Waits for a start that is under way and
    /// for the pause after a failure, and fails only if a start that began later has failed.
    async fn ready_catalog(&self) -> Result<Arc<Catalog>, ProviderUnavailable> {
        self.catalog().await
    }

    /// Returns the tools as they were last known, or `None` if they never were.
    fn known_catalog(&self) -> Option<Arc<Catalog>> {
        None
    }

    /// Returns a description for a tool of this name that is not known.
    fn unknown_tool(&self, name: &str) -> Tool {
        let source = ToolSource::McpServer(self.name().to_owned());
        let tool = Tool::new(name, "", json!({}), ToolKind::Mcp, source);
        Tool { arguments_unchecked: true, ..tool }
    }

    /// Closes the connections of the provider and stops its processes.
    async fn close(&self);
}

/// A tool that was found by its name.
pub struct ResolvedTool {
    pub(super) offer: Arc<Catalog>,
    pub(super) tool: Arc<dyn CallableTool>,
    /// `true` if its provider is not available, so that its calls wait.
    pub(super) waits: bool,
    /// `true` if its provider became available only now, so that the caller could not see what it
    /// takes, and may have written all arguments as text.
    pub(super) is_late: bool,
}

impl ResolvedTool {
    /// Returns the tool of this name in a catalog.
    pub(super) fn among(offer: &Arc<Catalog>, name: &str) -> Option<Self> {
        let tool = offer.registry.get(name)?.clone();
        Some(Self { offer: offer.clone(), tool, waits: false, is_late: false })
    }

    /// Returns `true` if calls of it wait for a provider that is not available.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Returns the tool.
    pub fn tool(&self) -> &dyn CallableTool {
        self.tool.as_ref()
    }

    /// Checks arguments against its input schema.
    ///
    /// # Errors
    ///
    /// The errors of [`Registry::check`].
    pub fn check(&self, arguments: &Arguments) -> Result<(), Vec<ArgumentError>> {
        let tool = self.tool.describe();
        if self.is_late {
            let coerced = coerce_arguments(tool, arguments.clone());
            return self.offer.registry.check(&tool.name, &coerced.arguments);
        }
        self.offer.registry.check(&tool.name, arguments)
    }
}
