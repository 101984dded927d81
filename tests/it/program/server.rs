//! The server as a process: its requirements, its environment, and its pages for operators.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::program::{Live, PROGRAM, Program, Site};
use crate::support::{bash, request_id, result_of, soon, stdout_of, v1};

/// The permissions of a file or a folder.
fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

/// The standard output of a bash command that ends well.
async fn output_of(server: &Program, command: &str) -> String {
    let answer = soon("a call", server.connect().tools.run_tool(bash(command))).await;
    let answer = answer.expect("an answer").into_inner();
    let result = result_of(&answer);
    assert!(!result.is_error, "{result:?}");
    String::from_utf8(stdout_of(result)).expect("text")
}

/// A bash command that does all that a shell is known to leave open to its children, and then
/// becomes the server.
fn through_bash(site: &Site, before: &str, flags: &[&str]) -> tokio::process::Command {
    let script = format!("{before} exec \"$0\" serve \"$@\" 9</dev/null");
    site.other("bash", &[&["-c", &script, PROGRAM], flags].concat())
}

#[tokio::test]
async fn tools_can_be_interrupted_although_the_server_was_started_to_ignore_signals() {
    let site = Site::new();
    // As `nohup` and the background of a script do it.
    let ignoring = "trap '' HUP INT QUIT TERM USR1 CHLD;";
    let server = site.serve_with(through_bash(&site, ignoring, &["--listen", "127.0.0.1:0"])).await;
    let ignored = output_of(&server, "grep SigIgn /proc/self/status").await;
    let ignored = ignored.strip_prefix("SigIgn:").expect("a line").trim();
    let ignored = u64::from_str_radix(ignored, 16).expect("a number");
    // 32 and 33 are the C library's own: it ignores them in all that it starts.
    assert_eq!(ignored & 0x7fff_ffff, 0, "{ignored:x}");
    // The server itself goes on ignoring them.
    server.live.signal(Signal::HUP);
    server.live.signal(Signal::USR1);
    assert_eq!(output_of(&server, "echo there").await, "there\n");
}

#[tokio::test]
async fn it_needs_no_configuration_and_keeps_its_secrets_to_its_user() {
    let site = Site::new();
    // What it makes must be private even where everything new is open to everybody.
    let mut live = Live::start(through_bash(&site, "umask 0;", &[]));
    let listens = live.stderr.started().await;
    let server = if listens {
        Program::started(live, site.home(), &site.data()).await
    } else {
        // The one thing that another server of this machine can take from it.
        let ended = live.ended().await.exits(75);
        assert!(ended.stderr().contains("127.0.0.1:50051: the port is in use"), "{ended}");
        let free = through_bash(&site, "umask 0;", &["--listen", "127.0.0.1:0"]);
        site.serve_with(free).await
    };
    assert_eq!(mode(&site.data()), 0o700);
    for file in ["token", "callpark.db", "callpark.db-wal"] {
        assert_eq!(mode(&site.data().join(file)), 0o600, "{file}");
    }
    // A command of the same user finds server and token by itself.
    let ended = server.cli(&["run", "bash", "--", "echo hello"]).await.exits(0);
    assert_eq!(ended.line(), "hello");
}

#[tokio::test]
async fn its_data_goes_where_the_state_folder_is() {
    let site = Site::new();
    let state = site.folder().join("state");
    let mut command = site.command(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("XDG_STATE_HOME", &state);
    let mut live = Live::start(command);
    assert!(live.stderr.started().await, "{}", live.stderr.now());
    let data = state.join("callpark");
    Program::started(live, site.home(), &data).await;
    assert_eq!((mode(&data), mode(&data.join("token"))), (0o700, 0o600));
    assert!(!site.data().exists());
}

#[tokio::test]
async fn a_second_server_on_its_store_ends_and_does_it_no_harm() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let data = site.data().display().to_string();
    let second = site.run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]).await;
    let second = second.exits(75);
    let line = only_line(second.stderr());
    assert!(line.starts_with("error: the server cannot start: the store "), "{line}");
    assert!(line.contains(&data) && line.contains("another server"), "{line}");
    assert!(line.contains(&format!("(process {})", server.live.pid())), "{line}");
    assert_eq!(second.bytes(), b"");
    assert_eq!(output_of(&server, "echo still here").await, "still here\n");
    // Nor does the end of the second one let a third one in.
    let third = site.run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]).await;
    assert!(third.exits(75).stderr().contains("another server"));
}

#[track_caller]
fn only_line(text: &str) -> &str {
    match text.strip_suffix('\n') {
        Some(line) if !line.contains('\n') => line,
        _ => panic!("not one line: {text}"),
    }
}

