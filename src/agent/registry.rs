//! The models and agents of a server, by name.

use std::sync::Arc;

use super::{Agent, Model};

/// The model or agent that runs the turns of a session.
#[derive(Debug, Clone)]
pub enum AgentBackend {
    /// A model, which is asked round by round; callpark runs its calls between the rounds.
    Model(Arc<dyn Model>),
    /// An external agent, which runs its own loop.
    Agent(Arc<dyn Agent>),
}

impl AgentBackend {
    /// Returns the name by which sessions choose it.
    pub fn name(&self) -> &str {
        match self {
            Self::Model(model) => model.name(),
            Self::Agent(agent) => agent.name(),
        }
    }
}

/// The models and agents of a server.
#[derive(Debug, Clone, Default)]
pub struct ModelRegistry {
    all: Arc<[AgentBackend]>,
    default: String,
    background: String,
}

impl ModelRegistry {
    /// Creates a registry. `default` defaults to the first backend, and `background`, the backend of
    /// turns that are started in the background, to the default one.
    ///
    /// # Errors
    ///
    /// Fails if two backends have the same name, or if a name that is given is unknown.
    pub fn new(
        all: Vec<AgentBackend>,
        default: Option<String>,
        background: Option<String>,
    ) -> Result<Self, String> {
        for (index, backend) in all.iter().enumerate() {
            if all[..index].iter().any(|earlier| earlier.name() == backend.name()) {
                return Err(format!("two models or agents have the name `{}`", backend.name()));
            }
        }
        let first = all.first().map(|backend| backend.name().to_owned()).unwrap_or_default();
        let choose = |name: Option<String>, fallback: &str| match name {
            Some(name) if all.iter().any(|backend| backend.name() == name) => Ok(name),
            Some(name) => {
                Err(format!("there is no model `{name}` among [[models]] and [[agents]]"))
            }
            None => Ok(fallback.to_owned()),
        };
        let default = choose(default, &first)?;
        let background = choose(background, &default)?;
        Ok(Self { all: all.into(), default, background })
    }

    /// Returns the backend with this name, or `None` if there is none. An empty name stands for the
    /// default one.
    pub fn find(&self, name: &str, in_background: bool) -> Option<AgentBackend> {
        let name = match (name, in_background) {
            ("", true) => &self.background,
            ("", false) => &self.default,
            (name, _) => name,
        };
        self.all.iter().find(|backend| backend.name() == name).cloned()
    }

    /// Returns the names of all backends.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(AgentBackend::name)
    }

    /// Returns the external agents.
    pub fn agents(&self) -> impl Iterator<Item = &Arc<dyn Agent>> {
        self.all.iter().filter_map(|backend| match backend {
            AgentBackend::Agent(agent) => Some(agent),
            AgentBackend::Model(_) => None,
        })
    }
}
