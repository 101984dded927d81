//! Names of tools as the endpoint takes them: `a-z A-Z 0-9 _ -`, at most 64.

use std::collections::BTreeMap;

use crate::model::Tool;

/// Both spellings of the tools of one request.
#[derive(Debug, Default)]
pub(super) struct Names {
    own: BTreeMap<String, String>,
}

impl Names {
    pub(super) fn new(tools: &[Tool]) -> Self {
        let mut own = BTreeMap::new();
        for tool in tools {
            let name = spelled(&tool.name);
            let taken = own.insert(name.clone(), tool.name.clone());
            if let Some(taken) = taken.filter(|taken| *taken != tool.name) {
                tracing::warn!(tool = tool.name, "the model doesn't see it: it would be `{taken}`");
                own.insert(name, taken);
            }
        }
        Self { own }
    }

    /// The tools that the endpoint can be told of, each with its name there.
    pub(super) fn shown<'t>(&self, tools: &'t [Tool]) -> impl Iterator<Item = (String, &'t Tool)> {
        tools.iter().filter_map(|tool| {
            let name = spelled(&tool.name);
            (self.own.get(&name) == Some(&tool.name)).then_some((name, tool))
        })
    }

    /// The tool that the endpoint means. One that it wasn't told of keeps its name.
    pub(super) fn own(&self, name: &str) -> String {
        self.own.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }
}

/// A tool's name as the endpoint takes it.
pub(super) fn spelled(name: &str) -> String {
    name.replace('.', "_")
}
