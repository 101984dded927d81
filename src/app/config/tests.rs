use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::model::limits;

/// An environment with a home folder that does not exist, and these variables.
fn environment(variables: &[(&str, &str)]) -> Environment {
    [("HOME", "/nowhere")].into_iter().chain(variables.iter().copied()).collect()
}

fn options(flags: &[(&str, &str)], variables: &[(&str, &str)]) -> LoadOptions {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    LoadOptions {
        config_file: None,
        overrides: flags.iter().map(owned).collect(),
        environment: environment(variables),
    }
}

fn load(flags: &[(&str, &str)], variables: &[(&str, &str)]) -> Loaded {
    Config::load(options(flags, variables)).expect("a configuration")
}

fn error(flags: &[(&str, &str)], variables: &[(&str, &str)]) -> String {
    Config::load(options(flags, variables)).expect_err("an error").to_string()
}

/// A folder with this text as its `callpark.toml`.
struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn file(text: &str) -> File {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("callpark.toml");
    std::fs::write(&path, text).expect("written");
    File { _folder: folder, path }
}

impl File {
    fn options(&self) -> LoadOptions {
        LoadOptions { config_file: Some(self.path.clone()), ..options(&[], &[]) }
    }

    fn error(&self) -> String {
        Config::load(self.options()).expect_err("an error").to_string()
    }
}

fn row<'a>(loaded: &'a Loaded, name: &str) -> (&'a str, String) {
    let row = loaded.rows.iter().find(|row| row.name == name).expect("a row");
    (&row.value, row.origin.to_string())
}

#[test]
fn defaults_are_those_of_the_limits() {
    let Loaded { config, .. } = load(&[], &[]);
    assert_eq!(config.data_dir.as_deref(), Some(Path::new("/nowhere/.local/state/callpark")));
    let token_file = Path::new("/nowhere/.local/state/callpark/token");
    assert_eq!(config.token_file.as_deref(), Some(token_file));
    assert_eq!(config.call_budget.as_secs(), limits::CALL_BUDGET_SECONDS_DEFAULT);
    assert_eq!(config.execution_timeout.as_secs(), limits::EXECUTION_TIMEOUT_SECONDS_DEFAULT);
    assert_eq!(config.grace, Duration::from_millis(limits::GRACE_MS_DEFAULT));
    assert_eq!(config.output_drain, Duration::from_millis(limits::DRAIN_MS_DEFAULT));
    assert_eq!(config.max_live_tasks, limits::LIVE_TASKS_DEFAULT);
    let running = config.max_running_calls.expect("a number");
    assert_eq!(running % limits::RUNNING_CALLS_PER_CORE, 0);
    assert_eq!(config.heartbeat, Duration::from_millis(limits::HEARTBEAT_MS_DEFAULT));
    assert_eq!(config.retention.as_secs(), limits::RETENTION_SECONDS_DEFAULT);
    assert_eq!(config.session_events_max, limits::SESSION_EVENTS_MAX_DEFAULT);
    assert_eq!(config.sweep_interval, Duration::from_millis(limits::SWEEP_MS_DEFAULT));
}

#[test]
fn a_program_has_the_defaults_of_the_command_line() {
    let Loaded { config: loaded, .. } = load(&[], &[]);
    let mut config = Config::default();
    let (derived, errors) = config.derive(&environment(&[]));
    assert_eq!((derived.len(), errors), (4, vec![]));
    assert_eq!(config, loaded);
    assert_eq!(config.check(), Ok(()));
}

#[test]
fn a_configuration_of_a_program_is_checked_like_one_that_is_read() {
    let tool = crate::tool::CommandToolConfig { argv: Vec::new(), ..tool_config() };
    let config = Config {
        listen: Vec::new(),
        grace: Duration::from_secs(3600),
        max_running_calls: Some(0),
        tools: vec![tool],
        ..Config::default()
    };
    let error = config.check().expect_err("errors").to_string();
    for expected in [
        "the configuration has 4 errors:",
        "grace = `1h`: it must be from 0s to 1m",
        "max-running-calls = `0`: it must be from 1 to 1000000",
        "tools = `a`: tool `a`: argv must begin with the program to run",
        "listen names no address",
    ] {
        assert!(error.contains(expected), "no `{expected}` in:\n{error}");
    }
}

