//! The configuration that all child processes share: those of command tools, MCP servers and
//! agents.

use std::path::PathBuf;

use crate::model::Environment;

/// A child process, as a table of the configuration describes it.
///
/// A table has these keys beside its own. [`ChildProcessConfig::check`] checks them for all tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChildProcessConfig {
    /// The program and its arguments. There is no shell in between.
    pub argv: Vec<String>,
    /// The names of callpark's own variables that the process sees. It sees no others of them.
    pub environment: Vec<String>,
    /// Variables with values of their own. They win over those of callpark.
    pub set_environment: Environment,
    /// The folder in which the process runs, or `None` if the table does not name one.
    pub working_directory: Option<PathBuf>,
}

/// A key of a table with which no process can be started.
///
/// The message begins with the key. The caller puts the name of the table before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChildProcessError {
    /// The table names no program.
    #[error("argv must begin with the program to run")]
    ProgramMissing,
    /// A text that no program can be given.
    #[error("{key} must not contain a NUL character")]
    Nul {
        /// The key, such as `argv[2]`.
        key: String,
    },
    /// A variable that cannot be passed on.
    #[error("{key}: `{variable}`: {reason}")]
    VariableInvalid {
        /// `environment` or `set_environment`.
        key: &'static str,
        /// The name of the variable.
        variable: String,
        /// The rule that the name breaks.
        reason: &'static str,
    },
}

impl ChildProcessConfig {
    /// Checks everything that the types do not.
    ///
    /// # Errors
    ///
    /// The first key with which no process can be started.
    pub fn check(&self) -> Result<(), ChildProcessError> {
        for (index, element) in self.argv.iter().enumerate() {
            check_nul(|| format!("argv[{index}]"), element)?;
        }
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(ChildProcessError::ProgramMissing);
        }
        self.check_variable_names(variable_name_error)?;
        for (name, value) in &self.set_environment {
            check_nul(|| format!("set_environment.{name}"), value)?;
        }
        match &self.working_directory {
            Some(folder) => check_nul(|| "working_directory".to_owned(), &folder.to_string_lossy()),
            None => Ok(()),
        }
    }

    /// Applies a rule to the names of all variables. The rule returns the reason if it is broken.
    ///
    /// # Errors
    ///
    /// The first name that breaks the rule.
    pub fn check_variable_names(
        &self,
        rule: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<(), ChildProcessError> {
        let allowed = self.environment.iter().map(|name| ("environment", name));
        let own = self.set_environment.keys().map(|name| ("set_environment", name));
        for (key, name) in allowed.chain(own) {
            if let Some(reason) = rule(name) {
                let variable = name.clone();
                return Err(ChildProcessError::VariableInvalid { key, variable, reason });
            }
        }
        Ok(())
    }

    /// Returns the whole environment of the process: the allowed variables of `server`, and its
    /// own.
    pub fn environment(&self, server: &Environment) -> Environment {
        let value = |name: &String| Some((name.clone(), server.get(name)?.clone()));
        let mut environment: Environment = self.environment.iter().filter_map(value).collect();
        environment.extend(self.set_environment.clone());
        environment
    }
}

/// Returns the reason why no variable can have this name, or `None` if one can.
pub fn variable_name_error(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("the name of a variable must not be empty");
    }
    name.contains(['=', '\0'])
        .then_some("the name of a variable must not contain `=` or a NUL character")
}

fn check_nul(key: impl Fn() -> String, text: &str) -> Result<(), ChildProcessError> {
    match text.contains('\0') {
        true => Err(ChildProcessError::Nul { key: key() }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> ChildProcessConfig {
        ChildProcessConfig { argv: vec!["x".to_owned()], ..ChildProcessConfig::default() }
    }

    fn variables(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn errors_name_the_key() {
        let argv = |argv: &[&str]| ChildProcessConfig {
            argv: argv.iter().map(|element| (*element).to_owned()).collect(),
            ..process()
        };
        for (config, message) in [
            (process(), ""),
            (argv(&[]), "argv must begin with the program to run"),
            (argv(&[""]), "argv must begin with the program to run"),
            (argv(&["x", "\0"]), "argv[1] must not contain a NUL character"),
            (
                ChildProcessConfig { environment: vec!["A=B".to_owned()], ..process() },
                "environment: `A=B`: the name of a variable must not contain `=` or a NUL character",
            ),
            (
                ChildProcessConfig { set_environment: variables(&[("", "x")]), ..process() },
                "set_environment: ``: the name of a variable must not be empty",
            ),
            (
                ChildProcessConfig { set_environment: variables(&[("A", "\0")]), ..process() },
                "set_environment.A must not contain a NUL character",
            ),
            (
                ChildProcessConfig { working_directory: Some("/\0".into()), ..process() },
                "working_directory must not contain a NUL character",
            ),
        ] {
            let error = config.check().err().map(|error| error.to_string());
            assert_eq!(error.unwrap_or_default(), message);
        }
    }

    #[test]
    fn a_process_sees_allowed_variables_and_its_own() {
        let server = variables(&[("PATH", "/bin"), ("HOME", "/root"), ("TOKEN", "secret")]);
        let config = ChildProcessConfig {
            environment: ["PATH", "HOME", "LANG"].map(str::to_owned).into(),
            set_environment: variables(&[("HOME", "/nowhere")]),
            ..process()
        };
        let expected = variables(&[("HOME", "/nowhere"), ("PATH", "/bin")]);
        assert_eq!(config.environment(&server), expected);
    }
}
