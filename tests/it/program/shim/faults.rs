//! Shims and places that a server cannot use as it would like to.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use prost::Message;

use super::{FakeShim, check_outputs, code_of, loss_of};
use crate::support::program::Site;
use crate::support::{bash, remote};

/// A report of a shim, as far as a server needs it before anything else.
#[derive(Clone, PartialEq, Message)]
struct Report {
    #[prost(message, tag = "1")]
    hello: Option<Hello>,
}

/// The first message of a shim.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(super) protocol: u32,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(uint32, tag = "3")]
    pub(super) pid: u32,
    #[prost(string, tag = "4")]
    pub(super) settings: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) runs: Vec<Run>,
}

/// A run of a shim.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Run {
    #[prost(bytes = "vec", tag = "1")]
    call_id: Vec<u8>,
}

/// Reads the next message of a server, without its length, or returns `None` if the server has gone.
pub(super) fn read_frame(socket: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    socket.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut frame).ok()?;
    Some(frame)
}

pub(super) fn send_hello(socket: &mut UnixStream, hello: Hello) {
    let report = Report { hello: Some(hello) }.encode_to_vec();
    let length = u32::try_from(report.len()).expect("short").to_be_bytes();
    socket.write_all(&[&length[..], &report].concat()).expect("written");
}

/// Answers one server with this message as a shim does, and ends after `orders` of its orders.
fn fake_shim(site: &Site, hello: Hello, orders: usize) -> std::thread::JoinHandle<()> {
    let listener = FakeShim::listen(site);
    std::thread::spawn(move || {
        let mut socket = listener.accept();
        read_frame(&mut socket).expect("a server that introduces itself");
        send_hello(&mut socket, hello);
        (0..orders).for_each(|_| drop(read_frame(&mut socket).expect("an order")));
    })
}

#[tokio::test]
async fn a_shim_of_a_newer_protocol_is_refused_with_one_line() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let (ended, _) = server.terminate().await;
    ended.exits(0);
    let pid = std::process::id();
    let hello = Hello { protocol: 2, version: "9.8.7".into(), pid, ..Hello::default() };
    let shim = fake_shim(&site, hello, 0);
    let refused = site.run(&["serve", "--listen", "127.0.0.1:0"]).await.exits(78);
    shim.join().expect("asked");
    let line = refused.stderr().strip_suffix('\n').filter(|line| !line.contains('\n'));
    let line = line.unwrap_or_else(|| panic!("not one line: {refused}"));
    let words = ["error: the server cannot start", "9.8.7", "newer", &pid.to_string()];
    assert!(words.iter().all(|word| line.contains(word)), "{line}");
    // The shim has gone: nothing is in the way.
    let server = site.serve(&[]).await;
    server.cli(&["run", "bash", "true"]).await.exits(0);
    assert!(!FakeShim::folder(&site).exists(), "the folder of a shim that has gone");
}

#[tokio::test]
async fn the_process_id_of_a_shim_that_has_gone_may_be_of_another_process() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let id = remote::start(&server.connect(), bash("exec sleep 300")).await.background_id;
    site.kill_with_shims(server).await;
    let mut sleep = site.other("sleep", &["1000"]).spawn().expect("a process");
    let call = uuid::Uuid::parse_str(id.trim_start_matches("bg-")).expect("an id");
    let hello = Hello {
        protocol: 1,
        version: "0.2.0".into(),
        pid: sleep.id().expect("it runs"),
        settings: "--others".into(),
        runs: vec![Run { call_id: call.as_bytes().to_vec() }],
    };
    // It is gone once the server has adopted the run, which is the order after that of the time.
    let shim = fake_shim(&site, hello, 2);
    let server = site.serve(&[]).await;
    let task = remote::ended(&server.connect(), &id).await;
    assert!(loss_of(&task).contains("the shim that ran the process"), "{task:?}");
    shim.join().expect("asked");
    assert_eq!(site.processes(), [0; 0]);
    assert_eq!(sleep.try_wait().expect("a status"), None, "a foreign process was killed");
}

