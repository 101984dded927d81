//! Names of tools as chat endpoints accept them: `a-z A-Z 0-9 _ -`, at most 64 characters.

use std::collections::BTreeMap;

use crate::model::Tool;

/// The tools of one request, by the names that the endpoint accepts.
#[derive(Debug, Default)]
pub(super) struct ToolNames {
    by_wire_name: BTreeMap<String, String>,
}

impl ToolNames {
    /// Names the tools. If two tools have the same name at the endpoint, the first one keeps it, and
    /// the endpoint isn't sent the second one.
    pub(super) fn new(tools: &[Tool]) -> Self {
        let mut by_wire_name = BTreeMap::new();
        for tool in tools {
            let name = wire_name(&tool.name);
            let earlier = by_wire_name.insert(name.clone(), tool.name.clone());
            if let Some(earlier) = earlier.filter(|earlier| *earlier != tool.name) {
                tracing::warn!(
                    tool = tool.name,
                    "the model is not offered this tool: its name would be that of `{earlier}`"
                );
                by_wire_name.insert(name, earlier);
            }
        }
        Self { by_wire_name }
    }

    /// Returns the tools that are offered to the model, each with its name at the endpoint.
    pub(super) fn offered<'t>(
        &self,
        tools: &'t [Tool],
    ) -> impl Iterator<Item = (String, &'t Tool)> {
        tools.iter().filter_map(|tool| {
            let name = wire_name(&tool.name);
            (self.by_wire_name.get(&name) == Some(&tool.name)).then_some((name, tool))
        })
    }

    /// Returns the name of the tool that the endpoint calls `name`. An unknown name is kept.
    pub(super) fn resolve(&self, name: &str) -> String {
        self.by_wire_name.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }
}

/// Returns a tool's name as the endpoint accepts it.
pub(super) fn wire_name(name: &str) -> String {
    name.replace('.', "_")
}