fn tool_config() -> crate::tool::CommandToolConfig {
    toml::from_str("name = 'a'\nargv = ['true']").expect("a tool")
}

/// Returns the reference of all settings, as it stands in the documents.
fn reference() -> String {
    let mut text =
        "# Settings\n\nA setting such as `data_dir` is a key of the configuration file, the \
                    flag `--data-dir` and the variable\n`CALLPARK_DATA_DIR`. A flag wins over a \
                    variable, and a variable over the file. `callpark config` shows\nthe values in \
                    force and their sources.\n"
            .to_owned();
    let mut group = "";
    for setting in settings() {
        if setting.group != group {
            group = setting.group;
            text.push_str(&format!("\n## {group}\n\n"));
        }
        let values = match (setting.choices, &setting.bounds) {
            (_, Some([least, greatest])) => format!(", from `{least}` to `{greatest}`"),
            ([], None) => String::new(),
            (choices, None) => format!(", one of `{}`", choices.join("`, `")),
        };
        let Setting { key, help, default, .. } = setting;
        text.push_str(&format!("- `{key}`: {help} Default: `{default}`{values}.\n"));
    }
    text
}

#[test]
fn the_reference_of_settings_is_made_from_their_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    if Environment::capture().get("CALLPARK_UPDATE_DOCS").is_some() {
        std::fs::write(&path, reference()).expect("written");
    }
    let documented = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(documented == reference(), "set CALLPARK_UPDATE_DOCS=1 to write {}", path.display());
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let file = file("drain = \"1s\"\ngrace = \"1s\"\nheartbeat = \"1s\"\n");
    let loaded = Config::load(LoadOptions {
        config_file: Some(file.path.clone()),
        ..options(
            &[("drain", "3s")],
            &[("CALLPARK_DRAIN", "2s"), ("CALLPARK_GRACE", "2s"), ("CALLPARK_STREAM_AGE", "")],
        )
    })
    .expect("a configuration");
    assert_eq!(row(&loaded, "drain"), ("3s", "flag --drain".to_owned()));
    assert_eq!(row(&loaded, "grace"), ("2s", "environment CALLPARK_GRACE".to_owned()));
    assert_eq!(row(&loaded, "heartbeat"), ("1s", format!("file {}:3", file.path.display())));
    assert_eq!(row(&loaded, "stream_age"), ("1h", "default".to_owned()));
    assert_eq!(loaded.config.drain, Duration::from_secs(3));
    assert_eq!(loaded.file.as_deref(), Some(file.path.as_path()));
}

#[test]
fn printed_values_parse_to_the_same_value() {
    let first = load(&[], &[]);
    let names: Vec<_> = first.rows.iter().map(|row| row.name.replace('_', "-")).collect();
    let values = first.rows.iter().map(|row| row.value.as_str());
    let flags: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
    let again = load(&flags, &[]);
    assert_eq!(first.rows.len(), settings().len());
    assert!(
        first.rows.iter().zip(&again.rows).all(|(a, b)| a.name == b.name && a.value == b.value)
    );
    assert!(again.rows.iter().all(|row| matches!(row.origin, Origin::Flag(_))));
}

#[test]
fn rows_are_json_for_programs() {
    let loaded = load(&[("listen", "127.0.0.1:0,[::1]:0")], &[]);
    let json = serde_json::to_value(&loaded.rows[0]).expect("JSON");
    let expected = serde_json::json!({
        "name": "listen", "value": "127.0.0.1:0,[::1]:0", "origin": "flag --listen",
    });
    assert_eq!(json, expected);
}

#[test]
fn values_of_the_file_may_be_numbers_booleans_and_lists() {
    let file = file(
        "listen = ['127.0.0.1:1', '[::1]:2']\nmax_connections = 1_000\nmax_request = 0x100000\n\
         allow_remote_plaintext = true\n",
    );
    let config = Config::load(file.options()).expect("a configuration").config;
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.max_connections, 1_000);
    assert_eq!(config.max_request, ByteSize::new(1 << 20));
    assert!(config.allow_remote_plaintext);
}

