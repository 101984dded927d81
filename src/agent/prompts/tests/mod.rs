//! Every text, fully rendered with realistic values.

mod documents;
mod tasks;

use serde_json::json;

use super::*;
use crate::model::{
    Call, CallId, CallPolicy, Content, ContentKind, Exit, Failure, FailureCode, Labels, Outcome,
    ParkReason, SessionId, State, Tenant, Timestamp, ToolKind, ToolResult,
};

const ID: &str = "bg-e558c9224dd04373a46d9549318aa6b8";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

/// A build that has been running in the background since second 0.
fn build() -> Call {
    Call {
        id: CallId::parse_background(ID).expect("an id"),
        session_id: SessionId::random(),
        tenant: Tenant::new("acme"),
        turn_id: None,
        tool: "bash".into(),
        kind: ToolKind::Command,
        description: "Build the release".into(),
        state: State::Running,
        reason: String::new(),
        create_time: at(0),
        start_time: Some(at(0)),
        park_time: Some(at(0)),
        park_reason: Some(ParkReason::Budget),
        end_time: None,
        update_time: at(0),
        expire_time: None,
        attempt: 1,
        parent: None,
        progress: None,
        outcome: None,
        turn: None,
        usage: None,
        cancellation: None,
        stopping: None,
        labels: Labels::new(),
        policy: CallPolicy::default(),
        accept_sequence: 1,
        acknowledge_time: None,
        revision: 1,
    }
}

/// The build after 75 seconds.
fn ended(state: State, result: ToolResult) -> Call {
    Call { state, end_time: Some(at(75)), outcome: Some(Outcome::Result(result)), ..build() }
}

fn exited(code: i32, output: &str) -> ToolResult {
    ToolResult { exit: Some(Exit::Code(code)), content: vec![text(output)], ..Default::default() }
}

fn text(text: &str) -> Content {
    content(ContentKind::Text(text.into()))
}

fn image() -> Content {
    let (media_type, data) = ("image/png".into(), b"\x89PNG"[..].into());
    content(ContentKind::Image { media_type, data })
}

fn content(kind: ContentKind) -> Content {
    Content { kind, stream: None, offset: 0 }
}

#[test]
fn system_message_of_a_turn() {
    let tasks = "\
Tool calls that take long are not cancelled: they continue in the background, and you get an id that \
begins with bg-. The result is kept for you. Continue with other work, then call \
check_background_task with the id to wait for the task. Each call waits for up to 540 seconds, and \
you can call it as often as you need. Wait rather than cancel: a slow task is not a stuck task. Never \
start the same work again while its task is running. read_background_output shows what a task has \
written so far.";
    let background = "\
You are working in the background: no person is reading along, and no person will answer questions. \
Where something is unclear, decide for yourself. In your last message, state what you decided and \
what the result of the work is: only that message will be read.";
    assert_eq!(system_message("", true, false), tasks);
    assert_eq!(
        system_message("You review code.", true, true),
        format!("You review code.\n\n{tasks}\n\n{background}")
    );
}

#[test]
fn tools_of_a_turn() {
    assert_eq!(
        [AGENT_TOOL_DESCRIPTION, CHECK_TASK_DESCRIPTION, READ_OUTPUT_DESCRIPTION],
        [
            "Gives a task to another agent, which works on it in a session of its own and returns \
             its final answer. Several agents can work at the same time.",
            "Waits for a background task and returns its result, lists the background tasks of \
             this session, or cancels one.",
            "Reads the output of a background task so far.",
        ]
    );
    let agent = json!({
        "type": "object",
        "properties": {
            "prompt": { "type": "string", "minLength": 1,
                "description": "The complete task. The agent cannot see this conversation." },
            "model": { "type": "string", "enum": ["main", "small"],
                "description": "The model of the agent. Default: your own model." },
            "tools": { "type": "array", "items": { "type": "string" },
                "description":
                    "The names of the tools that the agent may use. Default: all of your tools." },
        },
        "required": ["prompt"],
        "additionalProperties": false,
    });
    assert_eq!(agent_tool_schema(&["main", "small"]), agent);
    let check = json!({
        "type": "object",
        "properties": {
            "action": { "type": "string", "enum": ["wait", "list", "cancel"],
                "description": "wait (the default): wait until the task ends; list: list all tasks \
                    of this session; cancel: stop the task, if its result is no longer needed." },
            "background_id": { "type": "string",
                "description": "The id of the task: bg- and 32 digits. Not needed for list." },
            "wait_seconds": { "type": "number", "minimum": 0, "maximum": 540,
                "description": "How long to wait for the task to end. Default: 60. 0: return its \
                    state at once." },
        },
        "additionalProperties": false,
    });
    assert_eq!(check_task_schema(), check);
    let read = json!({
        "type": "object",
        "properties": {
            "background_id": { "type": "string",
                "description": "The id of the task: bg- and 32 digits." },
            "offset": { "type": "integer", "minimum": 0,
                "description": "The byte at which to begin. Default: the last 100 lines." },
        },
        "required": ["background_id"],
        "additionalProperties": false,
    });
    assert_eq!(read_output_schema(), read);
}

