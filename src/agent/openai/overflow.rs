//! Refusals of requests that are longer than the context of the model. Endpoints have no common code
//! for them, so they are recognized by the words of the known ones.

use reqwest::StatusCode;

/// The words of which one is in the refusal, in lower case.
const WORDS: [&str; 26] = [
    // OpenAI, and many that follow it.
    "context_length_exceeded",
    "context length exceeded",
    "maximum context length",
    "exceeds the context window",
    "exceed the context window",
    "context window exceeded",
    "context_window_exceeded",
    "string_above_max_length",
    // Anthropic and Bedrock.
    "prompt is too long",
    "input is too long",
    "input length and `max_tokens` exceed context limit",
    // Gemini.
    "input token count",
    "input tokens exceeds",
    "input tokens exceed",
    // xAI.
    "maximum prompt length",
    // Groq.
    "reduce the length of the messages",
    "reduce your message size",
    // llama.cpp and LM Studio.
    "exceed_context_size_error",
    "exceeds the available context size",
    "exceed context window",
    "greater than the context length",
    "larger than the context",
    "context size has been exceeded",
    // Mistral, MiniMax, Moonshot.
    "tokens, which is too large for",
    "context window exceeds limit",
    "exceeded model token limit",
];

/// The words that mean it only where no limit of a rate is meant.
const AMBIGUOUS: [&str; 6] = [
    "request too large",
    "too many input tokens",
    "exceeds the maximum number of tokens",
    "maximum context",
    "prompt too long",
    "exceeds model's maximum",
];

/// Returns `true` if a refusal says that the request is longer than the context of the model.
///
/// `status` is that of the answer, or `None` if the refusal is part of an answer.
pub(super) fn is_overflow(status: Option<StatusCode>, body: &str) -> bool {
    let may_be = match status {
        Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => false,
        Some(_) | None => true,
    };
    let text = body.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
    // A request that exceeds what a minute allows never passes, however long the pause.
    let is_rate = status == Some(StatusCode::TOO_MANY_REQUESTS) && !has(&["request too large"]);
    may_be && !is_rate && (has(&WORDS) || has(&AMBIGUOUS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_every_endpoint_are_recognized() {
        for words in [
            r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#,
            "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens",
            "Your input exceeds the context window of this model",
            "prompt is too long: 213462 tokens > 200000 maximum",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
            "Input is too long for requested model.",
            "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
            "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
            "Please reduce the length of the messages or completion.",
            "the request exceeds the available context size, try increasing it",
            "tokens to keep from the initial prompt is greater than the context length",
            "Prompt contains 300000 tokens and 0 draft tokens, which is too large for model with 131072 maximum context length",
            "invalid params, context window exceeds limit",
            "Your request exceeded model token limit: 262144 (requested: 270000)",
            "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 9000",
        ] {
            assert!(is_overflow(Some(StatusCode::BAD_REQUEST), words), "{words}");
            assert!(is_overflow(None, words), "in an answer: {words}");
        }
        assert!(!is_overflow(Some(StatusCode::PAYLOAD_TOO_LARGE), ""), "a limit of bytes");
        let tpm =
            "Request too large for gpt-4 on tokens per min (TPM): Limit 10000, Requested 12000";
        assert!(is_overflow(Some(StatusCode::TOO_MANY_REQUESTS), tpm));
    }

    #[test]
    fn other_refusals_are_something_else() {
        for (status, words) in [
            (400, "max_tokens is too large: 100000"),
            (400, "Invalid schema for function"),
            (429, "Too many tokens, please wait before trying again."),
            (429, "Rate limit reached: reduce your message size or wait; maximum context length"),
            (401, "maximum context length is for members"),
            (500, "overloaded"),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert!(!is_overflow(Some(status), words), "{words}");
        }
    }
}
