//! Every bound of the product, with its unit in the name. What can be set has its default here.

/// Waits for a task that name no span, in seconds.
pub const WAIT_SECONDS_DEFAULT: u64 = 60;
/// The longest wait for a task, in seconds; a longer one is clamped to it.
pub const WAIT_SECONDS_MAX: u64 = 540;
/// How long a Cancel waits for the end unless it says otherwise, in seconds.
pub const CANCEL_WAIT_SECONDS_DEFAULT: u64 = 10;
/// How many tasks one WaitMany may name.
pub const WAIT_MANY_TASKS_MAX: usize = 100;

/// Up to this many tasks of a WaitMany come with what their records hold of their output; of more
/// each comes as in a list.
pub const WAIT_MANY_WHOLE_TASKS_MAX: usize = 50;

/// How long a call of a built-in command tool holds its caller, in seconds.
pub const CALL_BUDGET_SECONDS_DEFAULT: u64 = 600;
/// The longest span that a request may name for a budget or a limit, in seconds: 30 days.
pub const SPAN_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// The hard limit of a run unless the call or the tool says otherwise, in seconds.
pub const EXECUTION_TIMEOUT_SECONDS_DEFAULT: u64 = 3600;
/// From TERM to KILL, in milliseconds.
pub const GRACE_MS_DEFAULT: u64 = 5_000;
/// The longest time from TERM to KILL, in milliseconds; a longer one is clamped to it.
pub const GRACE_MS_MAX: u64 = 60_000;
/// How long pipes are read after the process has exited, in milliseconds. What a grandchild that
/// still holds them writes later is not read.
pub const DRAIN_MS_DEFAULT: u64 = 2_000;
/// Before the caller's deadline by this much a call is parked, in milliseconds, so that the
/// answer arrives in time. Short deadlines give a third of themselves instead.
pub const DEADLINE_MARGIN_MS: u64 = 150;

/// Live calls a session, by default.
pub const LIVE_TASKS_DEFAULT: u32 = 32;
/// Live calls a session, at most.
pub const LIVE_TASKS_MAX: u32 = 1_000;
/// Running calls on this server, for each core. Calls beyond it wait as PENDING.
pub const RUNNING_CALLS_PER_CORE: usize = 64;

/// The largest coalesced piece of output, in bytes.
pub const OUTPUT_CHUNK_BYTES_MAX: usize = 32 * 1024;
/// How long output waits to be coalesced, in milliseconds.
pub const OUTPUT_DELAY_MS: u64 = 50;
/// Output kept for a call, head and tail together, in bytes: the default and the maximum. What
/// lies between is dropped and counted.
pub const OUTPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Of the kept output, how much is tail, in bytes.
pub const OUTPUT_TAIL_BYTES_MAX: u64 = 1024 * 1024;
/// Head of the output inside an answer, in bytes.
pub const INLINE_HEAD_BYTES_MAX: u64 = 1024 * 1024;
/// Tail of the output inside an answer, in bytes.
pub const INLINE_TAIL_BYTES_MAX: u64 = 1024 * 1024;
/// The first bytes of each output stream inside an event and a task's record. An answer about one
/// task takes the rest from the log.
pub const RECORD_OUTPUT_BYTES_MAX: usize = 8 * 1024;
/// The content of a result in a list or a watch, in bytes; more is left out of it.
pub const LIST_CONTENT_BYTES_MAX: usize = 1024;
/// Pieces of output in one read of the store: of many small ones a read gives fewer bytes than it
/// was asked for, and the next one goes on.
pub const OUTPUT_PAGE_PIECES_MAX: usize = 4_096;
/// The tail of the output in the answer to a Wait that came too early, in bytes.
pub const WAIT_TAIL_BYTES_MAX: usize = 64 * 1024;
/// The lines of that tail.
pub const WAIT_TAIL_LINES_MAX: usize = 100;
/// The largest answer to one ReadOutput, in bytes.
pub const READ_OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// The answer to a ReadOutput that names no size, in bytes.
pub const READ_OUTPUT_BYTES_DEFAULT: usize = 64 * 1024;

