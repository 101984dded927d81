//! The program with its store in a database.

use tokio::process::Command;

use crate::cluster::{Cluster, PASSWORD, ROLE, shared};
use crate::support::program::{Ended, Program, Site, run};
use crate::support::{bash, remote, soon, v1};

/// A database, and a home whose server has its store there.
struct Place<'a> {
    site: Site,
    cluster: &'a Cluster,
    database: String,
}

impl<'a> Place<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        Self { site: Site::new(), cluster, database: cluster.database() }
    }

    /// Returns the URL without a password.
    fn url(&self) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{}/{}", self.cluster.port, self.database)
    }

    /// A command that has the store in this place, and the password in the environment.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.site.command(words);
        command.env("CALLPARK_STORE", self.url()).env("PGPASSWORD", PASSWORD);
        command
    }

    fn server(&self) -> Command {
        self.command(&["serve", "--listen", "127.0.0.1:0"])
    }

    async fn serve(&self) -> Program {
        self.site.serve_with(self.server()).await
    }
}

/// Checks that nothing that was printed has the password, and that an error is one line.
#[track_caller]
fn check_printed(ended: &Ended) {
    assert!(!ended.to_string().contains(PASSWORD), "{ended}");
    let error = ended.stderr().trim_end();
    assert!(!error.contains('\n'), "not one line: {ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_killed_and_its_running_call_goes_on_with_the_next() {
    let place = Place::new(shared());
    let server = place.serve().await;
    let clients = server.connect();
    let mut tools = clients.tools.clone();
    let info = soon("an answer", tools.get_server_info(v1::GetServerInfoRequest {})).await;
    let info = info.expect("an answer").into_inner();
    assert_eq!(info.store, "postgres");
    assert!(info.features.iter().any(|feature| feature == "postgres"), "{info:?}");
    let gate = place.site.folder().join("gate");
    let command =
        format!("echo begun; until [ -e {} ]; do sleep 0.02; done; echo over", gate.display());
    let id = remote::start(&clients, bash(&command)).await.background_id;
    server.kill().await;
    let server = place.serve().await;
    std::fs::write(&gate, "").expect("a gate");
    let task = remote::ended(&server.connect(), &id).await;
    assert_eq!((task.state(), task.attempt), (v1::State::Succeeded, 1), "{task:?}");
    assert_eq!(remote::output(&server.connect(), &id).await, b"begun\nover\n");
    assert!(!place.site.data().join("callpark.db").exists(), "there is no other store");
    server.terminate().await.0.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_comes_from_a_file_the_environment_or_the_url() {
    let cluster = shared();
    let place = Place::new(cluster);
    let file = place.site.write("password", &format!("{PASSWORD}\n"));
    Cluster::make_private(&file);
    let file = file.display().to_string();
    let lines = format!("other:*:*:*:wrong\n127.0.0.1:{}:*:{ROLE}:{PASSWORD}\n", cluster.port);
    let passfile = place.site.write("pgpass", &lines);
    Cluster::make_private(&passfile);
    let own = place.site.home().join(".pgpass");
    let with_password = cluster.url(cluster.port, &place.database);
    let bare = place.url();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--store"];
    for number in 0..5 {
        let mut command = place.site.command(&serve);
        match number {
            0 => command.arg(&bare).args(["--store-password-file", &file]),
            1 => command.arg(&bare).env("PGPASSWORD", PASSWORD),
            2 => command.arg(&bare).env("PGPASSFILE", &passfile),
            3 => {
                std::fs::copy(&passfile, &own).expect("copied");
                command.arg(&bare)
            }
            // That of the URL is stronger than that of the environment.
            _ => command.arg(&with_password).env("PGPASSWORD", "wrong"),
        };
        let server = place.site.serve_with(command).await;
        server.cli(&["run", "bash", "true"]).await.exits(0);
        let printed = server.live.stderr.now();
        assert!(printed.contains("  store  postgres://"), "{printed}");
        assert!(!printed.contains(PASSWORD), "{number}: {printed}");
        server.terminate().await.0.exits(0);
    }
    std::fs::remove_file(own).expect("removed");
    let mut command = place.site.command(&serve);
    command.arg(&bare).args(["--store-password-file", &file]);
    std::fs::write(&file, "wrong").expect("written");
    let refused = run(command).await.exits(78);
    assert!(refused.stderr().contains("check the user and the password"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_shows_the_password() {
    let cluster = shared();
    let place = Place::new(cluster);
    let url = cluster.url(cluster.port, &place.database);
    let masked = url.replace(PASSWORD, "***");
    let run = async |words: &[&str]| {
        let mut command = place.site.command(words);
        command.env("CALLPARK_STORE", &url);
        run(command).await
    };
    for words in [&["config"][..], &["config", "--json"]] {
        let shown = run(words).await.exits(0);
        assert!(shown.stdout().contains(&masked), "{shown}");
        check_printed(&shown);
    }
    let refused = run(&["backup", "copy.db"]).await.exits(2);
    assert!(
        refused.stderr().contains("pg_dump") && refused.stderr().contains(&masked),
        "{refused}"
    );
    check_printed(&refused);
    let wrong = format!("postgres://me:{PASSWORD}@127.0.0.1:{}x/y", cluster.port);
    let refused = place.site.run(&["serve", "--store", &wrong]).await.exits(78);
    assert!(!refused.to_string().contains(PASSWORD), "{refused}");
    let refused = place.site.run(&["serve", "--store", "mysql://a/b"]).await.exits(78);
    assert!(refused.stderr().contains("postgres://user@host/database is expected"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_and_a_folder_have_one_server() {
    let cluster = shared();
    let place = Place::new(cluster);
    let server = place.serve().await;
    // Another folder, the same database.
    let elsewhere = place.site.folder().join("elsewhere").display().to_string();
    let mut second = place.server();
    second.args(["--data-dir", &elsewhere]);
    let refused = run(second).await.exits(75);
    assert!(refused.stderr().contains("is used by another server (at "), "{refused}");
    check_printed(&refused);
    // Another database, the same folder.
    let other = format!("postgres://{ROLE}@127.0.0.1:{}/{}", cluster.port, cluster.database());
    for store in [&other, "sqlite"] {
        let mut second = place.server();
        second.env("CALLPARK_STORE", store);
        let refused = run(second).await.exits(75);
        let holder = format!("used by another server (process {})", server.live.pid());
        assert!(refused.stderr().contains(&holder), "{refused}");
        check_printed(&refused);
    }
    server.cli(&["run", "bash", "true"]).await.exits(0);
    server.terminate().await.0.exits(0);
    place.serve().await.terminate().await.0.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_waited_for_and_named() {
    let cluster = Cluster::start();
    let place = Place::new(&cluster);
    cluster.crash();
    let mut command = place.server();
    command.args(["--store-wait", "0s"]);
    let refused = run(command).await.exits(75);
    let name = format!("the database 127.0.0.1:{}/{} cannot be", cluster.port, place.database);
    assert!(refused.stderr().contains(&name), "{refused}");
    check_printed(&refused);
    let mut live = crate::support::program::Live::start(place.server());
    live.stderr.until("waiting for the database").await;
    cluster.resume();
    let server = Program::started(live, place.site.home(), &place.site.data()).await;

    // A call that runs meanwhile is not disturbed, and the server says what is wrong.
    let gate = place.site.folder().join("gate");
    let command = format!("until [ -e {} ]; do sleep 0.02; done; seq 1000", gate.display());
    let clients = server.connect();
    let id = remote::start(&clients, bash(&command)).await.background_id;
    cluster.crash();
    let request = v1::StartRequest {
        work: Some(v1::start_request::Work::ToolCall(bash("true"))),
        ..v1::StartRequest::default()
    };
    let refused = soon("an answer", clients.tasks.clone().start(request)).await;
    let refused = refused.expect_err("there is no database");
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    std::fs::write(&gate, "").expect("a gate");
    place.site.quiet().await;
    cluster.resume();
    let ended = async {
        loop {
            let request = v1::GetRequest { background_id: id.clone() };
            let answer = clients.tasks.clone().get(request).await;
            match answer.map(|answer| answer.into_inner().task.expect("a task").state()) {
                Ok(v1::State::Succeeded) => break,
                _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    };
    soon("the end of the call", ended).await;
    let written: String = (1..=1000).map(|line| format!("{line}\n")).collect();
    assert_eq!(remote::output(&clients, &id).await, written.as_bytes());
    server.terminate().await.0.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_knows_the_database() {
    let cluster = shared();
    let place = Place::new(cluster);
    let doctor = async || run(place.command(&["doctor"])).await;
    let fresh = doctor().await.exits(0);
    assert!(fresh.stdout().contains("there is no schema yet"), "{fresh}");
    let server = place.serve().await;
    let used = doctor().await.exits(0);
    assert!(used.stdout().contains("schema 2, in use (at 127.0.0.1, process "), "{used}");
    server.terminate().await.0.exits(0);
    assert!(doctor().await.exits(0).stdout().contains("schema 2, not in use"));
    let read_only =
        format!("ALTER DATABASE {} SET default_transaction_read_only = on", place.database);
    cluster.sql("postgres", &read_only);
    let refused = doctor().await.exits(1);
    assert!(refused.stdout().contains("takes no writes"), "{refused}");
    let refused = run(place.server()).await.exits(78);
    assert!(refused.stderr().contains("name the primary in the URL"), "{refused}");
    check_printed(&refused);
    let mut unknown = place.command(&["doctor"]);
    unknown.env("CALLPARK_STORE", "postgres://me@127.0.0.1:1/x");
    let unknown = run(unknown).await.exits(1);
    assert!(unknown.stdout().contains("cannot be reached"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_from_one_database_to_the_other_with_its_running_call() {
    let place = Place::new(shared());
    let from = format!("sqlite:{}", place.site.data().display());
    let url = place.url();
    let migrate = async || {
        let words = ["migrate-store", "--from", &from, "--to", &url];
        let mut command = place.site.command(&words);
        command.env("PGPASSWORD", PASSWORD);
        run(command).await
    };
    let missing = migrate().await.exits(66);
    assert!(missing.stderr().contains("there is no store"), "{missing}");
    let server = place.site.serve(&[]).await;
    let session = remote::session(&server.connect()).await;
    let call = v1::RunToolRequest { session_id: session.clone(), ..bash("echo one") };
    let one = remote::start(&server.connect(), call).await.background_id;
    remote::ended(&server.connect(), &one).await;
    let gate = place.site.folder().join("gate");
    let command = format!("until [ -e {} ]; do sleep 0.02; done; echo two", gate.display());
    let two = remote::start(&server.connect(), bash(&command)).await.background_id;
    let log = remote::log(&server.connect(), &session).await;
    let used = migrate().await.exits(75);
    assert!(used.stderr().contains("stop its server first"), "{used}");
    check_printed(&used);
    server.terminate().await.0.exits(0);

    let migrated = migrate().await.exits(0);
    assert!(migrated.stdout().contains("the same in both stores"), "{migrated}");
    let again = migrate().await.exits(2);
    assert!(again.stderr().contains("name an empty database"), "{again}");
    let server = place.serve().await;
    assert_eq!(remote::log(&server.connect(), &session).await, log);
    assert_eq!(remote::output(&server.connect(), &one).await, b"one\n");
    std::fs::write(&gate, "").expect("a gate");
    let task = remote::ended(&server.connect(), &two).await;
    assert_eq!((task.state(), task.attempt), (v1::State::Succeeded, 1), "{task:?}");
    assert_eq!(remote::output(&server.connect(), &two).await, b"two\n");
    server.terminate().await.0.exits(0);
}
