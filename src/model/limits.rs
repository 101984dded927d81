//! The bounds of the product that are documented or that several files share.
//!
//! A name ends with its unit. The default of a setting is here, too. A bound that only one file of
//! `machine/` uses is in that file.

// Waits.

/// The default wait for a task, in seconds: less than the 60 s after which many proxies, and many
/// clients of MCP, give up a silent request.
pub const WAIT_SECONDS_DEFAULT: u64 = 55;
/// The longest wait for a task, in seconds. A longer one is clamped.
pub const WAIT_SECONDS_MAX: u64 = 540;
/// The default wait of Cancel for the end of the call, in seconds.
pub const CANCEL_WAIT_SECONDS_DEFAULT: u64 = 10;
/// The number of tasks in one WaitMany.
pub const WAIT_MANY_TASKS_MAX: usize = 100;

// Runs.

/// The default budget of a call of a built-in command tool, in seconds.
pub const CALL_BUDGET_SECONDS_DEFAULT: u64 = 600;
/// The longest budget or timeout in a request, in seconds: 30 days.
pub const SPAN_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// The default execution timeout, in seconds.
pub const EXECUTION_TIMEOUT_SECONDS_DEFAULT: u64 = 3600;
/// The default time between TERM and KILL, in milliseconds.
pub const GRACE_MS_DEFAULT: u64 = 5_000;
/// The longest time between TERM and KILL, in milliseconds. A longer one is clamped.
pub const GRACE_MS_MAX: u64 = 60_000;
/// The default time for which pipes are read after the process has exited, in milliseconds.
/// Later output of a grandchild that still holds them is not read.
pub const DRAIN_MS_DEFAULT: u64 = 2_000;
/// The time before the caller's deadline at which a call is parked, in milliseconds, so that
/// the response arrives in time. For short deadlines it is a third of the deadline. The time that the
/// store takes comes on top.
pub const DEADLINE_MARGIN_MS: u64 = 150;
/// The default limit of live calls in a session.
pub const LIVE_TASKS_DEFAULT: u32 = 32;
/// The largest limit of live calls in a session.
pub const LIVE_TASKS_MAX: u32 = 1_000;
/// The number of running calls on this server for each core. Further calls are PENDING.
pub const RUNNING_CALLS_PER_CORE: usize = 64;

// Output.

/// The size of a coalesced piece of output, in bytes.
pub const OUTPUT_CHUNK_BYTES_MAX: usize = 32 * 1024;
/// The time for which output waits to be coalesced, in milliseconds.
pub const OUTPUT_DELAY_MS: u64 = 50;
/// The output that is kept of a call, head and tail together, in bytes: the default and the
/// maximum. The part between them is dropped and counted.
pub const OUTPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The tail of the kept output, in bytes.
pub const OUTPUT_TAIL_BYTES_MAX: u64 = 1024 * 1024;
/// The head of the output in a response, in bytes.
pub const INLINE_HEAD_BYTES_MAX: u64 = 1024 * 1024;
/// The tail of the output in a response, in bytes.
pub const INLINE_TAIL_BYTES_MAX: u64 = 1024 * 1024;
/// The head of each output stream in an event and a task's record, in bytes. A response about
/// one task reads the rest from the log.
pub const RECORD_OUTPUT_BYTES_MAX: usize = 8 * 1024;
/// The content of a result in a list or a watch, with its structured copy, in bytes. Larger content
/// is left out.
pub const LIST_CONTENT_BYTES_MAX: usize = 1024;
/// The pieces of output in one read of the store. A read of many small pieces returns fewer
/// bytes than requested, and the next one continues.
pub const OUTPUT_PAGE_PIECES_MAX: usize = 4_096;
/// The tail of the output in the response to a Wait for a task that still runs, in bytes.
pub const WAIT_TAIL_BYTES_MAX: usize = 64 * 1024;
/// The number of lines of that tail.
pub const WAIT_TAIL_LINES_MAX: usize = 100;
/// The response to one ReadOutput, in bytes.
pub const READ_OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// The default size of the response to ReadOutput, in bytes.
pub const READ_OUTPUT_BYTES_DEFAULT: usize = 64 * 1024;
/// The content of a result of a tool that isn't a process, in its record and its event, in
/// bytes. More is truncated, and a note says how much.
pub const RESULT_CONTENT_BYTES_MAX: usize = 192 * 1024;

