//! The tools of a server: its own, and those of providers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use super::provided::provided_tool;
use super::{ArgumentError, Arguments, CallableTool, Registry, RegistryError, coerce_arguments};
use crate::model::limits::OFFER_WAIT_SECONDS_MAX;
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

/// The tools of a server.
#[derive(Clone)]
pub struct Toolbox {
    own: Arc<Catalog>,
    providers: Arc<[Arc<dyn ToolProvider>]>,
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

impl Toolbox {
    /// Creates a toolbox of these tools and those of the providers.
    ///
    /// # Errors
    ///
    /// Two providers have one name, or the name of a tool begins like those of a provider.
    pub fn new(
        own: Registry,
        providers: Vec<Arc<dyn ToolProvider>>,
    ) -> Result<Self, RegistryError> {
        let mut prefixes = BTreeSet::new();
        for provider in &providers {
            let prefix = format!("{}{PROVIDER_SEPARATOR}", provider.name());
            let taken = own.list().find(|tool| tool.name.starts_with(&prefix));
            let taken = taken.map(|tool| tool.name.clone());
            if let Some(name) = taken.or(prefixes.replace(prefix)) {
                return Err(RegistryError::NameTaken { name });
            }
        }
        Ok(Self::of(own, providers))
    }

    fn of(own: Registry, providers: Vec<Arc<dyn ToolProvider>>) -> Self {
        Self { own: Arc::new(own.into()), providers: providers.into() }
    }

    /// Returns the tool of this name. Waits for its provider for up to `wait_max`. A tool of a
    /// provider that is not available then is found, too: its calls wait for the provider.
    pub async fn find(&self, name: &str, wait_max: Duration) -> Option<ResolvedTool> {
        if let Some(found) = ResolvedTool::among(&self.own, name) {
            return Some(found);
        }
        let (provider, _) = name.split_once(PROVIDER_SEPARATOR)?;
        let provider = self.providers.iter().find(|candidate| candidate.name() == provider)?;
        let mut catalog = std::pin::pin!(provider.catalog());
        if let Some(catalog) = catalog.as_mut().now_or_never() {
            return provided_tool(provider, catalog.ok(), false, name);
        }
        let catalog = tokio::select! {
            biased;
            catalog = catalog => catalog.ok(),
            () = sleep(wait_max) => None,
        };
        provided_tool(provider, catalog, true, name)
    }

    /// Returns all tools, sorted by name, and the providers that offer none now. A silent provider is
    /// among these after [`OFFER_WAIT_SECONDS_MAX`], so that it does not hold up the others.
    pub async fn list(&self) -> (Vec<Tool>, Vec<ProviderUnavailable>) {
        let offers = self.providers.iter().map(|provider| catalog_soon(provider.as_ref()));
        let offers = join_all(offers).await;
        let mut tools: Vec<Tool> = self.own.registry.list().cloned().collect();
        let mut unavailable = Vec::new();
        for (provider, offer) in self.providers.iter().zip(offers) {
            match offer {
                Ok(offer) => {
                    tools.extend(offer.registry.list().cloned());
                    if !offer.left_out.is_empty() {
                        let provider = provider.name().to_owned();
                        let reason = format!("left out: {}", offer.left_out.join("; "));
                        unavailable.push(ProviderUnavailable { provider, reason });
                    }
                }
                Err(why) => unavailable.push(why),
            }
        }
        tools.sort_by(|one, other| one.name.cmp(&other.name));
        (tools, unavailable)
    }

    /// Closes the providers.
    pub async fn close(&self) {
        join_all(self.providers.iter().map(|provider| provider.close())).await;
    }
}

impl From<Registry> for Toolbox {
    fn from(own: Registry) -> Self {
        Self::of(own, Vec::new())
    }
}

impl ResolvedTool {
    fn among(offer: &Arc<Catalog>, name: &str) -> Option<Self> {
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

/// Returns the tools of a provider, or an error if it does not answer in time.
async fn catalog_soon(provider: &dyn ToolProvider) -> Result<Arc<Catalog>, ProviderUnavailable> {
    tokio::select! {
        biased;
        offer = provider.catalog() => offer,
        () = sleep(Duration::from_secs(OFFER_WAIT_SECONDS_MAX)) => {
            let reason = format!(
                "`{}` is still starting, or has not listed its tools for {OFFER_WAIT_SECONDS_MAX} s: \
                 list the tools again later",
                provider.name()
            );
            Err(ProviderUnavailable { provider: provider.name().to_owned(), reason })
        }
    }
}
