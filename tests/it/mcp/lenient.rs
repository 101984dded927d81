//! Servers that break the rules of the protocol: one odd part costs only itself, and no call hangs.

use std::path::Path;

use serde_json::{Value, json};

use super::{list, result, text};
use crate::support::waiting::{call, ended, park, run};
use crate::support::{TestServer, bash, check_reason, folder, result_of, soon, stdout_of, v1};

/// A server that follows this script.
async fn scripted(folder: &Path, script: Value) -> TestServer {
    let path = folder.join("script.json");
    std::fs::write(&path, script.to_string()).expect("a script");
    let toml = format!(
        "[[mcp_servers]]\nname = 'odd'\nargv = ['python3', '{server}', '{script}']\n\
         environment = ['PATH']\n",
        server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mcp/scripted_server.py"),
        script = path.display(),
    );
    TestServer::with_config(&toml, &[("admin-listen", "127.0.0.1:0")]).await
}

fn tool(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

/// The line that answers a call well.
const GOOD: &str =
    r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"good"}]}}"#;

/// A server whose tools answer with these lines, beside a tool `good` and a tool `hang`.
async fn answering(folder: &Path, calls: &[(&str, &[&str])]) -> TestServer {
    let names = calls.iter().map(|(name, _)| *name).chain(["good", "hang"]);
    let tools: Vec<Value> = names.map(tool).collect();
    let mut lines: serde_json::Map<String, Value> =
        calls.iter().map(|(name, lines)| ((*name).to_owned(), json!(lines))).collect();
    lines.insert("good".to_owned(), json!([GOOD]));
    scripted(folder, json!({ "tools": { "tools": tools }, "calls": lines })).await
}

/// A server whose tools answer with one line each.
async fn answering_once<'l>(
    folder: &Path,
    calls: impl Iterator<Item = (&'l str, &'l str)>,
) -> TestServer {
    let lines: Vec<(&str, [&str; 1])> = calls.map(|(name, line)| (name, [line])).collect();
    let calls: Vec<(&str, &[&str])> =
        lines.iter().map(|(name, lines)| (*name, &lines[..])).collect();
    answering(folder, &calls).await
}

fn listed<'a>(answer: &'a v1::ListToolsResponse, name: &str) -> &'a v1::Tool {
    let tool = answer.tools.iter().find(|tool| tool.name == name);
    tool.unwrap_or_else(|| panic!("no {name} among {:?}", answer.unavailable))
}

fn left_out(answer: &v1::ListToolsResponse) -> &str {
    answer.unavailable.first().map_or("", |source| &source.message)
}

async fn good(server: &TestServer) {
    assert_eq!(text(&soon("an answer", result(server, "good", json!({}))).await), "good");
}

#[tokio::test]
async fn one_bad_tool_takes_no_other_along() {
    let folder = folder();
    let odd = [
        json!(null),
        json!(7),
        json!({ "inputSchema": {} }),
        json!({ "name": "no_schema" }),
        json!({ "name": "null_schema", "inputSchema": null }),
        json!({ "name": "odd_hint", "inputSchema": {}, "annotations": { "readOnlyHint": "true" } }),
        json!({ "name": "odd_output", "inputSchema": {}, "outputSchema": true }),
        json!({ "name": "odd_words", "inputSchema": {}, "description": 7 }),
    ];
    let mut tools = vec![tool("good")];
    tools.extend(odd);
    let script =
        json!({ "tools": { "tools": tools }, "calls": { "good": [GOOD], "no_schema": [GOOD] } });
    let server = scripted(folder.path(), script).await;
    let answer = list(&server).await;
    for (name, warning) in [
        ("good", ""),
        ("no_schema", "no `inputSchema`"),
        ("null_schema", "no `inputSchema`"),
        ("odd_hint", "`readOnlyHint` cannot be used: \"true\""),
        ("odd_output", "`outputSchema` cannot be used: true"),
        ("odd_words", ""),
    ] {
        let tool = listed(&answer, &format!("odd__{name}"));
        let expected = usize::from(!warning.is_empty());
        assert_eq!(tool.warnings.len(), expected, "{name}: {:?}", tool.warnings);
        assert!(tool.warnings.iter().all(|words| words.contains(warning)), "{:?}", tool.warnings);
        assert!(!tool.read_only && tool.input_schema.is_some());
    }
    assert_eq!(listed(&answer, "odd__odd_words").description, "7");
    let expected = r#"3 entries of its list are no tools: null, 7, {"inputSchema":{}}"#;
    assert!(left_out(&answer).contains(expected), "{}", left_out(&answer));
    good(&server).await;
    assert_eq!(text(&result(&server, "no_schema", json!({ "any": [1] })).await), "good");
}