// Requests and responses.

/// The size of an encoded event, in bytes. What does not fit is left out, and a field says so.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;
/// The arguments of a call, in bytes of JSON.
pub const ARGUMENTS_BYTES_MAX: usize = 1024 * 1024;
/// The standard input of a call, in bytes. With the largest arguments it fits into the default of
/// `max_request`.
pub const STDIN_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The most runs of a call whose tool is idempotent, after losses.
pub const RUN_ATTEMPTS_MAX: u32 = 3;
/// The arguments in an event, in bytes of JSON. Larger ones are left out and counted.
pub const EVENT_ARGUMENTS_BYTES_MAX: usize = 64 * 1024;
/// The nesting of the arguments. A level of JSON is three levels of messages, and a message
/// that is nested deeper than 100 cannot be decoded.
pub const ARGUMENTS_DEPTH_MAX: usize = 32;
/// The nesting of JSON in a result, which is two messages deeper in an event than arguments
/// are. Deeper values become text.
pub const RESULT_DEPTH_MAX: usize = 30;
/// The size of a request, or of arguments, above which it is worked on away from the threads that
/// serve all requests, in bytes.
pub const LARGE_INPUT_BYTES: usize = 64 * 1024;
/// The number of such inputs that are worked on at the same time. Further ones wait.
pub const LARGE_INPUTS_MAX: usize = 4;
/// The number of labels of a session or a call.
pub const LABELS_MAX: usize = 64;
/// The key of a label, in bytes.
pub const LABEL_KEY_BYTES_MAX: usize = 63;
/// The value of a label, in bytes.
pub const LABEL_VALUE_BYTES_MAX: usize = 255;
/// A description or a reason, in bytes.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;
/// The handle under which a later server finds the work of a call again, in bytes.
pub const WORK_HANDLE_BYTES_MAX: usize = 4 * 1024;
/// A system message, in bytes.
pub const SYSTEM_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The number of names in a session's list of allowed tools.
pub const ALLOWED_TOOLS_MAX: usize = 1_000;
/// A result in a summary for a model, in characters.
pub const SUMMARY_RESULT_CHARACTERS_MAX: usize = 2_000;
/// The number of bad fields that one error names. Further ones are counted. With the sizes
/// below, an error stays under the 16 KiB that clients accept as metadata.
pub const ERROR_VIOLATIONS_MAX: usize = 16;
/// The path of a field, or an unknown id, in an error, in bytes.
pub const ERROR_NAME_BYTES_MAX: usize = 80;
/// The description of a bad field in an error, in bytes.
pub const ERROR_TEXT_BYTES_MAX: usize = 160;
/// A request for health or reflection, in bytes. It needs no token.
pub const OPEN_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// The default number of entries of a page.
pub const PAGE_SIZE_DEFAULT: u32 = 50;
/// The largest number of entries of a page. A larger one is clamped.
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// A page of a list, in bytes. A page ends before it is larger, and the next page continues
/// there.
pub const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

// Streams.

/// The number of events in one message of a stream.
pub const UPDATE_EVENTS_MAX: usize = 64;
/// The events in one message of a stream, in bytes. A single larger event is sent alone.
pub const UPDATE_BYTES_MAX: usize = 32 * 1024;
/// The number of events that one read of the log examines. A selective filter leads to more
/// reads, never to a longer one.
pub const LOG_PAGE_EVENTS_MAX: usize = 2_048;
/// The events that one read of the log returns, in bytes.
pub const LOG_PAGE_BYTES_MAX: usize = 512 * 1024;
/// The default time without events after which a stream sends a heartbeat, in milliseconds.
pub const HEARTBEAT_MS_DEFAULT: u64 = 15_000;