/// The size of an encoded event, in bytes. What does not fit is left out, and a field says so.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Arguments of a call, in bytes of JSON.
pub const ARGUMENTS_BYTES_MAX: usize = 1024 * 1024;
/// Arguments told in an event, in bytes of JSON; larger ones are left out of it, and counted.
pub const EVENT_ARGUMENTS_BYTES_MAX: usize = 64 * 1024;
/// Nesting of the arguments. A level of JSON is three levels of messages, and a message nested
/// deeper than 100 can't be decoded at all.
pub const ARGUMENTS_DEPTH_MAX: usize = 32;
/// Nesting of JSON in a result, which lies two messages deeper in an event than arguments do. What is
/// nested deeper is told as text.
pub const RESULT_DEPTH_MAX: usize = 30;
/// Labels on a session or a call.
pub const LABELS_MAX: usize = 64;
/// A label's key, in bytes.
pub const LABEL_KEY_BYTES_MAX: usize = 63;
/// A label's value, in bytes.
pub const LABEL_VALUE_BYTES_MAX: usize = 255;
/// A description or a reason, in bytes.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;
/// A system message, in bytes.
pub const SYSTEM_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Names in a session's list of allowed tools.
pub const ALLOWED_TOOLS_MAX: usize = 1_000;
/// A result in a summary for a model, in characters.
pub const SUMMARY_RESULT_CHARACTERS_MAX: usize = 2_000;

/// Faults that one error names; the others are counted. With the sizes below it an error stays
/// under the 16 KiB that clients take as metadata.
pub const ERROR_FAULTS_MAX: usize = 16;
/// A field's path, or an id that wasn't found, inside an error, in bytes.
pub const ERROR_NAME_BYTES_MAX: usize = 80;
/// What is wrong, inside an error, in bytes.
pub const ERROR_TEXT_BYTES_MAX: usize = 160;

/// A request for health or reflection, in bytes: anybody may send one, without a token.
pub const OPEN_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Entries of a page that names no size.
pub const PAGE_SIZE_DEFAULT: u32 = 50;
/// Entries of a page; more is clamped to it.
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// A page of a list, in bytes; a page ends where it would be larger, and the next one goes on there.
pub const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Events in one message of a stream.
pub const UPDATE_EVENTS_MAX: usize = 64;
/// Events in one message of a stream, in bytes; a single larger event travels alone.
pub const UPDATE_BYTES_MAX: usize = 32 * 1024;
/// Events that one read of the log looks at. A filter that keeps few costs more reads, never
/// a longer one.
pub const LOG_PAGE_EVENTS_MAX: usize = 2_048;
/// Events that one read of the log returns, in bytes.
pub const LOG_PAGE_BYTES_MAX: usize = 512 * 1024;
/// A stream that has been silent for this long says so, in milliseconds.
pub const HEARTBEAT_MS_DEFAULT: u64 = 15_000;

/// Ended calls whose descendants are to be searched for together. When it is full, a call's end waits
/// for a search of its own.
pub const SEARCH_CALLS_MAX: usize = 65_536;
/// Requests waiting for a session's actor. When it is full, they take longer.
pub const ACTOR_INBOX_COMMANDS_MAX: usize = 256;
/// Reports of runners that wait for the actor: 2 MiB of output at most. When it is full, runners
/// wait, and pipes aren't read.
pub const ACTOR_REPORTS_MAX: usize = 64;
/// Appends of one session that are under way at the same time. Then what comes next waits in the
/// inbox.
pub const ACTOR_APPENDS_MAX: usize = 2;
/// Commands that the actor decides before one append.
pub const ACTOR_BATCH_COMMANDS_MAX: usize = 64;
/// An actor without work leaves memory after this long, in milliseconds.
pub const ACTOR_IDLE_MS: u64 = 1_000;

