//! Completions, as bash asks for them.

use super::start;
use crate::support::program::{PROGRAM, Program, Site, run};

/// The proposals of bash at the end of a line.
async fn proposed(site: &Site, endpoint: &str, line: &str) -> Vec<String> {
    let script = site.run(&["completions", "bash"]).await.exits(0).stdout().to_owned();
    let file = site.write("completions", &script).display().to_string();
    let command = "source \"$0\" && complete -p callpark >/dev/null && COMP_WORDS=($1 \"$2\") \
                   && COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) \
                   && _clap_complete_callpark callpark \"$2\" \
                   && printf '%s\\n' \"${COMPREPLY[@]}\"";
    let (words, last) = line.rsplit_once(' ').expect("words");
    let mut bash = site.other("bash", &["-c", command, &file, words, last]);
    bash.env("CALLPARK_ENDPOINT", endpoint);
    let ended = run(bash).await.exits(0);
    assert_eq!(ended.stderr(), "");
    ended.stdout().lines().map(|line| line.trim_end().to_owned()).collect()
}

async fn of(site: &Site, server: &Program, line: &str) -> Vec<String> {
    proposed(site, &server.endpoint, line).await
}

#[tokio::test]
async fn the_script_names_the_program_that_wrote_it() {
    let site = Site::new();
    let script = site.run(&["completions", "bash"]).await.exits(0).stdout().to_owned();
    assert!(script.contains(PROGRAM), "{script}");
    for shell in ["elvish", "fish", "powershell", "zsh"] {
        let script = site.run(&["completions", shell]).await.exits(0).stdout().to_owned();
        assert!(script.contains("callpark"), "{shell}: {script}");
    }
}

#[tokio::test]
async fn commands_tools_ids_and_states_are_proposed() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let id = start(&server, "sleep 60").await;
    assert_eq!(of(&site, &server, "callpark li").await, ["list"]);
    assert_eq!(of(&site, &server, "callpark run ba").await, ["bash"]);
    assert_eq!(of(&site, &server, "callpark wait bg-").await, [id.as_str()]);
    assert_eq!(of(&site, &server, "callpark list --state ti").await, ["timed_out"]);
    assert_eq!(of(&site, &server, "callpark list --state c").await, ["cancelling", "cancelled"]);
    let sessions = of(&site, &server, "callpark close ses-").await;
    assert!(sessions.len() == 1 && sessions[0].starts_with("ses-"), "{sessions:?}");
    // The line says which server to ask.
    let line = format!("callpark --endpoint {} wait bg-", server.endpoint);
    assert_eq!(proposed(&site, "http://127.0.0.1:9", &line).await, [id.as_str()]);
}

#[tokio::test]
async fn without_a_server_nothing_is_said() {
    let site = Site::new();
    let none = proposed(&site, "http://127.0.0.1:9", "callpark wait bg-").await;
    assert!(none.iter().all(String::is_empty), "{none:?}");
}
