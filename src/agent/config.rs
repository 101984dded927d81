//! The configuration of models.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::headers::HeaderSource;
use crate::model::{Usage, enum_table, span};

/// The default time after which a silent endpoint counts as failed.
pub(super) const READ_TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);

/// The smallest context that has room for callpark's own instructions and tools.
const CONTEXT_TOKENS_MIN: u64 = 1_000;

/// One `[[models]]` table: a model behind an OpenAI-compatible chat endpoint.
///
/// ```toml
/// [[models]]
/// name = "main"
/// endpoint = "https://api.openai.com/v1"
/// model = "gpt-6"
/// api_key_environment = "OPENAI_API_KEY"
/// price = { input = 1.25, cached_input = 0.125, output = 10.0 }
/// ```
///
/// `docs/models.md` has a table for each of the common providers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The name by which sessions choose the model: 1 to 100 characters.
    pub name: String,
    /// The URL of the endpoint, without the final `/chat/completions`. A query stays behind the path.
    pub endpoint: String,
    /// The endpoint's name for the model. Default: `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The environment variable of callpark that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_environment: Option<String>,
    /// The file that holds the key. It is read for each request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// The price of the model. Default: 0.
    #[serde(default)]
    pub price: PriceConfig,
    /// The maximum number of tokens of one answer. Default: the endpoint's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// The time after which a request to a silent endpoint counts as failed. Default: 5 min.
    #[serde(default, with = "span", skip_serializing_if = "Option::is_none")]
    pub read_timeout: Option<Duration>,
    /// `true` if the model accepts images: those attached to a prompt, and those in the results of its
    /// calls, which are PNG, JPEG, GIF or WebP. Otherwise it gets a text note instead. Default: true.
    #[serde(default = "yes")]
    pub pictures: bool,
    /// Headers of each request, beside that with the key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, HeaderSource>,
    /// Fields of each request. They replace fields of the same name that callpark sends.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra_body: Map<String, Value>,
    /// Fields that are not sent, because the endpoint refuses them. An endpoint that refuses an
    /// optional field by its name is asked again without it, even if it isn't listed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omit: Vec<String>,
    /// The number of tokens of a request and its answer together, beyond which older results and
    /// messages are left out of requests. Default: unknown until the endpoint refuses a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u64>,
    /// The name of the field that holds `max_output_tokens`. Default: `max_completion_tokens`, or the
    /// other one if the endpoint refuses it.
    #[serde(default)]
    pub max_tokens_field: MaxTokensField,
    /// The randomness of answers. Default: the endpoint's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The effort of reasoning, such as `low`. Default: the endpoint's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// `auto`, `none`, `required`, or the name of the tool that the model must call. Default: the
    /// endpoint's, which is `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<String>,
    /// `false` if the model makes one call at a time. Default: the endpoint's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// The ids of calls that are sent. Default: `kept`, or `short` if the endpoint refuses these.
    #[serde(default)]
    pub call_ids: CallIds,
}

fn yes() -> bool {
    true
}

enum_table! {
    /// The name of the field that limits the tokens of an answer.
    #[derive(Default)]
    pub enum MaxTokensField {
        /// The name since reasoning counts towards the limit.
        #[default]
        MaxCompletionTokens => "max_completion_tokens",
        /// The older name, which most gateways know.
        MaxTokens => "max_tokens",
    }
}

impl MaxTokensField {
    /// Returns the other name.
    pub(super) fn other(self) -> Self {
        match self {
            Self::MaxCompletionTokens => Self::MaxTokens,
            Self::MaxTokens => Self::MaxCompletionTokens,
        }
    }
}

enum_table! {
    /// The ids of calls that an endpoint is sent.
    #[derive(Default)]
    pub enum CallIds {
        /// The ids that the model gave, as long as they are unique.
        #[default]
        Kept => "kept",
        /// Nine letters and digits, as Mistral demands them for calls of other models, too.
        Short => "short",
    }
}

/// The fields without which there is no request.
const REQUIRED_FIELDS: [&str; 3] = ["messages", "model", "stream"];

/// Prices in US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceConfig {
    /// The price of input tokens.
    #[serde(default)]
    pub input: f64,
    /// The price of input tokens that come from a cache. Default: that of other input tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<f64>,
    /// The price of output tokens.
    #[serde(default)]
    pub output: f64,
}

impl PriceConfig {
    /// Returns the cost of a usage in US dollars.
    pub fn cost_usd(&self, usage: &Usage) -> f64 {
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let fresh = usage.input_tokens - cached;
        let millionths = fresh as f64 * self.input
            + cached as f64 * self.cached_input.unwrap_or(self.input)
            + usage.output_tokens as f64 * self.output;
        millionths / 1e6
    }
}

