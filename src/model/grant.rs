//! The tools and models that callers are given.

use serde::{Deserialize, Serialize};

use super::{Pattern, Principal, Scope};

/// One `[[grants]]` table: tools and models for some callers.
///
/// ```toml
/// [[grants]]
/// name = "shops"
/// tenants = ["shop-*"]
/// tools = ["files__*", "search"]
/// models = ["small"]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The name of the table in messages.
    pub name: String,
    /// The tenants, in whose names `*` stands for any text. Default: all.
    #[serde(default = "every_tenant")]
    pub tenants: Vec<Pattern>,
    /// The scopes that a caller must have, all of them. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    /// The tools, in whose names `*` stands for any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Pattern>,
    /// The models and agents, in whose names `*` stands for any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Pattern>,
}

fn every_tenant() -> Vec<Pattern> {
    vec![Pattern::new("*")]
}

impl Grant {
    /// Validates the values that the types don't constrain.
    ///
    /// # Errors
    ///
    /// Fails with a description of the first invalid value.
    pub fn check(&self) -> Result<(), String> {
        if self.tenants.is_empty() {
            return Err("tenants must name at least one, such as \"*\"".to_owned());
        }
        if self.tools.is_empty() && self.models.is_empty() {
            return Err("set tools, models, or both: otherwise it grants nothing".to_owned());
        }
        Ok(())
    }

    fn is_for(&self, principal: &Principal) -> bool {
        let is_tenant = |pattern: &Pattern| pattern.matches(principal.tenant.as_str());
        let has = |scope: &Scope| principal.scopes.contains(*scope);
        self.tenants.iter().any(is_tenant) && self.scopes.iter().all(has)
    }
}

/// The grants of a server. Without one that names tools, all callers may use all tools, and without one
/// that names models, all models.
#[derive(Debug, Clone, Default)]
pub struct Grants(Vec<Grant>);

impl Grants {
    /// Creates the set of these grants.
    pub fn new(grants: Vec<Grant>) -> Self {
        Self(grants)
    }

    /// Returns whether the caller may use the tool of this name.
    pub fn allows_tool(&self, principal: &Principal, name: &str) -> bool {
        self.allows(principal, |grant| &grant.tools, |pattern| pattern.matches(name))
    }

    /// Returns whether the caller may use tools whose names begin so, if there are any.
    pub fn allows_some_tool(&self, principal: &Principal, prefix: &str) -> bool {
        self.allows(principal, |grant| &grant.tools, |pattern| pattern.may_begin_with(prefix))
    }

    /// Returns whether the caller may use the model or agent of this name.
    pub fn allows_model(&self, principal: &Principal, name: &str) -> bool {
        self.allows(principal, |grant| &grant.models, |pattern| pattern.matches(name))
    }

    fn allows(
        &self,
        principal: &Principal,
        names: impl Fn(&Grant) -> &Vec<Pattern>,
        fits: impl Fn(&Pattern) -> bool,
    ) -> bool {
        let mut grants = self.0.iter().filter(|grant| !names(grant).is_empty()).peekable();
        let gives = |grant: &Grant| names(grant).iter().any(&fits);
        grants.peek().is_none() || grants.any(|grant| grant.is_for(principal) && gives(grant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Scopes, Tenant};

    fn principal(tenant: &str, scopes: &[Scope]) -> Principal {
        let scopes: Scopes = scopes.iter().copied().collect();
        Principal { tenant: Tenant::new(tenant), name: "caller".into(), scopes }
    }

    fn grants(text: &str) -> Grants {
        #[derive(Deserialize)]
        struct File {
            grants: Vec<Grant>,
        }
        Grants::new(toml::from_str::<File>(text).unwrap().grants)
    }

    #[test]
    fn what_no_grant_gives_is_not_given() {
        let grants = grants(
            "[[grants]]\nname = \"shops\"\ntenants = [\"shop-*\"]\ntools = [\"files__*\"]\n\
             [[grants]]\nname = \"admins\"\nscopes = [\"admin\", \"run\"]\ntools = [\"bash\"]\n",
        );
        let (shop, other) = (principal("shop-1", &[Scope::Run]), principal("acme", &[Scope::Run]));
        let admin = principal("acme", &[Scope::Run, Scope::Admin]);
        assert!(grants.allows_tool(&shop, "files__read") && !grants.allows_tool(&shop, "bash"));
        assert!(!grants.allows_tool(&other, "files__read") && !grants.allows_tool(&other, "bash"));
        assert!(grants.allows_tool(&admin, "bash") && !grants.allows_tool(&admin, "files__read"));
        assert!(!grants.allows_tool(&principal("acme", &[Scope::Admin]), "bash"), "without run");
        let some = |principal, prefix| grants.allows_some_tool(principal, prefix);
        assert!(some(&shop, "files__") && some(&shop, "fil") && !some(&shop, "other__"));
        assert!(some(&admin, "ba") && !some(&admin, "bash__"));
        // None of them names models.
        assert!(grants.allows_model(&other, "large"));
    }

    #[test]
    fn without_grants_all_callers_have_everything() {
        let stranger = principal("acme", &[]);
        let grants = Grants::default();
        assert!(grants.allows_tool(&stranger, "bash") && grants.allows_model(&stranger, "large"));
    }

    #[test]
    fn a_grant_of_nothing_is_refused() {
        for (text, word) in [
            ("name = \"a\"", "grants nothing"),
            ("name = \"a\"\ntenants = []\ntools = [\"*\"]", "tenants"),
        ] {
            let error = toml::from_str::<Grant>(text).unwrap().check().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
