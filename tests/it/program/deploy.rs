//! The files in `deploy/`: each fits this program.

use std::path::Path;

use crate::support::program::{Ended, Live, Program, Site, run};

/// Returns the text of a file in `deploy/`.
fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns a setting of a unit of systemd: the last value of its key.
fn setting(unit: &str, key: &str) -> Option<String> {
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.next_back().map(str::to_owned)
}

/// Returns the variables of the image.
fn image_variables() -> Vec<(String, String)> {
    let image = text("Dockerfile");
    let (_, rest) = image.split_once("\nENV ").expect("variables");
    let (variables, _) = rest.split_once("\n\n").expect("their end");
    let words = variables.split_ascii_whitespace().filter(|word| *word != "\\");
    let pair = |word: &str| word.split_once('=').map(|(key, value)| (key.into(), value.into()));
    words.map(|word| pair(word).expect("NAME=value")).collect()
}

/// Returns the variables that the compose file adds.
fn compose_variables() -> Vec<(String, String)> {
    let lines = text("compose.yaml");
    let lines = lines.lines().map(str::trim).filter(|line| line.starts_with("CALLPARK_"));
    let pair = |line: &str| {
        let (key, value) = line.split_once(": ").expect("NAME: value");
        (key.to_owned(), value.trim_matches('"').to_owned())
    };
    lines.map(pair).collect()
}

/// Returns the commands behind an instruction of the Dockerfile, in order.
fn commands(instruction: &str) -> Vec<Vec<String>> {
    let image = text("Dockerfile");
    let lines = image.lines().filter_map(|line| line.trim().strip_prefix(instruction));
    lines.map(|words| serde_json::from_str(words).expect("words")).collect()
}

/// Checks that a configuration is right, without a warning.
#[track_caller]
fn check_settings(ended: Ended, note: &str) -> serde_json::Value {
    let ended = ended.exits(0);
    assert!(!ended.stderr().contains("warning"), "{ended}");
    assert!(ended.stderr().contains(note), "{ended}");
    ended.json()
}

#[tokio::test]
async fn the_unit_starts_the_program_with_a_configuration_that_it_takes() {
    let unit = text("callpark.service");
    let start = setting(&unit, "ExecStart").expect("a command");
    assert_eq!(start, "/usr/local/bin/callpark serve --config /etc/callpark/callpark.toml");
    let site = Site::new();
    let file = site.write("callpark.toml", &text("callpark.toml")).display().to_string();
    let config = check_settings(site.run(&["config", "--json", "--config", &file]).await, &file);
    // The folders that the unit makes.
    let config = config.to_string();
    for (key, folder) in [("StateDirectory", "/var/lib/"), ("RuntimeDirectory", "/run/")] {
        let name = setting(&unit, key).expect("a folder");
        assert!(config.contains(&format!("{folder}{name}/")), "{config}");
    }
}

#[test]
fn the_unit_ends_nothing_but_the_server() {
    let unit = text("callpark.service");
    for (key, value) in [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("KillMode", "process"),
        ("ExitType", "main"),
        ("OOMPolicy", "continue"),
        ("ManagedOOMPreference", "avoid"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "78"),
    ] {
        assert_eq!(setting(&unit, key).as_deref(), Some(value), "{key}");
    }
    // With these a stop takes away what runs need, or a restart gives the server another view.
    let harmful = ["DynamicUser", "PrivateTmp", "PrivatePIDs", "PrivateUsers", "RemoveIPC"];
    for key in harmful.into_iter().chain(["RuntimeMaxSec", "ProtectProc", "ProcSubset"]) {
        assert_eq!(setting(&unit, key), None, "{key}");
    }
}

#[tokio::test]
async fn unit_and_container_wait_longer_than_the_server_takes() {
    let site = Site::new();
    let rows = site.run(&["config", "--json"]).await.exits(0).json();
    let rows = rows.as_array().expect("settings");
    let drain = rows.iter().find(|row| row["name"] == "drain").expect("a setting");
    assert_eq!(drain["value"], "20s");
    // As long as the server itself says: `drain`, and the time for its processes.
    let (compose, unit) = (text("compose.yaml"), text("callpark.service"));
    assert_eq!(setting(&unit, "TimeoutStopSec").as_deref(), Some("45s"));
    assert!(compose.contains("stop_grace_period: 45s"));
}

#[tokio::test]
async fn the_variables_of_the_container_are_settings() {
    let site = Site::new();
    let mut command = site.command(&["config", "--json"]);
    command.envs(image_variables());
    // An address beyond the machine needs TLS, unless somebody says otherwise.
    let refused = run(command).await.exits(78);
    assert!(refused.stderr().contains("tls-cert"), "{refused}");
    let mut command = site.command(&["config", "--json"]);
    command.envs(image_variables()).envs(compose_variables());
    let ended = run(command).await.exits(0);
    let warnings: Vec<_> = ended.stderr().lines().filter(|l| l.contains("warning")).collect();
    assert!(matches!(warnings[..], [one] if one.contains("without encryption")), "{ended}");
    let config = ended.json().to_string();
    assert!(config.contains("/var/lib/callpark"), "{config}");
}

#[tokio::test]
async fn the_commands_of_the_container_find_its_server() {
    let [health, serve] = &commands("CMD ")[..] else { panic!("two commands") };
    assert_eq!(commands("ENTRYPOINT "), [["callpark"]]);
    assert_eq!(health[0], "callpark");
    let site = Site::new();
    let folder = site.folder().display().to_string();
    let here = |value: String| {
        let value = value.replace("/var/lib", &folder).replace("/run/callpark", &folder);
        value.replace(":50051", ":0")
    };
    let variables = image_variables().into_iter().chain(compose_variables());
    let variables: Vec<_> = variables.map(|(key, value)| (key, here(value))).collect();
    let command = |words: &[String]| {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let mut command = site.command(&words);
        command.envs(variables.iter().cloned());
        command
    };
    let live = Live::start(command(serve));
    let data = site.folder().join("callpark");
    let server = Program::started(live, site.home(), &data).await;
    assert_eq!(run(command(&health[1..])).await.exits(0).line(), "serving");
    let words = ["run", "bash", "echo hello"].map(str::to_owned);
    assert_eq!(run(command(&words)).await.exits(0).line(), "hello");
    let (ended, _) = server.terminate().await;
    ended.exits(0);
    run(command(&health[1..])).await.exits(69);
}
