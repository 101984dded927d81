//! Starts that are refused: with one clear message, a non-zero exit, and nothing touched.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::support::program::{Ended, Live, PROGRAM, Site, run};

/// Returns the message of a refused start, one line behind its prefix.
#[track_caller]
fn refusal(ended: &Ended) -> &str {
    refusal_with(78, ended)
}

#[track_caller]
fn refusal_with(code: i32, ended: &Ended) -> &str {
    assert_eq!((ended.code(), ended.bytes()), (code, &b""[..]), "{ended}");
    let text = ended.stderr().strip_prefix("error: ").expect("an error");
    match text.strip_suffix('\n') {
        Some(line) if !line.contains('\n') => line,
        _ => panic!("not one line: {ended}"),
    }
}

/// Name, permissions, time of change and content of all files of a folder.
fn files(folder: &Path) -> BTreeMap<String, (u32, i64, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file"));
    let seen = entries.map(|entry| {
        let about = entry.metadata().expect("a file");
        let content = std::fs::read(entry.path()).expect("a file");
        let name = entry.file_name().into_string().expect("a name");
        (name, (about.mode(), about.mtime_nsec(), content))
    });
    // A lock is there to be written: it says who holds it.
    seen.filter(|(name, _)| !name.ends_with(".lock")).collect()
}

/// Makes the store one that a newer server has written.
fn make_newer(database: &Path) {
    let connection = Connection::open(database).expect("a store");
    let later = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
                 VALUES (4000, 'later', '2030-01-01T00:00:00Z', '1')";
    connection.execute_batch(later).expect("written");
    connection.close().expect("closed");
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_as_it_is() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    server.cli(&["run", "bash", "true"]).await.exits(0);
    server.terminate().await.0.exits(0);
    site.without_shims().await;
    make_newer(&site.data().join("callpark.db"));
    let before = files(&site.data());
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        ["callpark.db", "callpark.db.continuity", "token"]
    );
    let ended = site.run(&["serve", "--listen", "127.0.0.1:0"]).await;
    let line = refusal(&ended);
    assert!(line.contains(&site.data().display().to_string()), "{line}");
    assert!(line.contains("4000") && line.contains("newer"), "{line}");
    assert!(files(&site.data()) == before, "its files have changed");
}

#[tokio::test]
async fn a_foreign_database_is_left_as_it_is() {
    let site = Site::new();
    std::fs::create_dir_all(site.data()).expect("a folder");
    let database = site.data().join("callpark.db");
    let connection = Connection::open(&database).expect("a database");
    connection.execute_batch("CREATE TABLE recipes (name TEXT)").expect("a table");
    connection.close().expect("closed");
    let before = files(&site.data());
    let ended = site.run(&["serve", "--listen", "127.0.0.1:0"]).await;
    let line = refusal(&ended);
    assert!(line.contains("callpark.db is not a store of this server"), "{line}");
    assert!(files(&site.data()) == before, "its files have changed");
}

#[tokio::test]
async fn a_file_in_place_of_the_data_folder_is_reported_plainly() {
    let site = Site::new();
    let file = site.write("data", "not a folder");
    let inside = file.join("deeper");
    for place in [&file, &inside] {
        let data = place.display().to_string();
        let ended = site.run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]).await;
        let line = refusal(&ended);
        assert!(line.contains(&data) && line.contains("cannot write the store"), "{line}");
        assert!(line.contains("choose another"), "{line}");
    }
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), "not a folder");
}

#[tokio::test]
async fn an_unwritable_data_folder_is_reported_plainly() {
    /// A user who owns nothing.
    const OTHER_USER: u32 = 65_534;
    let site = Site::new();
    let folder = site.folder().join("read-only");
    std::fs::create_dir(&folder).expect("a folder");
    let open = |path: &Path, mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, permissions).expect("permissions");
    };
    open(&folder, 0o555);
    open(site.folder(), 0o755);
    let data = folder.display().to_string();
    let mut command = site.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    if rustix::process::geteuid().is_root() {
        // Permissions mean nothing to root.
        chown(&folder, Some(OTHER_USER), Some(OTHER_USER)).expect("an owner");
        command.uid(OTHER_USER).gid(OTHER_USER);
        if command.spawn().is_err() {
            eprintln!("not checked: {PROGRAM} is out of reach for other users");
            return;
        }
    }
    let ended = run(command).await;
    open(&folder, 0o755);
    let line = refusal(&ended);
    assert!(line.contains(&data) && line.contains("ermission denied"), "{line}");
    assert!(files(&folder).is_empty(), "{:?}", files(&folder));
}

#[tokio::test]
async fn a_port_in_use_is_reported_plainly() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let site = Site::new();
    for flag in ["--listen", "--admin-listen"] {
        let ended = site.run(&["serve", "--listen", "127.0.0.1:0", flag, &address]).await;
        // 75 is EX_TEMPFAIL: another try may succeed.
        let line = refusal_with(75, &ended);
        assert!(line.contains(&format!("cannot listen on {address}")), "{line}");
        assert!(line.contains("the port is in use"), "{line}");
        assert!(line.contains(&format!("`{}`", flag.trim_start_matches('-'))), "{line}");
        assert!(!site.data().exists(), "nothing is written before the addresses are there");
    }
}

