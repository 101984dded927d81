//! Tests of processes in a session of their own, as a server with a terminal starts them.

use super::super::separation::Separation;
use super::*;

fn session_executor() -> UnixExecutor {
    UnixExecutor::with_separation(options(Duration::from_secs(5)), Separation::Session)
}

fn start_in_session(spec: ProcessSpec) -> Box<dyn Process> {
    session_executor().start(CallId::random(), spec).unwrap()
}

#[tokio::test]
async fn a_process_leads_a_session_and_a_group_without_a_terminal() {
    let script = "cut -d' ' -f1,5,6,7 /proc/$$/stat; read x < /dev/tty || echo none";
    let mut process = start_in_session(bash(script));
    let pid = process.pid();
    let observed = follow(process.as_mut()).await;
    assert_eq!(observed.stdout(), format!("{pid} {pid} {pid} 0\nnone\n"));
}

#[tokio::test]
async fn a_process_gets_the_same_in_a_session() {
    let directory = tempfile::tempdir().unwrap();
    let mut spec = bash("pwd; ls /proc/self/fd | wc -l; cat; echo $0 $COLOUR $PYTHONUNBUFFERED");
    spec.environment.insert("COLOUR".to_owned(), "red".to_owned());
    spec.stdin = Some(Bytes::from_static(b"input\n"));
    spec.working_directory = Some(directory.path().canonicalize().unwrap());
    let mut process = start_in_session(spec.clone());
    let (one, other) = (follow(process.as_mut()).await, run(spec).await);
    assert_eq!((one.stdout(), one.report.exit), (other.stdout(), Exit::Code(0)));
}

#[tokio::test]
async fn a_stop_reaches_the_whole_session() {
    let mut process = start_in_session(bash("sleep 60 & echo $!; wait"));
    let child = pid_line(process.as_mut()).await;
    process.stop(Stop::Graceful(BOUND));
    assert_eq!(follow(process.as_mut()).await.report.exit, Exit::Signal(15));
    wait_until_gone(child).await;

    let mut process = start_in_session(bash("trap '' TERM; sleep 60 & echo $!; wait; sleep 60"));
    let child = pid_line(process.as_mut()).await;
    process.stop(Stop::Kill);
    assert_eq!(follow(process.as_mut()).await.report.exit, Exit::Signal(9));
    wait_until_gone(child).await;
}

#[tokio::test]
async fn a_process_that_left_the_session_is_killed_with_the_others() {
    let mut process = start_in_session(bash("setsid bash -c 'echo $$; exec sleep 60' & wait"));
    let away = pid_line(process.as_mut()).await;
    process.stop(Stop::Graceful(BOUND));
    follow(process.as_mut()).await;
    wait_until_gone(away).await;
}

#[tokio::test]
async fn errors_are_the_same_in_a_session() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("no-interpreter");
    fs::write(&program, "#!/nowhere/sh\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).unwrap();
    for argv in [["callpark-hello"], [program.to_str().unwrap()]] {
        let error = session_executor().start(CallId::random(), spec(&argv)).err();
        assert_eq!(error, Some(start_error(spec(&argv))));
    }
}
