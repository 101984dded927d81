//! `callpark keys` and `callpark whoami`.

use crate::support::program::{Program, Site, run};

/// Runs a command against a server with a key instead of the token.
async fn with_key(
    server: &Program,
    key: &str,
    arguments: &[&str],
) -> crate::support::program::Ended {
    let mut command = server.command(arguments);
    command.env("CALLPARK_TOKEN", key);
    run(command).await
}

#[tokio::test]
async fn a_key_is_made_used_and_revoked_while_the_server_runs() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let create = ["keys", "create", "--tenant", "acme", "--name", "shop", "--expires-in", "90d"];
    let created = site.run(&create).await.exits(0);
    let key = created.line();
    let id = &key[..16];
    assert!(created.stderr().contains(id) && !created.stderr().contains(key), "{created}");
    let who = loop {
        // The server looks at the file once a second.
        let who = with_key(&server, key, &["whoami"]).await;
        if who.code() == 0 {
            break who.stdout().to_owned();
        }
        assert_eq!(who.code(), 77, "{who}");
    };
    let words: Vec<&str> = who.split_ascii_whitespace().collect();
    let expected = ["tenant", "acme", "name", "shop", "key", id, "scopes"];
    assert_eq!(words[..7], expected, "{who}");
    assert!(who.contains("read, run, cancel, follow_up\n") && who.contains("in 89d23h"), "{who}");
    assert_eq!(with_key(&server, key, &["run", "bash", "echo hi"]).await.exits(0).line(), "hi");
    let sessions = ["sessions", "--json"];
    let own = with_key(&server, key, &sessions).await.exits(0).json();
    assert_eq!(own["sessions"].as_array().map(Vec::len), Some(1), "{own}");
    // The callers with the token are another tenant.
    let others = server.cli(&sessions).await.exits(0).json();
    assert_eq!(others["sessions"].as_array().map(Vec::len), Some(0), "{others}");
    assert!(site.run(&["keys", "revoke", id]).await.exits(0).stderr().contains("is revoked"));
    let refused = loop {
        let refused = with_key(&server, key, &["whoami"]).await;
        if refused.code() != 0 {
            break refused.exits(77);
        }
    };
    assert!(refused.stderr().contains("these credentials were revoked"), "{refused}");
    let again = site.run(&["keys", "revoke", key]).await.exits(0);
    assert!(again.stderr().contains("was revoked before"), "{again}");
    let list = site.run(&["keys", "list", "--json"]).await.exits(0).json();
    let shown = &list["keys"][0];
    assert_eq!((shown["id"].as_str(), shown["state"].as_str()), (Some(id), Some("revoked")));
    assert!(!site.run(&["keys", "list"]).await.exits(0).stdout().contains(key));
}

#[tokio::test]
async fn a_key_may_do_what_its_scopes_say() {
    let site = Site::new();
    let create = ["keys", "create", "--tenant", "acme", "--name", "dashboard", "--scopes", "read"];
    let created = site.run(&create).await.exits(0);
    let (key, server) = (created.line(), site.serve(&[]).await);
    with_key(&server, key, &["list"]).await.exits(0);
    let refused = with_key(&server, key, &["run", "bash", "true"]).await.exits(77);
    assert!(refused.stderr().contains("requires the scope `run`"), "{refused}");
}

#[tokio::test]
async fn what_makes_no_key_is_said_plainly() {
    let site = Site::new();
    for (arguments, code, says) in [
        (["--tenant", "a b", "--name", "x"].as_slice(), 2, "the tenant must have"),
        (&["--tenant", "a", "--name", "x", "--scopes", "fly"], 2, "there is no scope `fly`"),
        (&["--tenant", "a", "--name", "x", "--expires-in", "0s"], 2, "must be more than 0"),
        (&["--tenant", "a", "--name", "x", "--expires-in", "1000y"], 2, "at most 100 years"),
    ] {
        let refused = site.run(&[&["keys", "create"], arguments].concat()).await.exits(code);
        assert!(refused.stderr().contains(says), "{refused}");
    }
    let none = site.run(&["keys", "list"]).await.exits(0);
    assert!(none.stderr().contains("there are no keys"), "{none}");
    let secret = "0123456789abcdef0123456789abcdef";
    let wrong = site.run(&["keys", "revoke", secret]).await.exits(2);
    assert!(!wrong.stderr().contains(secret) && wrong.stderr().contains("is not the id of a key"));
    let unknown = site.run(&["keys", "revoke", "cpk_000000000000"]).await.exits(66);
    assert!(unknown.stderr().contains("there is no key cpk_000000000000"), "{unknown}");
}
