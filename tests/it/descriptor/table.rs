//! The rules of the contract for every field of every request. The numbers are those of the
//! comments in `proto/callpark/v1`; where these have none, those of `src/model/limits.rs`.

use Rule::*;

/// The rule for the values of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The id of a session; an optional one may be empty.
    Session { required: bool },
    /// The beginning of an id of this kind, or nothing.
    Beginning { kind: &'static str },
    /// The id of a background task.
    Task,
    /// The id of a background task, or of a call.
    TaskOrCall,
    /// The name of a follow-up.
    FollowUp,
    /// Ids of background tasks, at least one.
    Tasks { count_max: usize },
    /// A UUID, or nothing.
    RequestId,
    /// The name of a tool.
    Tool,
    /// The id of a turn, or nothing.
    Turn,
    /// A text that must not be empty.
    Prompt { bytes_max: usize },
    /// The attachments of a prompt, whose own fields have no rules.
    Attachments { count_max: usize, bytes_max: usize },
    /// Names of tools, or none.
    Tools { count_max: usize },
    /// A text, or nothing.
    Text { bytes_max: usize },
    /// An absolute path, or nothing.
    Path { bytes_max: usize },
    /// A page token from an earlier answer, or nothing.
    PageToken,
    /// An epoch from an earlier answer, or nothing.
    Epoch,
    /// At most 64 labels.
    Labels,
    /// A JSON object of at most 1 MiB and 32 levels.
    Arguments,
    /// Bytes of any kind, or none.
    Bytes { bytes_max: usize },
    /// A whole number. Without a maximum any number is fine, or is clamped.
    Whole { min: i64, max: Option<i64> },
    /// A number that is zero or more, and finite.
    Amount,
    /// The number of an event or a change: what is beyond the newest is out of range.
    Sequence,
    /// A span that is refused when it is out of bounds.
    Span { positive: bool, seconds_max: i64 },
    /// A span that is clamped and never refused.
    Wait,
    /// The same where every moment of it is waited for: only what is clamped to none is tried.
    Poll,
    /// A moment.
    Time,
    /// A value of an enum; a required one may not be unspecified.
    Choice { required: bool },
    /// Values of an enum, none of them unspecified.
    Choices,
    /// A flag.
    Flag,
    /// A message whose fields have rules of their own, and which isn't complete when it is empty.
    Fields,
    /// A message that may be empty.
    Optional,
    /// Values that nothing is done with.
    Opaque,
    /// A choice between fields.
    OneOf { required: bool },
    /// A value of an enum, or a span, that must be unset or 0.
    Zero,
    /// The names of the fields to set; one at least.
    Mask,
    /// A resource of which only the fields in a mask are read: its own fields have no rules.
    Resource,
}

const TEXT: Rule = Text { bytes_max: 4 << 10 };
const OPTIONAL_SESSION: Rule = Session { required: false };
const SESSION: Rule = Session { required: true };
const CHOICE: Rule = Choice { required: false };
/// 0 is a default, and what is above the maximum is clamped.
const CLAMPED: Rule = Whole { min: 0, max: None };
const OUTPUT_BYTES: Rule = Whole { min: 0, max: Some(64 << 20) };
/// 30 days.
const SPAN_SECONDS_MAX: i64 = 30 * 24 * 3600;
const BUDGET: Rule = Span { positive: false, seconds_max: SPAN_SECONDS_MAX };
const TIMEOUT: Rule = Span { positive: true, seconds_max: SPAN_SECONDS_MAX };