/// An actor that broke is replaced after this long, in milliseconds.
pub const ACTOR_REPLACEMENT_MS: u64 = 1_000;
/// Appends waiting for the store's writer. When it is full, actors wait.
pub const STORE_QUEUE_APPENDS_MAX: usize = 1_024;
/// Appends in one commit.
pub const STORE_COMMIT_APPENDS_MAX: usize = 64;
/// Readers of the store at the same time.
pub const STORE_READERS_MAX: usize = 4;

/// Records of calls that are remembered in memory after they were stored; the oldest are forgotten
/// for newer ones.
pub const RECENT_CALLS_MAX: usize = 512;
/// The variable parts of such a record, in bytes; a larger one isn't remembered.
pub const RECENT_CALL_BYTES_MAX: usize = 64 * 1024;
/// Sessions whose newest events are remembered, because somebody follows them. One more makes them
/// all forgotten: those that are still followed are remembered again.
pub const RECENT_LOGS_MAX: usize = 4_096;
/// The newest events of a followed session, in number; a reader that is further behind asks the
/// store.
pub const RECENT_LOG_EVENTS_MAX: usize = 512;
/// The same in bytes.
pub const RECENT_LOG_BYTES_MAX: usize = 64 * 1024;
/// The newest events of all followed sessions, in bytes; beyond it they are all forgotten.
pub const RECENT_LOGS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Pages of logs that are remembered for other readers, each of [`LOG_PAGE_BYTES_MAX`] at most; the
/// oldest are forgotten for newer ones.
pub const RECENT_PAGES_MAX: usize = 32;
/// Finished tasks and request ids are kept for this long, in seconds.
pub const RETENTION_SECONDS_DEFAULT: u64 = 24 * 3600;
/// Events kept of one session; older ones are trimmed, and readers are told of the gap.
pub const SESSION_EVENTS_MAX_DEFAULT: u64 = 10_000_000;
/// How often what has expired is removed, in milliseconds.
pub const SWEEP_MS_DEFAULT: u64 = 60_000;

/// Content of a result of a tool that isn't a process, in its record and its event. What is more is
/// cut, and a note says how much.
pub const RESULT_CONTENT_BYTES_MAX: usize = 192 * 1024;

/// How long a list of tools waits for each provider, in seconds. One that hasn't answered by then is
/// told as unavailable, and goes on starting for the next list.
pub const OFFER_WAIT_SECONDS_MAX: u64 = 10;

/// Tools that one MCP server may offer. The others are left out, and ListTools says so.
pub const MCP_TOOLS_MAX: usize = 1_000;

/// The schemas of one tool of an MCP server. A tool with larger ones is left out, and ListTools says
/// so.
pub const MCP_SCHEMA_BYTES_MAX: usize = 256 * 1024;

/// The rounds with its model that a turn may take unless it or its session says otherwise.
pub const TURN_ROUNDS_DEFAULT: u32 = 50;
/// The rounds that a turn may take at most.
pub const TURN_ROUNDS_MAX: u32 = 1_000;
/// The attempts at one request to a model unless the turn says otherwise.
pub const TURN_ATTEMPTS_DEFAULT: u32 = 3;
/// The attempts at one request to a model, at most.
pub const TURN_ATTEMPTS_MAX: u32 = 10;
/// A turn that has shown nothing for this long ends, in seconds.
pub const TURN_IDLE_SECONDS: u64 = 30 * 60;
/// The hard limit of a turn in the foreground, in seconds: a day.
pub const TURN_SECONDS_DEFAULT: u64 = 24 * 3600;
/// The hard limit of a turn that was started in the background, in seconds.
pub const BACKGROUND_TURN_SECONDS: u64 = 600;

/// How deep agents may be nested: one that a turn starts is at 1, one that it starts at 2.
pub const SUB_SESSION_DEPTH_MAX: u32 = 3;

/// Agents that work for one session at the same time.
pub const SUB_SESSIONS_MAX: usize = 8;

