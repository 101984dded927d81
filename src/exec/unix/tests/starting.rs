//! Tests of the environment of a process, and of starts that fail.

use std::os::unix::fs::PermissionsExt;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::getpriority_process;

use super::*;
use crate::exec::close_inherited_on_exec;
use crate::exec::unix::mark::ServerProcess;

#[tokio::test]
async fn a_process_sees_its_own_variables_and_the_mark_only() {
    let call_id = CallId::random();
    let mut env = spec(&["env"]);
    env.environment.insert("COLOUR".to_owned(), "red = blue".to_owned());
    let mut process = executor().start(call_id, env).unwrap();
    let observed = follow(process.as_mut()).await;
    let mut lines: Vec<&str> = observed.stdout().lines().collect();
    lines.sort_unstable();
    let mark = format!("CALLPARK_CALL_ID={call_id}");
    let server = format!("CALLPARK_SERVER_PROCESS={}", ServerProcess::this());
    let path = "PATH=/usr/local/bin:/usr/bin:/bin";
    let expected = [&mark, &server, "COLOUR=red = blue", path, "PYTHONUNBUFFERED=1"];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_variable_that_makes_python_write_at_once_can_be_set_otherwise() {
    let mut quiet = spec(&["printenv", "PYTHONUNBUFFERED"]);
    quiet.environment.insert("PYTHONUNBUFFERED".to_owned(), String::new());
    assert_eq!(run(quiet).await.stdout(), "\n");
}

#[tokio::test]
async fn the_mark_cannot_be_forged() {
    let call_id = CallId::random();
    let mut forged = spec(&["printenv", "CALLPARK_CALL_ID"]);
    forged.environment.insert("CALLPARK_CALL_ID".to_owned(), CallId::random().to_string());
    let mut process = executor().start(call_id, forged).unwrap();
    assert_eq!(follow(process.as_mut()).await.stdout().trim(), call_id.to_string());
}

#[tokio::test]
async fn a_process_holds_descriptors_0_1_and_2_only() {
    // What a careless parent of the server would leave open.
    let inherited = fs::File::open("/dev/null").unwrap();
    fcntl_setfd(&inherited, FdFlags::empty()).unwrap();
    close_inherited_on_exec();
    // The listing itself is descriptor 3.
    let observed = run(spec(&["ls", "/proc/self/fd"])).await;
    assert_eq!(observed.stdout().split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_process_leads_its_own_group() {
    let mut process = start(bash("cut -d' ' -f1,5 /proc/$$/stat"));
    let pid = process.pid();
    assert_eq!(follow(process.as_mut()).await.stdout().trim(), format!("{pid} {pid}"));
}

#[tokio::test]
async fn a_process_and_its_children_have_a_lower_priority_than_the_server() {
    let niceness = (getpriority_process(None).unwrap() + 5).min(19);
    // The priority is set after the process has started.
    let observed =
        run(bash(&format!("until [ $(nice) = {niceness} ]; do :; done; setsid nice"))).await;
    assert_eq!(observed.stdout().trim(), niceness.to_string());
}

#[tokio::test]
async fn arguments_arrive_as_they_are() {
    let observed = run(spec(&["printf", "%s|", "a b", "", "$HOME", "ü\n", "--"])).await;
    assert_eq!(observed.stdout(), "a b||$HOME|ü\n|--|");
}

#[tokio::test]
async fn a_process_runs_in_its_working_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap();
    let observed =
        run(ProcessSpec { working_directory: Some(path.clone()), ..spec(&["pwd"]) }).await;
    assert_eq!(PathBuf::from(observed.stdout().trim()), path);
}

#[tokio::test]
async fn standard_input_is_empty_unless_given() {
    assert_eq!(run(spec(&["cat"])).await.report.exit, Exit::Code(0));
    let data = Bytes::from_static(b"\0\xffnot text\n");
    let observed = run(ProcessSpec { stdin: Some(data.clone()), ..spec(&["cat"]) }).await;
    assert_eq!(observed.stdout, data);
}

#[tokio::test]
async fn much_input_and_much_output_do_not_block_each_other() {
    let data = Bytes::from(vec![b'x'; 3_000_000]);
    let observed = run(ProcessSpec { stdin: Some(data.clone()), ..spec(&["cat"]) }).await;
    assert!(observed.stdout == data);
}

#[tokio::test]
async fn input_that_is_not_read_is_no_failure() {
    let data = Some(Bytes::from(vec![b'x'; 1_000_000]));
    for script in ["true", "exec <&-; echo closed; sleep 0.2", "head -c1 >&2; exec sleep 0.2"] {
        let observed = run(ProcessSpec { stdin: data.clone(), ..bash(script) }).await;
        assert_eq!(observed.report.exit, Exit::Code(0), "{script}");
        assert!(!observed.report.output_incomplete);
    }
}

#[tokio::test]
async fn a_program_is_looked_up_in_the_path_of_its_environment() {
    let directory = tempfile::tempdir().unwrap();
    script(&directory.path().join("callpark-hello"), 0o755);
    let folder = directory.path().to_str().unwrap();
    for path in [format!("/nowhere:{folder}"), format!("/usr/bin:{folder}:/bin")] {
        let mut hello = spec(&["callpark-hello"]);
        hello.environment.insert("PATH".to_owned(), path);
        assert_eq!(run(hello).await.stdout(), "hello\n");
    }
    let missing = StartError::ProgramMissing { program: "callpark-hello".to_owned() };
    assert_eq!(start_error(spec(&["callpark-hello"])), missing);
}

#[tokio::test]
async fn a_relative_program_is_seen_from_the_working_directory() {
    let directory = tempfile::tempdir().unwrap();
    script(&directory.path().join("hello"), 0o755);
    let at = |argv: &[&str]| ProcessSpec {
        working_directory: Some(directory.path().to_owned()),
        ..spec(argv)
    };
    assert_eq!(run(at(&["./hello"])).await.stdout(), "hello\n");
    let mut here = at(&["hello"]);
    here.environment.insert("PATH".to_owned(), "/bin::/usr/bin".to_owned());
    assert_eq!(run(here).await.stdout(), "hello\n");
}

#[tokio::test]
async fn a_missing_program_is_named() {
    for program in ["callpark-no-such-program", "/no/such/program", "./no", ""] {
        let missing = StartError::ProgramMissing { program: program.to_owned() };
        assert_eq!(start_error(spec(&[program])), missing);
    }
    assert_eq!(start_error(spec(&[])), StartError::ProgramMissing { program: String::new() });
}

#[tokio::test]
async fn a_program_that_may_not_be_executed_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hello");
    script(&file, 0o644);
    for program in [file.to_str().unwrap(), directory.path().to_str().unwrap()] {
        let refused = StartError::NotExecutable { program: program.to_owned() };
        assert_eq!(start_error(spec(&[program])), refused);
    }
    let mut looked_up = spec(&["hello"]);
    looked_up.environment.insert("PATH".to_owned(), directory.path().display().to_string());
    let refused = StartError::NotExecutable { program: "hello".to_owned() };
    assert_eq!(start_error(looked_up), refused);
}

#[tokio::test]
async fn a_missing_interpreter_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hello");
    fs::write(&file, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let error = start_error(spec(&[file.to_str().unwrap()])).to_string();
    assert!(error.contains("interpreter"), "{error}");
}

#[tokio::test]
async fn a_working_directory_that_cannot_be_entered_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in ["/no/such/directory", file.path().to_str().unwrap()] {
        let directory = Some(PathBuf::from(path));
        let error = start_error(ProcessSpec { working_directory: directory, ..spec(&["true"]) });
        assert_eq!(error, StartError::WorkingDirectory { path: path.to_owned() });
    }
}

#[tokio::test]
async fn arguments_that_the_system_cannot_pass_on_are_refused() {
    for argument in ["nul\0".to_owned(), "x".repeat(8_000_000)] {
        let error = start_error(spec(&["true", &argument]));
        assert!(matches!(error, StartError::System { .. }), "{error}");
    }
}

#[test]
fn without_a_runtime_nothing_starts() {
    assert!(matches!(start_error(spec(&["true"])), StartError::System { .. }));
}

fn script(path: &std::path::Path, mode: u32) {
    fs::write(path, "#!/bin/sh\necho hello\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