#[tokio::test]
async fn addresses_and_a_store_that_are_in_use_for_a_moment_are_waited_for() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let site = Site::new();
    let socket = site.folder().join("socket");
    let held = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let store = site.folder().join("store");
    std::fs::DirBuilder::new().mode(0o700).create(&store).expect("a folder");
    let lock = File::create(store.join("callpark.db.lock")).expect("a file");
    lock.lock().expect("a lock");
    let (both, store) =
        (format!("{address},unix:{}", socket.display()), store.display().to_string());
    let mut live = Live::start(site.command(&["serve", "--listen", &both, "--data-dir", &store]));
    // Less than the two seconds for which the server tries again, and enough for a first try.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!live.stderr.now().contains("callpark listens"), "{}", live.stderr.now());
    drop((taken, held, lock));
    assert!(live.stderr.started().await, "{}", live.stderr.now());
    assert!(live.stderr.now().contains(&format!("http://{address}")), "{}", live.stderr.now());
}

#[tokio::test]
async fn an_address_beyond_this_machine_needs_encryption_or_a_word() {
    let site = Site::new();
    let ended = site.run(&["serve", "--listen", "0.0.0.0:0"]).await;
    let line = refusal(&ended);
    assert!(line.contains("0.0.0.0:0") && line.contains("beyond this machine"), "{line}");
    for way_out in ["tls-cert", "tls-key", "127.0.0.1", "allow-remote-plaintext"] {
        assert!(line.contains(way_out), "{way_out}: {line}");
    }
    assert!(!site.data().exists());
    let allowed = ["serve", "--listen", "0.0.0.0:0", "--allow-remote-plaintext"];
    let mut live = Live::start(site.command(&allowed));
    assert!(live.stderr.started().await, "{}", live.stderr.now());
    assert!(live.stderr.now().contains("without encryption"), "{}", live.stderr.now());
}

#[tokio::test]
async fn remote_callers_cannot_run_commands_without_a_token() {
    let site = Site::new();
    let flags = ["--listen", "0.0.0.0:0", "--allow-remote-plaintext", "--auth", "none"];
    let ended = site.run(&[&["serve"], &flags[..]].concat()).await;
    let line = refusal(&ended);
    assert!(line.contains("auth") && line.contains("0.0.0.0:0"), "{line}");
}

const FAULTY: &str = r#"grace = "soon"
lisen = "127.0.0.1:0"
max_live_tasks = 0

[[tools]]
name = "one"
argv = []

[[tools]]
name = "two"
argv = ["true"]
colour = "blue"
"#;

#[tokio::test]
async fn all_errors_of_a_configuration_file_are_reported_at_once() {
    let site = Site::new();
    let file = site.write("callpark.toml", FAULTY).display().to_string();
    let mut command = site.command(&["serve", "--config", &file, "--heartbeat", "never"]);
    command.env("CALLPARK_DRAIN", "-1s");
    let ended = run(command).await.exits(78);
    let line_of = |what: &str| {
        let found = ended.stderr().lines().find(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("nothing of {what}: {ended}"))
    };
    assert!(line_of("grace").contains(&format!("{file}:1")), "{ended}");
    let unknown = line_of("lisen");
    assert!(unknown.contains(&format!("{file}:2")) && unknown.contains("`listen`"), "{ended}");
    assert!(line_of("max_live_tasks").contains(&format!("{file}:3")), "{ended}");
    assert!(line_of("heartbeat").contains("--heartbeat"), "{ended}");
    assert!(line_of("drain").contains("CALLPARK_DRAIN"), "{ended}");
    assert!(!site.data().exists());
}

#[tokio::test]
async fn errors_of_tools_are_reported_with_all_others() {
    let site = Site::new();
    let file = site.write("callpark.toml", FAULTY).display().to_string();
    let ended = site.run(&["serve", "--config", &file]).await.exits(78);
    for (tool, line, what) in [("one", 5, "argv"), ("two", 12, "colour")] {
        let place = format!("{file}:{line}");
        let is_about = |line: &str| line.contains(tool) && line.contains(&place);
        let line = ended.stderr().lines().find(|line| is_about(line));
        assert!(line.is_some_and(|line| line.contains(what)), "{tool}: {ended}");
    }
    assert!(ended.stderr().contains("grace"), "{ended}");
}

#[tokio::test]
async fn an_invalid_toml_file_is_reported_with_line_and_column() {
    let site = Site::new();
    let file = site.write("callpark.toml", "grace = \"1s\"\ndrain = = 3\n").display().to_string();
    let ended = site.run(&["serve", "--config", &file]).await.exits(78);
    assert!(ended.stderr().contains(&format!("{file}:2:9")), "{ended}");
    let missing = format!("{file}.not");
    let ended = site.run(&["serve", "--config", &missing]).await;
    assert!(refusal(&ended).contains(&missing), "{ended}");
}
