//! The fields in which endpoints describe their errors, and the types, codes and words by which they
//! name them, in lower case.

/// Names of fields with the description of an error, or with an error inside the error.
pub(super) const DESCRIPTION_FIELDS: &[&str] = &[
    "error",
    "errors",
    "detail",
    "details",
    "message",
    "Message",
    "msg",
    "error_message",
    "error_msg",
    "error_description",
    "description",
    "status_msg",
    "raw",
    "metadata",
];
/// Names of fields with the type or the place of an error.
pub(super) const KIND_FIELDS: &[&str] =
    &["type", "code", "loc", "param", "error_type", "error_code"];

/// Types and codes for a quota that is used up.
pub(super) const QUOTA_KINDS: &[&str] = &[
    "insufficient_quota",
    "exceeded_current_quota",
    "billing",
    "insufficient_balance",
    "insufficient_credit",
    "payment_required",
    "arrearage",
];
/// Words for a quota that is used up.
pub(super) const QUOTA_WORDS: &[&str] = &[
    "insufficient_quota",
    "insufficient quota",
    "exceeded your current quota",
    "quota exhausted",
    "quota has been exhausted",
    "check your plan and billing",
    "insufficient balance",
    "insufficient credit",
    "insufficient fund",
    "credit balance is too low",
    "out of credits",
    "have any credits",
    "no credits",
    "billing hard limit",
    "payment required",
    "in arrears",
    "in good standing",
];
/// Types and codes for a rate limit.
pub(super) const RATE_KINDS: &[&str] = &[
    "rate_limit",
    "ratelimit",
    "too_many_requests",
    "toomanyrequests",
    "resource_exhausted",
    "throttl",
];
/// Words for a rate limit.
pub(super) const RATE_WORDS: &[&str] =
    &["rate limit", "rate_limit", "ratelimit", "too many requests"];
/// Codes for a wrong key, which some endpoints send with another status.
pub(super) const KEY_KINDS: &[&str] = &["api_key_invalid", "invalid_api_key"];
/// Types and codes for a key that is missing or not enough.
pub(super) const AUTHENTICATION_KINDS: &[&str] =
    &["authentication", "unauthenticated", "unauthorized", "permission"];
/// Words for a key that is missing or not enough.
pub(super) const AUTHENTICATION_WORDS: &[&str] =
    &["invalid api key", "incorrect api key", "unauthorized", "authentication"];
/// Types and codes for a request that is refused whenever it is sent.
pub(super) const REFUSAL_KINDS: &[&str] = &[
    "invalid_request",
    "badrequest",
    "bad_request",
    "invalid_argument",
    "invalid_prompt",
    "invalid_parameter",
    "not_found",
    "notfound",
    "context_length",
    "context_window",
    "unsupported",
    "unprocessable",
    "failed_precondition",
    "validation",
];
/// Types and codes for a failure of the endpoint.
pub(super) const SERVER_KINDS: &[&str] =
    &["server", "overloaded", "unavailable", "internal", "api_error"];
/// Words for a request that is refused whenever it is sent.
pub(super) const REFUSAL_WORDS: &[&str] = &[
    "no such",
    "not found",
    "does not exist",
    "doesn't exist",
    "not supported",
    "unsupported",
    "invalid",
    "too long",
    "context length",
    "context window",
    "context size",
];