#[test]
fn all_errors_are_reported_at_once_with_their_positions() {
    let file = file("drain = \"soon\"\n  data-dir = \"/x\"\nmax_live_tasks = 5000\n");
    let error = Config::load(LoadOptions {
        config_file: Some(file.path.clone()),
        ..options(&[("auth", "maybe"), ("gracee", "1s")], &[("CALLPARK_MAX_REQUEST", "big")])
    })
    .expect_err("errors")
    .to_string();
    let path = file.path.display();
    for expected in [
        "the configuration has 6 errors:".to_owned(),
        format!("drain = `soon` (file {path}:1): a duration such as 500ms"),
        format!("{path}:2:3: there is no setting `data-dir`; did you mean `data_dir`?"),
        format!("max_live_tasks = `5000` (file {path}:3): it must be from 1 to 1000"),
        "auth = `maybe` (flag --auth): one of token, none is expected".to_owned(),
        "flag --gracee: there is no setting `gracee`; did you mean `grace`?".to_owned(),
        "max-request = `big` (environment CALLPARK_MAX_REQUEST): a size".to_owned(),
    ] {
        assert!(error.contains(&expected), "no `{expected}` in:\n{error}");
    }
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_line_and_column() {
    let file = file("drain = \"1s\"\ngrace = = \"1s\"\n");
    let error = file.error();
    assert!(error.contains(&format!("{}:2:9: ", file.path.display())), "{error}");
}

#[test]
fn a_file_that_was_named_must_exist() {
    let missing = [("CALLPARK_CONFIG", "/nowhere/callpark.toml")];
    let error = error(&[], &missing);
    assert!(error.contains("cannot read the configuration file /nowhere/callpark.toml"), "{error}");
}

#[test]
fn the_file_of_the_user_is_read_where_xdg_says() {
    let home = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(home.path().join("callpark")).expect("made");
    std::fs::write(home.path().join("callpark/callpark.toml"), "drain = '7s'").expect("written");
    let xdg = home.path().to_str().expect("UTF-8");
    assert_eq!(load(&[], &[("XDG_CONFIG_HOME", xdg)]).config.drain, Duration::from_secs(7));
}

#[test]
fn the_errors_of_tools_are_reported_with_their_positions_and_all_others() {
    let good = "[[tools]]\nname = 'a'\nargv = ['true']\ninput_schema = { type = 'object' }\n";
    let names = |file: &File| {
        let config = Config::load(file.options()).expect("a configuration").config;
        config.tools.into_iter().map(|tool| tool.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&file(good)), ["a"]);
    let file = file(&format!("drain = 'soon'\n{good}[[tools]]\nname = 'b'\ncolour = 1\n"));
    let error = file.error();
    let path = file.path.display();
    let place =
        format!("tools = `b` (file {path}:8): there is no key `colour`; its keys are `name`, ");
    assert!(error.contains(&place), "{error}");
    assert!(error.contains("drain = `soon`"), "{error}");
}

#[test]
fn a_misspelt_key_of_a_table_is_reported_with_its_line_and_the_nearest_key() {
    let file = file(
        "[[tools]]\nname = 'a'\nargv = ['true']\n\n[[tools]]\nname = 'b'\nargv = ['true']\n  \
         descripton = 'x'\n\n[[tools]]\nname = 'c'\nargv = 'true'\n",
    );
    let (error, path) = (file.error(), file.path.display());
    for expected in [
        format!(
            "tools = `b` (file {path}:8): there is no key `descripton`; did you mean `description`?"
        ),
        format!("tools = `c` (file {path}:12): invalid type: string"),
    ] {
        assert!(error.contains(&expected), "no `{expected}` in:\n{error}");
    }
}

#[test]
fn tools_that_are_no_tables_are_refused() {
    let error = file("tools = ['bash']\n").error();
    assert!(error.contains("begin it with a line `[[tools]]`"), "{error}");
}

#[test]
fn a_misspelt_variable_is_a_warning_and_known_ones_are_not() {
    let known = [("CALLPARK_CALL_ID", "call-1"), ("CALLPARK_TOKEN", "x")];
    assert!(load(&[], &known).warnings.is_empty());
    let warnings = load(&[], &[("CALLPARK_LISTN", "x")]).warnings;
    assert_eq!(
        warnings,
        ["the environment variable CALLPARK_LISTN is not a setting and is ignored; did you mean \
          CALLPARK_LISTEN?"]
    );
}

#[test]
fn plain_text_beyond_loopback_is_refused_with_the_ways_out() {
    let error = error(&[("listen", "127.0.0.1:1,0.0.0.0:2")], &[]);
    for way in ["`0.0.0.0:2`", "tls-cert and tls-key", "127.0.0.1:50051", "allow-remote-plaintext"]
    {
        assert!(error.contains(way), "no {way} in: {error}");
    }
    let loaded = load(&[("listen", "0.0.0.0:2"), ("allow-remote-plaintext", "true")], &[]);
    assert!(loaded.warnings[0].contains("without encryption"), "{:?}", loaded.warnings);
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("tls-cert", "c.pem")], "tls-cert needs tls-key"),
        (&[("tls-key", "k.pem")], "tls-key needs tls-cert"),
        (&[("tls-client-ca", "ca.pem")], "tls-client-ca needs"),
        (&[("listen", "")], "listen names no address"),
        (&[("listen", "127.0.0.1:1"), ("admin-listen", "127.0.0.1:1")], "is named twice"),
        (&[("heartbeat", "1h"), ("stream-age", "1h")], "heartbeat must be shorter"),
        (
            &[("auth", "none"), ("listen", "0.0.0.0:1"), ("allow-remote-plaintext", "true")],
            "auth = `none` lets everybody",
        ),
    ];
    for (flags, expected) in cases {
        let error = error(flags, &[]);
        assert!(error.contains(expected), "no `{expected}` in: {error}");
    }
    load(&[("auth", "none")], &[]);
    load(&[("listen", "127.0.0.1:0,127.0.0.1:0")], &[]);
}

