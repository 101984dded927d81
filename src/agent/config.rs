//! The configuration of models.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Usage, span};

/// The default time after which a silent endpoint counts as failed.
pub(super) const READ_TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The name by which sessions choose the model: 1 to 100 characters.
    pub name: String,
    /// The URL of the endpoint, without the final `/chat/completions`.
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
}

fn yes() -> bool {
    true
}

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
        Ok(())
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
        let good = ModelConfig {
            name: "m".into(),
            endpoint: "http://127.0.0.1:1/v1".into(),
            model: None,
            api_key_environment: None,
            api_key_file: None,
            price: PriceConfig::default(),
            max_output_tokens: None,
            read_timeout: None,
            pictures: true,
        };
        assert_eq!(good.check(), Ok(()));
        let bad = [
            (ModelConfig { name: String::new(), ..good.clone() }, "name"),
            (ModelConfig { endpoint: "localhost:1".into(), ..good.clone() }, "endpoint"),
            (
                ModelConfig { price: PriceConfig { input: -1.0, ..good.price }, ..good.clone() },
                "price",
            ),
            (ModelConfig { max_output_tokens: Some(0), ..good.clone() }, "max_output_tokens"),
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