// HTTP/1: the page for operators, and the tools for agents.

/// The number of connections of one service at the same time. One more closes the one that has been
/// idle for the longest time, or is refused if none is idle.
pub const HTTP_CONNECTIONS_MAX: usize = 1_024;
/// The number of those connections that have not authenticated. One more closes the oldest. A service
/// without authentication has no others.
pub const HTTP_STRANGERS_MAX: usize = 64;
/// The time in which a connection must have sent the head of its first request, which must be
/// authenticated where the service requires that, in seconds.
pub const HTTP_FIRST_REQUEST_SECONDS: u64 = 10;
/// The time between two requests of a connection, to the end of the head of the second one, in
/// seconds.
pub const HTTP_IDLE_SECONDS: u64 = 300;
/// The buffer for the head of a request, in bytes. For one that fills it the answer is 431.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;
/// The body of a request, in bytes. For a larger one the answer is 413.
pub const HTTP_BODY_BYTES_MAX: usize = 2 * ARGUMENTS_BYTES_MAX;
/// The time in which the body of a request must arrive, in seconds. After it the answer is 408.
pub const HTTP_BODY_SECONDS: u64 = 30;
/// The time that answers under way have when the server stops, in milliseconds.
pub const HTTP_STOP_MS: u64 = 1_000;
/// The pause in accepting connections when the system has run out of a resource, such as file
/// descriptors, in milliseconds.
pub const ACCEPT_PAUSE_MS: u64 = 100;

// Actors.

/// The number of ended calls whose descendants one search looks for. Beyond it the end of a
/// call waits for a search of its own.
pub const SEARCH_CALLS_MAX: usize = 65_536;
/// The number of processes that were left behind by a call and are named in its result. The others
/// are counted.
pub const LEFT_PROCESSES_MAX: usize = 16;
/// The number of requests in the inbox of a session's actor. When it is full, senders wait.
pub const ACTOR_INBOX_COMMANDS_MAX: usize = 256;
/// The number of reports of runners that wait for the actor, which is 2 MiB of output at most.
/// When it is full, runners wait and pipes aren't read.
pub const ACTOR_REPORTS_MAX: usize = 64;
/// The number of appends of one session under way. Beyond it commands wait in the inbox.
pub const ACTOR_APPENDS_MAX: usize = 2;
/// The number of commands that the actor decides before one append.
pub const ACTOR_BATCH_COMMANDS_MAX: usize = 64;
/// The time without work after which an actor is removed from memory, in milliseconds.
pub const ACTOR_IDLE_MS: u64 = 1_000;
/// The time after which an actor that failed is replaced, in milliseconds.
pub const ACTOR_REPLACEMENT_MS: u64 = 1_000;

// Store.