/// A message, its fields and choices, and their rules.
pub type Row = (&'static str, &'static [(&'static str, Rule)]);

/// The fields of the messages that a served RPC takes.
pub const TABLE: &[Row] = &[
    (
        "ListToolsRequest",
        &[
            ("session_id", OPTIONAL_SESSION),
            ("page_size", CLAMPED),
            ("page_token", PageToken),
            ("view", CHOICE),
        ],
    ),
    (
        "UpdateSessionRequest",
        &[("session", Resource), ("update_mask", Mask), ("request_id", RequestId)],
    ),
    (
        "ListMessagesRequest",
        &[("session_id", SESSION), ("page_size", CLAMPED), ("page_token", PageToken)],
    ),
    ("RunToolRequest", CALL),
    (
        "CreateSessionRequest",
        &[
            ("request_id", RequestId),
            ("description", TEXT),
            ("labels", Labels),
            ("allowed_tools", Tools { count_max: 1_000 }),
            ("model", TEXT),
            ("system_message", Text { bytes_max: 64 << 10 }),
            ("max_rounds", Whole { min: 0, max: None }),
            ("working_directory", Path { bytes_max: 4 << 10 }),
            ("max_live_tasks", Whole { min: 0, max: Some(1_000) }),
            ("task_limit_policy", CHOICE),
            ("on_restart", CHOICE),
            ("follow_up", CHOICE),
            ("budget", Optional),
        ],
    ),
    ("Budget", &[("max_cost_usd", Amount), ("max_tokens", Whole { min: 0, max: None })]),
    ("GetSessionRequest", &[("session_id", SESSION)]),
    (
        "ListSessionsRequest",
        &[
            ("page_size", CLAMPED),
            ("page_token", PageToken),
            ("state", CHOICE),
            ("labels", Labels),
            ("created_after", Time),
            ("session_id_prefix", Beginning { kind: "ses-" }),
        ],
    ),
    (
        "CloseSessionRequest",
        &[("session_id", SESSION), ("request_id", RequestId), ("reason", TEXT)],
    ),
    (
        "StreamSessionRequest",
        &[
            ("session_id", SESSION),
            ("start_after_sequence", Sequence),
            ("stream_epoch", Epoch),
            ("from_now", Flag),
            ("payloads", Choices),
            ("follow", Flag),
            ("on_gap", CHOICE),
        ],
    ),
    (
        "StartRequest",
        &[
            ("concurrency", CHOICE),
            ("work", OneOf { required: true }),
            ("tool_call", Fields),
            ("turn", Fields),
        ],
    ),
    ("RunTurnRequest", TURN),
    (
        "CancelTurnRequest",
        &[("session_id", SESSION), ("turn_id", Turn), ("request_id", RequestId), ("reason", TEXT)],
    ),
    ("GetRequest", &[("background_id", Task)]),
    (
        "ListRequest",
        &[
            ("session_id", OPTIONAL_SESSION),
            ("states", Choices),
            ("kinds", Choices),
            ("labels", Labels),
            ("created_after", Time),
            ("page_size", CLAMPED),
            ("page_token", PageToken),
            ("background_id_prefix", Beginning { kind: "bg-" }),
        ],
    ),
    ("WaitRequest", &[("background_id", Task), ("wait", Wait), ("acknowledge", Flag)]),
    (
        "WaitManyRequest",
        &[
            ("background_ids", Tasks { count_max: 100 }),
            ("mode", CHOICE),
            ("wait", Wait),
            ("acknowledge", Flag),
        ],
    ),
    (
        "CancelRequest",
        &[
            ("background_id", Task),
            ("request_id", RequestId),
            ("force", Flag),
            ("reason", TEXT),
            ("dry_run", Flag),
            ("wait", Wait),
            ("grace", Span { positive: false, seconds_max: 60 }),
        ],
    ),
    ("DeleteRequest", &[("background_id", Task), ("request_id", RequestId)]),
    (
        "ReadOutputRequest",
        &[
            ("background_id", TaskOrCall),
            ("stream", CHOICE),
            ("position", OneOf { required: false }),
            ("offset", Whole { min: 0, max: None }),
            ("tail_lines", Whole { min: 1, max: None }),
            ("max_bytes", CLAMPED),
            ("wait", Wait),
        ],
    ),
    ("WatchRequest", &[("session_id", OPTIONAL_SESSION), ("watch_sequence", Sequence)]),
    ("SummarizeRequest", &[("session_id", SESSION)]),
    (
        "ListFollowUpsRequest",
        &[
            ("session_id", OPTIONAL_SESSION),
            ("states", Choices),
            ("page_size", CLAMPED),
            ("page_token", PageToken),
        ],
    ),
    (
        "LeaseFollowUpsRequest",
        &[
            ("session_id", OPTIONAL_SESSION),
            ("request_id", RequestId),
            ("max_follow_ups", Whole { min: 0, max: Some(100) }),
            ("lease_duration", Span { positive: true, seconds_max: 3_600 }),
            ("wait", Poll),
            ("consumer", TEXT),
        ],
    ),
    (
        "AcknowledgeFollowUpRequest",
        &[
            ("follow_up_id", FollowUp),
            ("lease_token", Prompt { bytes_max: 4 << 10 }),
            ("request_id", RequestId),
            ("error", Optional),
        ],
    ),
    (
        "Status",
        &[("code", Whole { min: 0, max: Some(16) }), ("message", TEXT), ("details", Opaque)],
    ),
    ("RetryFollowUpRequest", &[("follow_up_id", FollowUp), ("request_id", RequestId)]),
];

const PROMPT: Rule = Prompt { bytes_max: 128 << 10 };
const ATTACHMENTS: Rule = Attachments { count_max: 32, bytes_max: 2 << 20 };

const TURN: &[(&str, Rule)] = &[
    ("session_id", OPTIONAL_SESSION),
    ("prompt", PROMPT),
    ("attachments", ATTACHMENTS),
    ("model", TEXT),
    ("system_message", Text { bytes_max: 64 << 10 }),
    ("max_rounds", CLAMPED),
    ("request_id", RequestId),
    ("busy_policy", CHOICE),
    ("max_attempts", CLAMPED),
    ("call_budget", BUDGET),
    ("execution_timeout", TIMEOUT),
    ("on_disconnect", CHOICE),
    ("follow_up", CHOICE),
    ("detached", Flag),
    ("labels", Labels),
    ("description", TEXT),
    ("dry_run", Flag),
];

const CALL: &[(&str, Rule)] = &[
    ("session_id", OPTIONAL_SESSION),
    ("tool", Tool),
    ("arguments", Arguments),
    ("request_id", RequestId),
    ("call_budget", BUDGET),
    ("execution_timeout", TIMEOUT),
    ("idle_timeout", TIMEOUT),
    ("on_disconnect", CHOICE),
    ("follow_up", CHOICE),
    ("detached", Flag),
    ("max_output_bytes", OUTPUT_BYTES),
    ("labels", Labels),
    ("dry_run", Flag),
    ("description", TEXT),
    ("stdin", Bytes { bytes_max: 2 << 20 }),
];

/// Rules for a field in one place, which stand before those of its message.
const PLACES: &[(&str, Rule)] = &[
    ("tool_call.call_budget", Zero),
    ("tool_call.on_disconnect", Zero),
    ("turn.call_budget", Zero),
    ("turn.on_disconnect", Zero),
];

/// Returns the rule of a field or a choice, or `None` if the table lacks it.
pub fn rule_of(path: &str, message: &str, field: &str) -> Option<Rule> {
    if let Some((_, rule)) = PLACES.iter().find(|(place, _)| *place == path) {
        return Some(*rule);
    }
    let (_, fields) = TABLE.iter().find(|(name, _)| *name == message)?;
    fields.iter().find(|(name, _)| *name == field).map(|(_, rule)| *rule)
}