#[tokio::test]
async fn a_path_that_is_too_long_for_a_socket_is_no_obstacle() {
    let site = Site::new();
    let data = site.folder().join("a-folder-with-a-long-name".repeat(8)).join("of-data".repeat(10));
    std::fs::create_dir_all(data.parent().expect("one")).expect("a folder");
    let data = data.display().to_string();
    assert!(data.len() > 200);
    let command = || site.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    let serve = async || {
        let live = crate::support::program::Live::start(command());
        crate::support::program::Program::started(live, site.home(), Path::new(&data)).await
    };
    let server = serve().await;
    let gate = site.folder().join("gate");
    let wait = format!("echo begun; until [ -e {} ]; do sleep 0.02; done; exit 3", gate.display());
    let id = remote::start(&server.connect(), bash(&wait)).await.background_id;
    super::until_written(&server.connect(), &id, 6).await;
    server.kill().await;
    let server = serve().await;
    std::fs::write(&gate, "").expect("a gate");
    assert_eq!(code_of(&remote::ended(&server.connect(), &id).await), 3);
    check_outputs(&server.connect(), &id, [b"begun\n", b""]).await;
}

#[tokio::test]
async fn a_server_with_other_settings_adopts_and_has_a_shim_of_its_own() {
    let site = Site::new();
    let server = site.serve(&["--output-drain", "1s"]).await;
    let gate = site.folder().join("gate");
    let wait = format!("echo begun; until [ -e {} ]; do sleep 0.02; done; exit 3", gate.display());
    let id = remote::start(&server.connect(), bash(&wait)).await.background_id;
    super::until_written(&server.connect(), &id, 6).await;
    server.kill().await;
    let server = site.serve(&["--output-drain", "3s"]).await;
    assert_eq!(site.shims().len(), 2);
    server.cli(&["run", "bash", "true"]).await.exits(0);
    std::fs::write(&gate, "").expect("a gate");
    assert_eq!(code_of(&remote::ended(&server.connect(), &id).await), 3);
    let (ended, _) = server.terminate().await;
    ended.exits(0);
    site.without_shims().await;
}

#[tokio::test]
async fn tools_run_in_the_folder_of_the_server_of_now() {
    let site = Site::new();
    let folders = ["first", "second"].map(|name| site.folder().join(name));
    let data = site.data().display().to_string();
    let mut seen = Vec::new();
    let gate = site.folder().join("gate");
    for folder in &folders {
        std::fs::create_dir(folder).expect("a folder");
        let mut command = site.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
        command.current_dir(folder);
        let server = site.serve_with(command).await;
        let ran = server.cli(&["run", "bash", "pwd"]).await.exits(0);
        seen.push(ran.line().to_owned());
        // The shim stays, since it has work.
        let wait = format!("until [ -e {} ]; do sleep 0.02; done", gate.display());
        remote::start(&server.connect(), bash(&wait)).await;
        server.kill().await;
    }
    std::fs::write(&gate, "").expect("a gate");
    assert_eq!(site.shims().len(), 1);
    let folders = folders.map(|folder| folder.display().to_string());
    assert_eq!(seen, folders);
}

#[tokio::test]
async fn a_foreign_file_beside_the_shims_is_no_obstacle() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let id = remote::start(&server.connect(), bash("echo begun; sleep 0.5; exit 3")).await;
    server.kill().await;
    let shims = site.data().join("callpark.db.shims");
    std::fs::write(shims.join("notes.txt"), "not a shim").expect("written");
    let server = site.serve(&[]).await;
    let task = remote::ended(&server.connect(), &id.background_id).await;
    assert_eq!(code_of(&task), 3, "{task:?}");
    assert!(shims.join("notes.txt").exists());
}