/// The number of appends in the queue of the store's writer. When it is full, actors wait.
pub const STORE_QUEUE_APPENDS_MAX: usize = 1_024;
/// The number of appends in one commit.
pub const STORE_COMMIT_APPENDS_MAX: usize = 64;
/// The number of appends in one commit to a database server, which takes longer to answer.
pub const STORE_REMOTE_COMMIT_APPENDS_MAX: usize = 256;
/// The number of concurrent readers of the store.
pub const STORE_READERS_MAX: usize = 4;
/// The number of cached records of calls. The oldest are evicted.
pub const RECENT_CALLS_MAX: usize = 512;
/// The variable parts of a cached record, in bytes. A larger record isn't cached.
pub const RECENT_CALL_BYTES_MAX: usize = 64 * 1024;
/// The number of followed sessions whose newest events are cached. One more clears the cache,
/// and sessions that are still followed fill it again.
pub const RECENT_LOGS_MAX: usize = 4_096;
/// The number of cached events of a followed session. A reader that is further behind reads
/// from the store.
pub const RECENT_LOG_EVENTS_MAX: usize = 512;
/// The cached events of a followed session, in bytes.
pub const RECENT_LOG_BYTES_MAX: usize = 64 * 1024;
/// The cached events of all followed sessions, in bytes. More clears the cache.
pub const RECENT_LOGS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The number of cached pages of logs, each of [`LOG_PAGE_BYTES_MAX`] at most. The oldest are
/// evicted.
pub const RECENT_PAGES_MAX: usize = 32;
/// The default retention of finished tasks and request ids, in seconds.
pub const RETENTION_SECONDS_DEFAULT: u64 = 24 * 3600;
/// The default number of events that are kept of one session. Older ones are trimmed, and
/// readers are notified of the gap.
pub const SESSION_EVENTS_MAX_DEFAULT: u64 = 10_000_000;
/// The default pause between two removals of expired records, in milliseconds.
pub const SWEEP_MS_DEFAULT: u64 = 60_000;

// Providers of tools.

/// The time for which a list of tools waits for each provider, in seconds. A slower provider is
/// listed as unavailable, and its start continues for the next list.
pub const OFFER_WAIT_SECONDS_MAX: u64 = 10;
/// The number of MCP servers that start at the same time. Further ones wait.
pub const MCP_STARTS_MAX: usize = 4;
/// The number of tools of one MCP server. Further tools are left out, and ListTools says so.
pub const MCP_TOOLS_MAX: usize = 1_000;
/// The schemas of one tool of an MCP server, in bytes. A tool with larger ones is left out, and
/// ListTools says so.
pub const MCP_SCHEMA_BYTES_MAX: usize = 256 * 1024;

// Turns.

/// The default number of rounds of a turn.
pub const TURN_ROUNDS_DEFAULT: u32 = 50;
/// The largest number of rounds of a turn.
pub const TURN_ROUNDS_MAX: u32 = 1_000;
/// The default number of attempts at one request to a model.
pub const TURN_ATTEMPTS_DEFAULT: u32 = 3;
/// The largest number of attempts at one request to a model.
pub const TURN_ATTEMPTS_MAX: u32 = 10;
/// The idle timeout of a turn, in seconds.
pub const TURN_IDLE_SECONDS: u64 = 30 * 60;
/// The default execution timeout of a turn in the foreground, in seconds: a day.
pub const TURN_SECONDS_DEFAULT: u64 = 24 * 3600;
/// The default execution timeout of a turn that was started in the background, in seconds.
pub const BACKGROUND_TURN_SECONDS: u64 = 600;
/// The depth of nested agents. An agent that a turn starts is at depth 1, and one that it
/// starts is at depth 2.
pub const SUB_SESSION_DEPTH_MAX: u32 = 3;
/// The number of agents that work for one session at the same time.
pub const SUB_SESSIONS_MAX: usize = 8;
/// A prompt, in bytes.
pub const PROMPT_BYTES_MAX: usize = 128 * 1024;
/// The attachments of a prompt, in bytes.
pub const ATTACHMENTS_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The number of attachments of a prompt.
pub const ATTACHMENTS_MAX: usize = 32;
/// The text of a model in one delta event, in bytes. Text that arrives while an event is stored
/// is joined up to this size.
pub const DELTA_BYTES_MAX: usize = 32 * 1024;
/// The time for which text of a model waits to be joined, in milliseconds.
pub const DELTA_DELAY_MS: u64 = 10;
/// The answer of a model to one request, in bytes of text, reasoning and calls, or all output
/// of an agent that runs its own loop in one turn. More makes it fail.
pub const MODEL_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same answer as the endpoint sends it, in bytes including framing.
pub const MODEL_STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The data of a provider that goes back with one message of a model and its calls, such as
/// reasoning and signatures, in bytes. More is left out and counted.
pub const PROVIDER_DATA_BYTES_MAX: usize = 1024 * 1024;
/// The number of calls in one message of a model.
pub const MODEL_CALLS_MAX: usize = 64;
/// The result of a call as a model is shown it, in bytes. The middle of a longer one is left
/// out, and a note says how much.
pub const MODEL_RESULT_BYTES_MAX: usize = 64 * 1024;
/// The images in the results of the calls of one message as a model is shown them, in bytes.
/// Further images are replaced by text, and a note says so.
pub const MODEL_PICTURES_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The number of messages that are kept of a session's history. The oldest are removed.
pub const HISTORY_MESSAGES_MAX: u64 = 2_000;
/// The history in a request to a model, in bytes. Older messages are left out and counted.
pub const HISTORY_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The number of turns that run on this server at the same time. Further turns are PENDING.
pub const RUNNING_TURNS_MAX: usize = 1_000;
/// The number of identical failing calls of a model that ends its turn.
pub const REPEATED_FAILURES_MAX: u32 = 3;