#[tokio::test]
async fn a_schema_that_cannot_be_checked_is_passed_on_and_marked() {
    let folder = folder();
    let schemas = [
        ("pattern", json!({ "type": "string", "pattern": "^[^]*$" })),
        ("reference", json!({ "type": "string", "pattern": "^(?<q>['\"]).*\\k<q>$" })),
        ("exclusive", json!({ "type": "integer", "minimum": 0, "exclusiveMinimum": true })),
        ("required", json!({ "type": "string", "required": true })),
        ("kind", json!({ "type": "int" })),
        ("tuple", json!({ "type": "array", "items": [{ "type": "string" }] })),
        ("no_values", json!({ "type": "string", "enum": null })),
        ("nowhere", json!({ "$ref": "#/$defs/nothing" })),
        ("remote", json!({ "$ref": "http://127.0.0.1:9/schema.json" })),
        ("file", json!({ "$ref": "file:///etc/passwd" })),
    ];
    let mut tools = vec![tool("good")];
    let mut calls = serde_json::Map::from_iter([("good".to_owned(), json!([GOOD]))]);
    for (name, schema) in &schemas {
        let schema = json!({ "type": "object", "properties": { "a": schema } });
        tools.push(json!({ "name": name, "inputSchema": schema }));
        calls.insert((*name).to_owned(), json!([GOOD]));
    }
    let server =
        scripted(folder.path(), json!({ "tools": { "tools": tools }, "calls": calls })).await;
    let answer = list(&server).await;
    assert!(!listed(&answer, "odd__good").arguments_unchecked);
    for (name, _) in &schemas {
        let tool = listed(&answer, &format!("odd__{name}"));
        assert!(tool.arguments_unchecked, "{name}: {:?}", tool.warnings);
        assert!(tool.warnings.iter().any(|words| words.contains("not checked")), "{name}");
        let schema = tool.input_schema.as_ref().expect("a schema");
        assert!(schema.fields.contains_key("properties"), "{name}");
    }
    assert_eq!(left_out(&answer), "");
    for name in ["kind", "nowhere"] {
        assert_eq!(text(&result(&server, name, json!({ "a": { "b": 1 } })).await), "good");
    }
}

#[tokio::test]
async fn a_name_that_is_not_plain_has_an_alias() {
    let folder = folder();
    let long = "synchronize_all_customer_data_across_multiple_systems_v2_and_back_again";
    let names = ["user-profile/update", "a b", "ü", long, "good"];
    let tools: Vec<Value> = names.iter().map(|name| tool(name)).collect();
    let calls: serde_json::Map<String, Value> = names
        .iter()
        .map(|name| ((*name).to_owned(), json!([GOOD.replace("good", &format!("as {name}"))])))
        .collect();
    let server =
        scripted(folder.path(), json!({ "tools": { "tools": tools }, "calls": calls })).await;
    let answer = list(&server).await;
    let tools: Vec<&v1::Tool> =
        answer.tools.iter().filter(|tool| tool.name.starts_with("odd__")).collect();
    assert_eq!(tools.len(), names.len(), "{}", left_out(&answer));
    for name in names {
        let warning = format!("its server names it `{name}`");
        let tool = tools.iter().find(|tool| match name {
            "good" => tool.name == "odd__good",
            _ => tool.warnings.contains(&warning),
        });
        let tool = tool.unwrap_or_else(|| panic!("no alias of {name}"));
        let own_name = tool.name.strip_prefix("odd__").expect("a prefix");
        let answer = result(&server, own_name, json!({})).await;
        assert_eq!(text(&answer), format!("as {name}"));
    }
}

#[tokio::test]
async fn many_repeated_names_are_one_sentence() {
    let folder = folder();
    let mut tools = vec![tool("good"); 1000];
    tools.extend(vec![json!(null); 1000]);
    let server = scripted(
        folder.path(),
        json!({ "tools": { "tools": tools }, "calls": { "good": [GOOD] } }),
    )
    .await;
    let answer = list(&server).await;
    assert!(
        left_out(&answer).contains("999 more tools named `odd__good`"),
        "{}",
        left_out(&answer)
    );
    assert!(left_out(&answer).contains("1000 entries of its list are no tools"));
    assert!(left_out(&answer).len() < 300, "{}", left_out(&answer));
    good(&server).await;
}

#[tokio::test]
async fn pages_whose_cursor_comes_again_end() {
    let folder = folder();
    let pages = json!([
        { "tools": [tool("good")], "nextCursor": 1 },
        { "tools": [], "nextCursor": "2" },
        { "tools": [tool("last")], "nextCursor": "1" },
    ]);
    let server =
        scripted(folder.path(), json!({ "tools": pages, "calls": { "good": [GOOD] } })).await;
    let answer = list(&server).await;
    listed(&answer, "odd__last");
    assert!(
        left_out(&answer).contains("the cursor `1`, which comes again"),
        "{}",
        left_out(&answer)
    );
    good(&server).await;
}