/// A prompt, in bytes.
pub const PROMPT_BYTES_MAX: usize = 128 * 1024;
/// What comes with a prompt, in bytes.
pub const ATTACHMENTS_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Attachments of a prompt.
pub const ATTACHMENTS_MAX: usize = 32;
/// Text of a model in one event, in bytes. Text that comes faster than it is stored is joined up to
/// this.
pub const DELTA_BYTES_MAX: usize = 32 * 1024;
/// How long text of a model waits for more, in milliseconds.
pub const DELTA_DELAY_MS: u64 = 10;
/// The answer of a model to one request, in bytes: text, reasoning and calls; and all that an agent
/// that runs its own loop says in one turn. More ends it as failed.
pub const MODEL_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same as it comes from the endpoint, in bytes, with all that goes around each piece.
pub const MODEL_STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The calls that one message of a model may ask for.
pub const MODEL_CALLS_MAX: usize = 64;
/// What a model is told of the result of a call, in bytes; the middle of a longer one is left out,
/// and a note says how much.
pub const MODEL_RESULT_BYTES_MAX: usize = 64 * 1024;
/// The pictures that a model is shown of the results of the calls of one message, in bytes. Those that
/// are too many are told of in words, and a note says so.
pub const MODEL_PICTURES_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Messages kept of a session's history; the oldest are forgotten for newer ones.
pub const HISTORY_MESSAGES_MAX: u64 = 2_000;
/// How much of the history a request to a model holds, in bytes. What is older is left out, and
/// counted.
pub const HISTORY_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Turns that run at the same time on this server. More wait as PENDING.
pub const RUNNING_TURNS_MAX: usize = 1_000;
/// A failing call that a model repeats word for word so often ends its turn.
pub const REPEATED_FAILURES_MAX: u32 = 3;

/// Attempts at delivering a follow-up after which it is given up.
pub const FOLLOW_UP_ATTEMPTS_MAX: u32 = 10;
/// A lease of a follow-up that names no time, in seconds.
pub const FOLLOW_UP_LEASE_SECONDS_DEFAULT: u64 = 60;
/// The longest lease of a follow-up, in seconds.
pub const FOLLOW_UP_LEASE_SECONDS_MAX: u64 = 3_600;
/// Follow-ups that one LeaseFollowUps takes at most.
pub const FOLLOW_UPS_LEASED_MAX: u32 = 100;
/// Follow-ups that one turn tells of at most; the others get the next one.
pub const FOLLOW_UPS_TOLD_MAX: u32 = 32;
/// Follow-ups that a turn takes between its rounds at most; the others wait for its end.
pub const FOLLOW_UPS_OF_TURN_MAX: usize = 256;
/// The output of a task inside the message of a follow-up, in bytes; of more the middle is left out.
pub const FOLLOW_UP_OUTPUT_BYTES_MAX: usize = 8 * 1024;
/// The rounds of a turn that delivers follow-ups.
pub const FOLLOW_UP_ROUNDS_MAX: u32 = 12;
/// What is kept with a message of the history about what a follow-up told, in characters.
pub const FOLLOW_UP_NOTE_CHARACTERS_MAX: usize = 4_000;
/// What is kept with it of the arguments and of the output of each tool that was used, in characters.
pub const FOLLOW_UP_NOTE_TOOL_CHARACTERS_MAX: usize = 1_000;
/// Tools that are kept with such a message; the last ones are left out.
pub const FOLLOW_UP_NOTE_TOOLS_MAX: usize = 64;
/// Turns that deliver follow-ups at the same time on this server.
pub const FOLLOW_UP_TURNS_MAX: usize = 128;
/// The same for one tenant.
pub const FOLLOW_UP_TURNS_TENANT_MAX: usize = 64;
/// Sessions with follow-ups that wait for a place; others are found by the next sweep.
pub const FOLLOW_UP_SESSIONS_MAX: usize = 10_000;
/// How often the outbox is looked through for what nobody was woken for, in milliseconds.
pub const FOLLOW_UP_SWEEP_MS: u64 = 5_000;