// Follow-ups.

/// The number of failed attempts after which a follow-up is dead-lettered.
pub const FOLLOW_UP_ATTEMPTS_MAX: u32 = 10;
/// The default lease of a follow-up, in seconds.
pub const FOLLOW_UP_LEASE_SECONDS_DEFAULT: u64 = 60;
/// The longest lease of a follow-up, in seconds.
pub const FOLLOW_UP_LEASE_SECONDS_MAX: u64 = 3_600;
/// The number of follow-ups in one LeaseFollowUps.
pub const FOLLOW_UPS_LEASED_MAX: u32 = 100;
/// The number of follow-ups in the prompt of one turn. Further ones wait for the next turn.
pub const FOLLOW_UPS_DELIVERED_MAX: u32 = 32;
/// The number of follow-ups that a turn claims between its rounds. Further ones wait for its
/// end.
pub const FOLLOW_UPS_OF_TURN_MAX: usize = 256;
/// The messages of a turn that delivers follow-ups, in its record, in bytes. No later server goes on
/// with a turn that has more.
pub const TRANSCRIPT_BYTES_MAX: usize = 512 * 1024;
/// The number of times in a row that a later server goes on with a turn which records no new message
/// between them.
pub const RESUMPTIONS_WITHOUT_PROGRESS_MAX: u32 = 3;
/// The output of a task in the message of a follow-up, in bytes. The middle of longer output is
/// left out.
pub const FOLLOW_UP_OUTPUT_BYTES_MAX: usize = 8 * 1024;
/// The number of rounds of a turn that delivers follow-ups.
pub const FOLLOW_UP_ROUNDS_MAX: u32 = 12;
/// The prompt in the note about a turn that delivered follow-ups, in characters.
pub const FOLLOW_UP_NOTE_CHARACTERS_MAX: usize = 4_000;
/// The arguments, and the output, of each tool in such a note, in characters.
pub const FOLLOW_UP_NOTE_TOOL_CHARACTERS_MAX: usize = 1_000;
/// The number of tools in such a note. Later ones are left out.
pub const FOLLOW_UP_NOTE_TOOLS_MAX: usize = 64;
/// The number of turns that deliver follow-ups on this server at the same time.
pub const FOLLOW_UP_TURNS_MAX: usize = 128;
/// The number of such turns of one tenant.
pub const FOLLOW_UP_TURNS_TENANT_MAX: usize = 64;
/// The number of sessions with follow-ups that wait for such a turn. Further ones are found by
/// the next sweep.
pub const FOLLOW_UP_SESSIONS_MAX: usize = 10_000;
/// The pause between two sweeps for due follow-ups, in milliseconds.
pub const FOLLOW_UP_SWEEP_MS: u64 = 5_000;

// The audit log.

/// The number of entries of the audit log that wait to be written. More are lost, and counted.
pub const AUDIT_QUEUE_MAX: usize = 8_192;