#[tokio::test]
async fn a_page_that_makes_no_sense_ends_the_list_but_not_the_server() {
    let folder = folder();
    let pages = json!([{ "tools": [tool("good")], "nextCursor": "1" }, { "tools": "zork" }]);
    let server =
        scripted(folder.path(), json!({ "tools": pages, "calls": { "good": [GOOD] } })).await;
    let answer = list(&server).await;
    let words = left_out(&answer);
    assert!(words.contains("after page 1") && words.contains("zork"), "{words}");
    good(&server).await;
}

/// A message over several lines. Its id is 4711 in the place of `ID`.
fn indented(message: &str) -> String {
    let message: Value = serde_json::from_str(message).expect("JSON");
    serde_json::to_string_pretty(&message).expect("JSON").replace("4711", "ID")
}

#[tokio::test]
async fn answers_that_break_the_rules_a_little_are_read() {
    let folder = folder();
    let result_of_good = r#""result":{"content":[{"type":"text","text":"good"}]}"#;
    let lines = [
        ("null_error", format!(r#"{{"jsonrpc":"2.0","id":ID,{result_of_good},"error":null}}"#)),
        ("empty_error", format!(r#"{{"jsonrpc":"2.0","id":ID,{result_of_good},"error":{{}}}}"#)),
        ("no_version", format!(r#"{{"id":ID,{result_of_good}}}"#)),
        ("old_version", format!(r#"{{"jsonrpc":2.0,"id":ID,{result_of_good}}}"#)),
        ("batch", format!(r#"[{{"jsonrpc":"2.0","id":ID,{result_of_good}}}]"#)),
        ("text_id", format!(r#"{{"jsonrpc":"2.0","id":"ID",{result_of_good}}}"#)),
        ("float_id", format!(r#"{{"jsonrpc":"2.0","id":ID.0,{result_of_good}}}"#)),
        (
            "method",
            format!(r#"{{"jsonrpc":"2.0","id":ID,"method":"tools/call",{result_of_good}}}"#),
        ),
        ("prefix", format!(r#"Ready. {{"jsonrpc":"2.0","id":ID,{result_of_good}}}"#)),
        ("suffix", format!(r#"{{"jsonrpc":"2.0","id":ID,{result_of_good}}} done"#)),
        (
            "two",
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/x"}}{{"id":ID,{result_of_good}}}"#
            ),
        ),
        ("mark", format!("\u{feff}{{\"jsonrpc\":\"2.0\",\"id\":ID,{result_of_good}}}\r")),
        ("bare", r#"{"id":ID,"result":"good"}"#.to_owned()),
        ("half", r#"{"id":ID,"result":{"content":"good","x":"\ud83d"}}"#.to_owned()),
        ("number", r#"{"id":ID,"result":{"content":"good","x":NaN}}"#.to_owned()),
        ("indented", indented(&format!(r#"{{"jsonrpc":"2.0","id":4711,{result_of_good}}}"#))),
        ("indented_batch", indented(&format!(r#"[{{"id":4711,{result_of_good}}}]"#))),
    ];
    let calls = lines.iter().map(|(name, line)| (*name, line.as_str()));
    let server = answering_once(folder.path(), calls).await;
    for (name, _) in &lines {
        let answer = soon(name, result(&server, name, json!({}))).await;
        assert_eq!((text(&answer).as_str(), answer.is_error), ("good", false), "{name}");
    }
}

#[tokio::test]
async fn a_line_with_the_id_of_a_call_ends_it() {
    let folder = folder();
    let cases: [(&str, &str, &str); 13] = [
        ("no_message", r#"{"id":ID,"error":{"code":-32000}}"#, "it gives no reason (-32000)"),
        ("text_code", r#"{"id":ID,"error":{"code":"E42","message":"bad day"}}"#, "bad day (E42)"),
        (
            "number_code",
            r#"{"id":ID,"error":{"code":"-32000","message":"bad day"}}"#,
            "bad day (-32000)",
        ),
        (
            "text_error",
            r#"{"id":ID,"result":null,"error":"bad day"}"#,
            "returned an error: bad day",
        ),
        ("other_error", r#"{"id":ID,"error":{"detail":"bad day"}}"#, r#"{"detail":"bad day"}"#),
        ("data", r#"{"id":ID,"error":{"code":1,"message":"bad","data":"day"}}"#, "bad (1): day"),
        ("nothing", r#"{"jsonrpc":"2.0","id":ID}"#, "neither a result nor an error"),
        ("response", r#"{"jsonrpc":"2.0","id":ID,"response":"zork"}"#, "zork"),
        ("cut", r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"te"#, "not valid JSON"),
        ("quotes", r#"{"result":{"content":"say "zork""},"jsonrpc":"2.0","id":ID}"#, "zork"),
        ("python", "{'jsonrpc': '2.0', 'id': ID, 'result': None}", "'result': None"),
        (
            "cut_lines",
            "{\n  \"jsonrpc\": \"2.0\",\n  \"id\": ID,\n{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}",
            "not valid JSON",
        ),
        ("no_id", r#"{"id":null,"error":{"code":-32700,"message":"bad day"}}"#, "bad day (-32700)"),
    ];
    let calls = cases.iter().map(|(name, line, _)| (*name, *line));
    let server = answering_once(folder.path(), calls).await;
    for (name, _, words) in cases {
        let answer = soon(name, result(&server, name, json!({}))).await;
        assert!(answer.is_error, "{name}: {answer:?}");
        assert!(answer.error_message.contains(words), "{name}: {}", answer.error_message);
        assert!(answer.error_message.contains("the MCP server `odd` failed"), "{name}");
    }
    good(&server).await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_ends_its_call_only() {
    let folder = folder();
    let long = "x".repeat(17 << 20);
    let first = format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{{"content":"{long}"}}}}"#);
    let last = format!(r#"{{"result":{{"content":"{long}"}},"jsonrpc":"2.0","id":ID}}"#);
    let calls: [(&str, &[&str]); 2] = [("first", &[&first]), ("last", &[&last])];
    let server = answering(folder.path(), &calls).await;
    for name in ["first", "last"] {
        let answer = soon(name, result(&server, name, json!({}))).await;
        let words = "failed: it sent a message of more than 16 MiB";
        assert!(answer.error_message.contains(words), "{name}: {}", answer.error_message);
        good(&server).await;
    }
}

#[tokio::test]
async fn lines_of_no_use_end_no_call_and_are_counted() {
    let folder = folder();
    let useless: [&str; 10] = [
        "plain words",
        r#"{"level":"info","message":"working"}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"what?"}}"#,
        r#"{"jsonrpc":"2.0","id":4711,"result":{}}"#,
        r#"{"params":{"id":ID},"cut"#,
        "{\n  \"level\": \"info\",\n  \"id\": ID\n}",
        r#"INFO received {"jsonrpc":"2.0","id":ID,"method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":"x"}}"#,
        "[]",
        "7",
    ];
    let lines: Vec<&str> = useless.iter().copied().chain([GOOD]).collect();
    let server = answering(folder.path(), &[("talks", &lines)]).await;
    let hanging = park(&server, call("odd__hang", json!({}))).await;
    assert_eq!(text(&soon("an answer", result(&server, "talks", json!({}))).await), "good");
    let page = server.http("/metrics").await;
    let count = format!("callpark_mcp_unreadable_total{{server=\"odd\"}} {}", useless.len());
    assert!(page.lines().any(|line| line == count), "no `{count}` in:\n{page}");
    // The other call was not ended by any of them.
    let cancelled = crate::support::waiting::cancel_of(&hanging);
    crate::support::waiting::cancel(&server, cancelled).await;
    assert_eq!(ended(&server, &hanging).await.state(), v1::State::Cancelled);
}

#[tokio::test]
async fn a_result_gives_its_good_blocks_and_a_note() {
    let folder = folder();
    let with = |block: &str| {
        format!(r#"{{"id":ID,"result":{{"content":[{{"type":"text","text":"good"}},{block}]}}}}"#)
    };
    let lines = [
        ("kind", with(r#"{"type":"json","json":{"zork":1}}"#)),
        ("image", with(r#"{"type":"image","data":"zork"}"#)),
        ("null", with(r#"{"type":"text","text":null,"zork":1}"#)),
        ("number", with(r#"["zork"]"#)),
    ];
    let calls = lines.iter().map(|(name, line)| (*name, line.as_str()));
    let server = answering_once(folder.path(), calls).await;
    for (name, _) in &lines {
        let answer = soon(name, result(&server, name, json!({}))).await;
        let text = text(&answer);
        assert!(!answer.is_error && text.starts_with("good\n["), "{name}: {text}");
        assert!(text.contains("was left out: ") && text.contains("zork"), "{name}: {text}");
    }
}

#[tokio::test]
async fn an_odd_beginning_is_read() {
    let folder = folder();
    let begin = r#"{"id":"ID","error":null,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":true},"serverInfo":{"name":"odd"}}}"#;
    // The only page is a list without its frame.
    let script = json!({ "begin": begin, "tools": [[tool("good")]], "calls": { "good": [GOOD] } });
    let server = scripted(folder.path(), script).await;
    good(&server).await;
    let answer = run(&server, bash("echo well")).await;
    assert_eq!(stdout_of(result_of(&answer)), b"well\n");
    let status = crate::support::waiting::refusal(&server, call("odd__nothing", json!({}))).await;
    check_reason(&status, tonic::Code::NotFound, "TOOL_NOT_FOUND");
}