impl ModelConfig {
    /// Validates the values that the types don't constrain.
    ///
    /// # Errors
    ///
    /// Fails with a description of the first invalid value.
    pub fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.chars().count() > 100 {
            return Err("name must be 1 to 100 characters".to_owned());
        }
        let is_http =
            ["http://", "https://"].iter().any(|scheme| self.endpoint.starts_with(scheme));
        if !is_http || reqwest::Url::parse(&self.endpoint).is_err() {
            return Err("endpoint must be a URL that begins with http:// or https://".to_owned());
        }
        if self.api_key_environment.is_some() && self.api_key_file.is_some() {
            return Err("api_key_environment and api_key_file must not both be set".to_owned());
        }
        let prices = [self.price.input, self.price.cached_input.unwrap_or(0.0), self.price.output];
        if prices.iter().any(|price| !price.is_finite() || *price < 0.0) {
            return Err("a price must be a number of US dollars, 0 or more".to_owned());
        }
        if self.max_output_tokens == Some(0) || self.read_timeout.is_some_and(|t| t.is_zero()) {
            return Err("max_output_tokens and read_timeout must not be 0".to_owned());
        }
        self.check_fields()
    }

    fn check_fields(&self) -> Result<(), String> {
        if self.context_tokens.is_some_and(|tokens| tokens < CONTEXT_TOKENS_MIN) {
            return Err(format!("context_tokens must be at least {CONTEXT_TOKENS_MIN}"));
        }
        if self.temperature.is_some_and(|value| !value.is_finite() || value < 0.0) {
            return Err("temperature must be a number, 0 or more".to_owned());
        }
        if let Some(field) = self.omit.iter().find(|f| REQUIRED_FIELDS.contains(&f.as_str())) {
            return Err(format!("omit names `{field}`, without which there is no request"));
        }
        let own = ["messages", "stream", "tools"];
        if let Some(field) = own.iter().find(|field| self.extra_body.contains_key(**field)) {
            return Err(format!("extra_body must not have `{field}`, which callpark writes"));
        }
        self.headers.iter().try_for_each(|(name, source)| source.check(name))
    }

    /// Returns the names of the environment variables that the configuration refers to.
    pub fn environment_names(&self) -> Vec<String> {
        let of_headers = self.headers.values().filter_map(HeaderSource::environment_name);
        self.api_key_environment
            .as_deref()
            .into_iter()
            .chain(of_headers)
            .map(str::to_owned)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_have_a_price_of_their_own() {
        let price = PriceConfig { input: 2.0, cached_input: Some(0.5), output: 10.0 };
        let usage = Usage {
            input_tokens: 1_000_000,
            cached_input_tokens: 400_000,
            output_tokens: 100_000,
            ..Usage::default()
        };
        assert_eq!(price.cost_usd(&usage), 0.6 * 2.0 + 0.4 * 0.5 + 0.1 * 10.0);
        let flat = PriceConfig { cached_input: None, ..price };
        assert_eq!(flat.cost_usd(&usage), 2.0 + 1.0);
    }

    #[test]
    fn an_invalid_value_is_named() {
        let toml = "name = 'm'\nendpoint = 'http://127.0.0.1:1/v1'";
        let good: ModelConfig = toml::from_str(toml).expect("a model");
        assert_eq!(good.check(), Ok(()));
        let bad = [
            (ModelConfig { name: String::new(), ..good.clone() }, "name"),
            (ModelConfig { endpoint: "localhost:1".into(), ..good.clone() }, "endpoint"),
            (
                ModelConfig { price: PriceConfig { input: -1.0, ..good.price }, ..good.clone() },
                "price",
            ),
            (ModelConfig { max_output_tokens: Some(0), ..good.clone() }, "max_output_tokens"),
            (ModelConfig { context_tokens: Some(999), ..good.clone() }, "context_tokens"),
            (ModelConfig { temperature: Some(f64::NAN), ..good.clone() }, "temperature"),
            (ModelConfig { omit: vec!["messages".into()], ..good.clone() }, "omit"),
            (
                ModelConfig {
                    extra_body: Map::from_iter([("stream".to_owned(), Value::Bool(false))]),
                    ..good.clone()
                },
                "extra_body",
            ),
            (
                ModelConfig {
                    headers: [("a b".to_owned(), HeaderSource::Value("c".into()))].into(),
                    ..good.clone()
                },
                "headers",
            ),
            (
                ModelConfig {
                    api_key_environment: Some("K".into()),
                    api_key_file: Some("/k".into()),
                    ..good
                },
                "api_key",
            ),
        ];
        for (config, word) in bad {
            let error = config.check().expect_err(word);
            assert!(error.contains(word), "{error}");
        }
    }
}
