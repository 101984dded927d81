//! A server that was started in a terminal keeps its tools away from it.

use crate::support::program::{PROGRAM, Program, Site};

/// Starts a program in a terminal of its own, and copies to standard error what is seen there.
const TERMINAL: &str = "\
import os, pty, sys
pid, screen = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    try:
        seen = os.read(screen, 4096)
    except OSError:
        break
    if not seen:
        break
    os.write(2, seen)
os.waitpid(pid, 0)
";

async fn serve_in_terminal(site: &Site) -> Program {
    let data = site.data().display().to_string();
    let arguments =
        ["-c", TERMINAL, PROGRAM, "serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
    site.serve_with(site.other("python3", &arguments)).await
}

async fn bash(server: &Program, command: &str) -> String {
    let flags = ["run", "--budget", "60s", "--timeout", "20s", "bash", "--", command];
    server.cli(&flags).await.exits(0).stdout().to_owned()
}

#[tokio::test]
async fn a_tool_can_neither_read_nor_write_the_terminal_of_its_server() {
    let site = Site::new();
    let server = serve_in_terminal(&site).await;
    let python = server.live.pid();
    let children = std::fs::read_to_string(format!("/proc/{python}/task/{python}/children"));
    let pid = children.expect("children").trim().to_owned();
    let of_server = bash(&server, &format!("cut -d' ' -f7 /proc/{pid}/stat")).await;
    assert_ne!(of_server, "0\n", "the server has a terminal");
    assert_eq!(bash(&server, "cut -d' ' -f7 /proc/$PPID/stat").await, "0\n", "the shim has none");
    assert_eq!(bash(&server, "cut -d' ' -f7 /proc/$$/stat").await, "0\n");
    assert_eq!(bash(&server, "read -p Password: x < /dev/tty; echo asked $?").await, "asked 1\n");
    assert_eq!(bash(&server, "echo from-a-tool > /dev/tty; echo $?").await, "1\n");
    assert!(!server.live.stderr.now().contains("from-a-tool"), "{}", server.live.stderr.now());
    let quiet = "> /dev/null 2>&1 < /dev/null";
    bash(&server, &format!("sleep 300 {quiet} & setsid -f sleep 300 {quiet}; echo up")).await;
    assert_eq!(site.processes(), [0; 0], "they end with their call here, too");
}