#[test]
fn errors_of_calls() {
    let cause = serde_json::from_str::<serde_json::Value>("{\"comm").expect_err("is not JSON");
    let error = TurnError {
        code: "model_timeout".into(),
        message: "http://localhost/v1 sent nothing for too long".into(),
        retryable: true,
    };
    let texts = [
        unknown_tool("zsh", &["bash", "python"]),
        arguments_not_json(&cause),
        ARGUMENTS_NOT_AN_OBJECT.into(),
        arguments_too_deep(),
        NOTHING_STARTED.into(),
        agent_prompt_too_long(),
        agent_tool_unavailable("zsh"),
        too_many_agents(8),
        NO_SLOT_FOR_AGENT.into(),
        agent_failed(&error),
        AGENT_CANCELLED.into(),
        NO_TURN_RUNNING.into(),
        TURN_ENDED_BEFORE_ANSWER.into(),
    ];
    let expected = [
        "there is no tool `zsh`; the available tools are bash, python",
        "the arguments are not valid JSON: EOF while parsing a string at line 1 column 6",
        "the arguments must be a JSON object",
        "the arguments must not be nested deeper than 32 levels",
        "nothing was started",
        "prompt must be at most 131072 bytes; put the rest into a file",
        "tools contains `zsh`, which is not one of your tools",
        "8 agents are working for this session, which is the maximum: wait until one of them ends",
        "the server is running its maximum number of turns: try again later, or do the work \
         yourself",
        "the agent failed: http://localhost/v1 sent nothing for too long (model_timeout)",
        "the agent was cancelled",
        "no turn of this session is running: tools can be called during a turn only",
        "the turn ended before the call was answered",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn results_of_calls() {
    let shown = |call: &Call| call_result(call, |_| false);
    let silent = ToolResult { exit: Some(Exit::Code(0)), ..Default::default() };
    let killed = ToolResult { exit: Some(Exit::Signal(9)), ..exited(0, "so far\n") };
    let missing =
        ToolResult { error_message: "program `zsh` was not found".into(), ..Default::default() };
    let failure = Failure { code: FailureCode::HostLost, message: "the server was stopped".into() };
    let lost = Call { state: State::Lost, outcome: Some(Outcome::Failure(failure)), ..build() };
    assert_eq!(shown(&ended(State::Succeeded, exited(0, "done\n"))), "done\n");
    assert_eq!(shown(&ended(State::Succeeded, silent)), "(no output)");
    assert_eq!(
        shown(&ended(State::Failed, exited(3, "no rule to make target\n"))),
        "[failed: exit code 3]\nno rule to make target\n"
    );
    assert_eq!(
        shown(&ended(State::Cancelled, killed)),
        "[cancelled: terminated by signal 9]\nso far\n"
    );
    assert_eq!(
        shown(&ended(State::Failed, missing)),
        "[failed: program `zsh` was not found]\n(no output)"
    );
    assert_eq!(shown(&lost), "[lost: the server was stopped]\n(no output)");
    assert_eq!(shown(&ended(State::TimedOut, ToolResult::default())), "[timed out]\n(no output)");
    assert_eq!(
        CALL_WITHOUT_RESULT,
        "[The turn ended before this call had a result. Look for its background task, or check \
         what it has done before you repeat it.]"
    );
    assert_eq!(BACKGROUND_TURN_WITHOUT_OUTPUT, "Task completed but produced no output.");
}

#[test]
fn content_that_is_not_text() {
    let resource = |body| {
        let (uri, media_type) = ("file:///notes.txt".into(), "text/plain".into());
        content(ContentKind::Resource { uri, media_type, body, link: None })
    };
    let link = crate::model::ResourceLink {
        title: "Annual report".into(),
        size_bytes: Some(512),
        description: "For the board.".into(),
        ..Default::default()
    };
    let linked = content(ContentKind::Resource {
        uri: "file:///report.pdf".into(),
        media_type: String::new(),
        body: None,
        link: Some(Box::new(link)),
    });
    assert_eq!(
        content_text(&[linked]),
        "[Annual report: file:///report.pdf (512 bytes)] For the board."
    );
    let body = crate::model::ResourceBody::Text("the notes".into());
    let json = content(ContentKind::Json(json!({ "a": 1 })));
    let pieces = [text("look"), json, image(), resource(Some(body)), resource(None)];
    assert_eq!(
        content_text(&pieces),
        "look\n{\"a\":1}\n[4 bytes of image/png]\nthe notes\n[file:///notes.txt]"
    );
    let drawn = |content| ended(State::Succeeded, ToolResult { content, ..Default::default() });
    let is_image = |content: &Content| matches!(content.kind, ContentKind::Image { .. });
    let both = drawn(vec![text("a cat"), image()]);
    assert_eq!(call_result(&both, |_| false), "a cat\n[4 bytes of image/png]");
    assert_eq!(call_result(&both, is_image), "a cat");
    assert_eq!(call_result(&drawn(vec![image()]), is_image), "(only images)");
    assert_eq!(
        images_left_out(2),
        "\n[2 of the images are not shown: calls that are made together may show at most 2097152 \
         bytes of images]"
    );
    assert_eq!(
        images_of_results(&[(1, "plot".into(), "c1".into()), (2, "odd__draw".into(), "c3".into())]),
        "[the images in the results of the calls above, in order: 1 of plot (c1), 2 of odd__draw \
         (c3)]"
    );
}

#[test]
fn truncated_texts() {
    assert_eq!(truncate_middle("short", 5), "short");
    assert_eq!(truncate_middle("abcdefghij", 4), "ab\n[6 bytes are left out here]\nij");
    // A character is left out as a whole.
    assert_eq!(truncate_middle("ää-öö", 6), "ä\n[5 bytes are left out here]\nö");
    assert_eq!(truncate("short", 5, ""), "short");
    assert_eq!(truncate("äöüabc", 2, ""), "äö\n[4 more characters]");
}

#[test]
fn attachments() {
    assert_eq!(attachment_text("file:///notes.txt", "the notes"), "file:///notes.txt:\nthe notes");
    assert_eq!(attachment_address("file:///a.bin"), "[an attachment: file:///a.bin]");
    assert_eq!(
        attachment_not_shown("image/png", 2048),
        "[an attachment of 2048 bytes of image/png]"
    );
    assert_eq!(attachments_left_out(0, 0), [""; 0]);
    assert_eq!(
        attachments_left_out(2, 1),
        [
            "2 image(s) were left out: this agent does not accept images",
            "1 attachment(s) were left out: they are not text",
        ]
    );
}

#[test]
fn history_of_an_external_agent() {
    assert_eq!(history_line("user", "Look at these", 0).unwrap(), "[user]: Look at these");
    assert_eq!(
        history_line("user", "Look at these", 2).unwrap(),
        "[user]: Look at these [+2 image(s)]"
    );
    assert_eq!(history_line("user", " ", 1).unwrap(), "[user]: [+1 image(s)]");
    assert_eq!(history_line("assistant", "", 0), None);
}

#[test]
fn answers_of_agents() {
    let answers = [
        agent_answer("It is fixed.", &Ok(StopReason::EndTurn), 0),
        agent_answer("", &Ok(StopReason::EndTurn), 0),
        agent_answer("So far so good.", &Ok(StopReason::MaxRounds), 2),
        agent_answer("So far", &Ok(StopReason::MaxTokens), 0),
        agent_answer("No.", &Ok(StopReason::Refusal), 0),
        agent_answer("Halfway", &Ok(StopReason::Cancelled), 1),
    ];
    let expected = [
        "It is fixed.",
        "[the agent ended without an answer]",
        "So far so good.\n[the agent reached its maximum number of rounds]\n[2 of its calls were \
         still running and have been cancelled]",
        "So far\n[the agent's last answer reached the token limit]",
        "No.\n[the agent's model refused to continue]",
        "Halfway\n[1 of its calls were still running and have been cancelled]",
    ];
    assert_eq!(answers, expected);
}
