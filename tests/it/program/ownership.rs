//! Files and folders that others could use: the server refuses them, and says what mends that.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use crate::support::program::{Live, Site};

/// A user other than that of the server.
const OTHER_USER: u32 = 65_534;
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions");
}

/// Returns the one line with which a start is refused.
async fn refusal(site: &Site, flags: &[&str]) -> String {
    let ended = site.run(&[&["serve"], flags].concat()).await.exits(78);
    let line = ended.stderr().strip_prefix("error: the server cannot start: ");
    let line = line.and_then(|rest| rest.strip_suffix('\n')).filter(|line| !line.contains('\n'));
    line.unwrap_or_else(|| panic!("not one line: {ended}")).to_owned()
}

/// Returns the first command that a message advises.
#[track_caller]
fn advised(line: &str) -> &str {
    let command = line.split('`').nth(1);
    command.unwrap_or_else(|| panic!("no command: {line}"))
}

/// Checks that a start is refused with a line about a path, and succeeds after the command in it.
async fn check_mended(site: &Site, flags: &[&str], path: &Path, words: &str) {
    let line = refusal(site, flags).await;
    assert!(line.contains(&path.display().to_string()) && line.contains(words), "{line}");
    let mended = Command::new("sh").args(["-c", advised(&line)]).status().expect("a command");
    assert!(mended.success(), "{line}");
    let mut live = Live::start(site.command(&[&["serve"], flags].concat()));
    assert!(live.stderr.started().await, "{line}: {}", live.stderr.now());
}

#[tokio::test]
async fn a_data_folder_that_others_can_change_is_refused() {
    let site = Site::new();
    // The command has to hold for such a name, too.
    let data = site.folder().join("it's data");
    std::fs::create_dir(&data).expect("a folder");
    set_mode(&data, 0o777);
    let flags = ["--listen", "127.0.0.1:0", "--data-dir", &data.display().to_string()];
    check_mended(&site, &flags, &data, "mode 0777").await;
}

#[tokio::test]
async fn a_token_that_others_can_read_is_refused() {
    let site = Site::new();
    let token = site.write("token", TOKEN);
    set_mode(&token, 0o644);
    let flags = ["--listen", "127.0.0.1:0", "--token-file", &token.display().to_string()];
    check_mended(&site, &flags, &token, "mode 0644").await;
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused() {
    let site = Site::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let certificate = site.write("server.pem", &made.cert.pem()).display().to_string();
    let key = site.write("server.key", &made.signing_key.serialize_pem());
    set_mode(&key, 0o644);
    let name = key.display().to_string();
    let flags = ["--listen", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &name];
    check_mended(&site, &flags, &key, "mode 0644").await;
}

#[tokio::test]
async fn a_socket_that_others_could_replace_is_refused() {
    let site = Site::new();
    let folder = site.folder().join("run");
    std::fs::create_dir(&folder).expect("a folder");
    set_mode(&folder, 0o777);
    let listen = format!("unix:{}", folder.join("socket").display());
    check_mended(&site, &["--listen", &listen], &folder, "mode 0777").await;
}

#[tokio::test]
async fn what_belongs_to_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not checked: only root can give files to another user");
        return;
    }
    let site = Site::new();
    let token = site.write("token", TOKEN);
    set_mode(&token, 0o600);
    let data = site.folder().join("data");
    std::fs::create_dir(&data).expect("a folder");
    let flags = ["--listen", "127.0.0.1:0", "--data-dir", &data.display().to_string()];
    let name = token.display().to_string();
    for (path, more) in [(&data, &[][..]), (&token, &["--token-file", &name])] {
        chown(path, Some(OTHER_USER), None).expect("an owner");
        let flags = [&flags[..], more].concat();
        check_mended(&site, &flags, path, "belongs to user 65534").await;
    }
}