#[tokio::test]
async fn its_tools_get_none_of_the_descriptors_that_it_was_born_with() {
    let site = Site::new();
    let server = site.serve_with(through_bash(&site, "", &["--listen", "127.0.0.1:0"])).await;
    // Only root may look at the descriptors of a server.
    if rustix::process::geteuid().is_root() {
        let inherited = format!("/proc/{}/fd/9", server.live.pid());
        assert!(Path::new(&inherited).exists(), "the server has it, so it could be passed on");
    }
    let open = output_of(&server, "ls /proc/$$/fd; true").await;
    assert_eq!(open, "0\n1\n2\n");
}

#[tokio::test]
async fn its_tools_see_only_the_variables_that_are_allowed() {
    let site = Site::new();
    let data = site.data().display().to_string();
    let mut command = site.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    command.env("CALLPARK_TOOL_ENVIRONMENT", "PATH,HOME,WANTED");
    command.envs([("WANTED", "1"), ("AWS_SECRET_ACCESS_KEY", "x"), ("CALLPARK_TOKEN", "x")]);
    let server = site.serve_with(command).await;
    let seen = output_of(&server, "env").await;
    let mut names: Vec<&str> = seen.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    // PWD, SHLVL and _ are bash's own.
    let of_callpark = ["CALLPARK_CALL_ID", "CALLPARK_SERVER_PROCESS", "HOME", "PATH"];
    let others = ["PWD", "PYTHONUNBUFFERED", "SHLVL", "WANTED", "_"];
    assert_eq!(names, [&of_callpark[..], &others].concat());
}

#[tokio::test]
async fn its_log_in_json_is_json_and_names_requests_but_no_secret() {
    let site = Site::new();
    let server = site.serve(&["--log-format", "json", "--log-filter", "debug"]).await;
    let mut clients = server.connect();
    let named = request_id();
    let mut request = tonic::Request::new(bash("echo $((6*7)) AWS_SECRET_ACCESS_KEY=marmalade"));
    request.metadata_mut().insert("x-request-id", named.parse().expect("a header"));
    let answer = soon("a call", clients.tools.run_tool(request)).await.expect("an answer");
    assert_eq!(stdout_of(result_of(answer.get_ref())), b"42 AWS_SECRET_ACCESS_KEY=marmalade\n");
    let unknown = v1::GetRequest { background_id: "bg-marmalade".into() };
    soon("a refusal", clients.tasks.get(unknown)).await.expect_err("no such task");
    let token = server.token.clone();
    drop(clients);
    let (ended, _) = server.terminate().await;
    let log = ended.exits(0);
    let lines = log.stderr().lines().map(|line| match serde_json::from_str(line) {
        Ok(serde_json::Value::Object(line)) => line,
        other => panic!("no JSON object: {line}: {other:?}"),
    });
    let lines: Vec<_> = lines.collect();
    assert!(lines.iter().all(|line| line.contains_key("timestamp") && line.contains_key("level")));
    let of_request = |line: &&serde_json::Map<_, _>| line["span"]["request_id"] == named;
    let about: Vec<_> = lines.iter().filter(|line| line.contains_key("span")).collect();
    let about = about.iter().copied().find(of_request).expect("a line of the request");
    assert_eq!(about["span"]["method"], "callpark.v1.ToolRunner/RunTool");
    for secret in [token.as_str(), "marmalade"] {
        assert!(!log.stderr().contains(secret), "{secret}: {log}");
    }
}

#[tokio::test]
async fn operators_see_numbers_and_whether_it_is_ready() {
    let site = Site::new();
    let server = site.serve(&["--admin-listen", "127.0.0.1:0"]).await;
    let admin = server.address("  admin  ");
    let address = admin.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/metrics"));
    let address = address.expect("an address");
    assert_eq!(output_of(&server, "echo 1234567").await, "1234567\n");
    let (status, text) = get(address, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}: {text}")).trim().to_owned()
    };
    assert_eq!(value("callpark_calls_started_total{tool_kind=\"command\"}"), "1");
    assert_eq!(value("callpark_output_bytes_total{disposition=\"kept\"}"), "8");
    assert_eq!(value("callpark_calls_live"), "0");
    assert!(text.contains("# TYPE callpark_calls_live gauge"), "{text}");
    assert!(!text.contains(&server.token), "{text}");
    assert_eq!(get(address, "/healthz").await.0, 200);
    assert_eq!(get(address, "/readyz").await.0, 200);
    assert_eq!(get(address, "/").await.0, 404);
}

/// The status and the body of an answer to HTTP.
async fn get(address: &str, path: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    let answer = soon("an answer", exchange).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}
