//! The tools of a server: its own, and those of providers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::time::sleep;

use super::provided::provided_tool;
use super::provider::{
    Catalog, PROVIDER_SEPARATOR, ProviderUnavailable, ResolvedTool, ToolProvider,
};
use super::{Registry, RegistryError};
use crate::model::Tool;
use crate::model::limits::OFFER_WAIT_SECONDS_MAX;

/// The tools of a server.
#[derive(Clone)]
pub struct Toolbox {
    own: Arc<Catalog>,
    providers: Arc<[Arc<dyn ToolProvider>]>,
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

    /// Returns whether the server has a tool of this name itself.
    pub fn has_own(&self, name: &str) -> bool {
        self.own.registry.get(name).is_some()
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
