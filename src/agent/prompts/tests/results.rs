//! Results of calls.

use super::*;
use crate::model::LeftProcesses;

#[test]
fn results_of_calls() {
    let shown = |call: &Call| call_result(call, |_| false).render();
    let silent = ToolResult { exit: Some(Exit::Code(0)), ..Default::default() };
    let killed = ToolResult { exit: Some(Exit::Signal(9)), ..exited(0, "so far\n") };
    let missing =
        ToolResult { error_message: "program `zsh` was not found".into(), ..Default::default() };
    let failure = Failure { code: FailureCode::HostLost, message: "the server was stopped".into() };
    let lost = Call { state: State::Lost, outcome: Some(Outcome::Failure(failure)), ..build() };
    assert_eq!(shown(&ended(State::Succeeded, exited(0, "done\n"))), "done\n");
    assert_eq!(shown(&ended(State::Succeeded, silent)), "(no output)");
    let failed =
        call_result(&ended(State::Failed, exited(3, "no rule to make target\n")), |_| false);
    assert_eq!(
        without_mark(&failed.render()),
        "[failed: exit code 3]\n<callpark-data MARK>\nno rule to make target\n\
         </callpark-data MARK>"
    );
    assert_eq!(failed.for_people(), "[failed: exit code 3]\nno rule to make target\n");
    assert_eq!(
        without_mark(&shown(&ended(State::Cancelled, killed))),
        "[cancelled: terminated by signal 9]\n<callpark-data MARK>\nso far\n\
         </callpark-data MARK>"
    );
    assert_eq!(
        shown(&ended(State::Failed, missing)),
        "[failed: \"program `zsh` was not found\"]\n(no output)"
    );
    assert_eq!(shown(&lost), "[lost: \"the server was stopped\"]\n(no output)");
    assert_eq!(shown(&ended(State::TimedOut, ToolResult::default())), "[timed out]\n(no output)");
}

#[test]
fn output_of_processes() {
    let shown =
        |output: &[u8]| call_result(&ended(State::Succeeded, written(output)), |_| false).render();
    assert_eq!(shown(b"10 %\r100 %\n\x1b[32mdone\x1b[0m\n"), "100 %\ndone\n");
    assert_eq!(
        shown(b"caf\xe9 and th\xe9\n"),
        "caf\u{fffd} and th\u{fffd}\n[bytes that are not UTF-8: 2; each place is shown as \u{fffd}]"
    );
    assert_eq!(
        shown(b"the end\n\xe6\x97"),
        "the end\n\u{fffd}\n[bytes that are not UTF-8: 2; each place is shown as \u{fffd}]"
    );
    for binary in [&b"\x7fELF\x02\x01\x01\0\0\xff"[..], &b"\xff".repeat(9)] {
        let named = format!("[{} bytes of application/octet-stream]", binary.len());
        assert_eq!(shown(binary), named);
    }
}

#[test]
fn structured_results() {
    let structured = json!({ "id": 7 }).as_object().cloned().map(Box::new);
    let result = |content| {
        let structured = structured.clone();
        let result = ToolResult { structured, content, ..Default::default() };
        call_result(&ended(State::Succeeded, result), |_| false).render()
    };
    assert_eq!(result(vec![]), "{\"id\":7}");
    assert_eq!(result(vec![text(" ")]), "{\"id\":7}");
    assert_eq!(result(vec![text("seven")]), "seven", "the text says the same");
    assert_eq!(result(vec![image()]), "{\"id\":7}\n[4 bytes of image/png]");
}

#[test]
fn processes_that_were_left_behind() {
    let left =
        Some(Box::new(LeftProcesses { programs: vec!["node".into(), "sleep".into()], count: 3 }));
    let result = ToolResult { left, ..exited(0, "listening") };
    let budget = Some(Duration::from_secs(600));
    let policy = CallPolicy { call_budget: budget, ..CallPolicy::default() };
    let call = Call { policy, ..ended(State::Succeeded, result) };
    assert_eq!(
        without_mark(&call_result(&call, |_| false).render()),
        "<callpark-data MARK>\nlistening\n</callpark-data MARK>\n[3 processes were still running when the call ended, and killed: node, sleep, 1 \
         more. Nothing that a call starts outlives it, also not with &, nohup or setsid. To keep a \
         server running, start it in the foreground in a call of its own: when its budget (600 s) \
         is used up, that call continues in the background.]"
    );
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
        "[\"Annual report\": \"file:///report.pdf\" (512 bytes)] \"For the board.\""
    );
    let body = crate::model::ResourceBody::Text("the notes".into());
    let json = content(ContentKind::Json(json!({ "a": 1 })));
    let pieces = [text("look"), json, image(), resource(Some(body)), resource(None)];
    assert_eq!(
        content_text(&pieces),
        "look\n{\"a\":1}\n[4 bytes of image/png]\nthe notes\n[\"file:///notes.txt\"]"
    );
    let drawn = |content| ended(State::Succeeded, ToolResult { content, ..Default::default() });
    let is_image = |content: &Content| matches!(content.kind, ContentKind::Image { .. });
    let both = drawn(vec![text("a cat"), image()]);
    assert_eq!(call_result(&both, |_| false).render(), "a cat\n[4 bytes of image/png]");
    assert_eq!(call_result(&both, is_image).render(), "a cat");
    assert_eq!(call_result(&drawn(vec![image()]), is_image).render(), "(only images)");
    assert_eq!(
        images_left_out(2),
        "[2 of the images are not shown: calls that are made together may show at most 2097152 \
         bytes of images]"
    );
    assert_eq!(
        images_of_results(&[(1, "plot".into(), "c1".into()), (2, "odd__draw".into(), "c3".into())]),
        "[the images in the results of the calls above, in order: 1 of plot (c1), 2 of odd__draw \
         (c3)]"
    );
}