#[test]
fn a_conflict_is_reported_beside_other_errors_but_not_for_a_setting_with_an_error() {
    let error = error(&[("listen", "0.0.0.0:1"), ("drain", "x"), ("heartbeat", "2s")], &[]);
    assert!(error.contains("2 errors") && error.contains("is beyond this machine"), "{error}");
    let flags = [("tls-cert", "c.pem"), ("tls-key", "~/k.pem")];
    let error = self::error(&flags, &[]);
    assert!(error.contains("an error: tls-key = `~/k.pem`"), "{error}");
}

#[test]
fn without_a_home_the_data_dir_must_be_named() {
    let bare = || LoadOptions { environment: Environment::default(), ..options(&[], &[]) };
    let error = Config::load(bare()).expect_err("no home").to_string();
    assert!(error.contains("data-dir") && error.contains("name a folder"), "{error}");
    let overrides = vec![("data-dir".to_owned(), "/data".to_owned())];
    let loaded = Config::load(LoadOptions { overrides, ..bare() }).expect("a configuration");
    assert_eq!(loaded.config.token_file.as_deref(), Some(Path::new("/data/token")));
}

#[test]
fn every_setting_has_the_fields_that_help_needs() {
    for setting in settings() {
        assert!(setting.help.ends_with('.') && !setting.value_name.is_empty(), "{}", setting.name);
        let switches = ["allow-remote-plaintext", "socket-user-auth", "stop-runs"];
        assert_eq!(setting.is_switch, switches.contains(&setting.name.as_str()));
        assert!(setting.variable.starts_with("CALLPARK_") && !setting.variable.contains('-'));
    }
    let auth = settings().iter().find(|setting| setting.name == "auth").expect("a setting");
    assert_eq!(auth.choices, ["token", "none"]);
}

#[test]
fn tools_never_see_the_variables_of_callpark_and_of_the_service_manager() {
    let environment = environment(&[
        ("PATH", "/bin"),
        ("CALLPARK_TOKEN", "s3cret"),
        ("NOTIFY_SOCKET", "/run/systemd/notify"),
        ("WATCHDOG_PID", "1"),
        ("WATCHDOG_USEC", "1"),
    ]);
    let seen = environment.for_tools();
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["HOME", "PATH"]);
    assert!(!format!("{environment:?}").contains("s3cret"));
}
