//! Files of keys, as programs and people leave them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::*;
use crate::auth::{AuthError, Credentials, Verifier as _};
use crate::model::{Scope, Scopes, Timestamp};

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn options(tenant: &str) -> KeyOptions {
    KeyOptions {
        tenant: tenant.into(),
        name: "ci".into(),
        scopes: [Scope::Read, Scope::Run].into_iter().collect(),
        create_time: NOW,
        expire_time: None,
    }
}

fn key_file() -> (tempfile::TempDir, KeyFile) {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile::new(folder.path().join("state/keys"));
    (folder, file)
}

fn verify(verifier: &KeyVerifier, text: &str) -> Option<Result<String, AuthError>> {
    let authorization = format!("Bearer {text}");
    let authorization = Some(&*authorization);
    let credentials = Credentials { authorization, time: NOW, ..Credentials::default() };
    let verified = verifier.verify(&credentials)?;
    Some(verified.map(|caller| caller.principal.tenant.to_string()))
}

#[test]
fn a_key_is_kept_as_a_hash_in_a_private_file() {
    let (folder, file) = key_file();
    assert!(file.read().unwrap().records.is_empty(), "there is no file");
    let end = NOW.saturating_add(Duration::from_secs(60));
    let new = file.create(KeyOptions { expire_time: Some(end), ..options("acme") }).unwrap();
    let list = file.read().unwrap();
    let [record] = list.records.as_slice() else { panic!("{list:?}") };
    assert_eq!((&record.id, record.tenant.as_str(), &*record.name), (&new.record.id, "acme", "ci"));
    assert_eq!((record.create_time, record.expire_time), (NOW, Some(end)));
    assert_eq!(record.scopes.to_string(), "read, run");
    assert_eq!((record.state(NOW), record.state(end)), (KeyState::Active, KeyState::Expired));
    let text = fs::read_to_string(file.path()).unwrap();
    let secret = &new.text.expose_secret()[new.record.id.as_str().len()..];
    assert!(!text.contains(secret), "the secret is in the file");
    assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    let left = fs::read_dir(folder.path().join("state")).unwrap().count();
    assert_eq!(left, 2, "a file and its lock");
}

#[test]
fn a_revoked_key_stays_in_the_file() {
    let (_folder, file) = key_file();
    let [first, second] = ["one", "two"].map(|tenant| file.create(options(tenant)).unwrap());
    assert!(file.revoke(&first.record.id, NOW).unwrap());
    let later = NOW.saturating_add(Duration::from_secs(1));
    assert!(!file.revoke(&first.record.id, later).unwrap(), "it was revoked before");
    let list = file.read().unwrap();
    assert_eq!(list.records[0].revoke_time, Some(NOW));
    assert_eq!(list.records[0].state(NOW), KeyState::Revoked);
    assert_eq!((&list.records[1].id, list.records[1].revoke_time), (&second.record.id, None));
    let unknown = "cpk_000000000000".parse().unwrap();
    let error = file.revoke(&unknown, NOW).unwrap_err();
    assert!(matches!(error, KeyFileError::Unknown { .. }), "{error}");
}

#[test]
fn programs_that_create_keys_together_lose_none() {
    let (_folder, file) = key_file();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..8).for_each(|_| drop(file.create(options("acme")).unwrap())));
        }
    });
    assert_eq!(file.read().unwrap().records.len(), 64);
}

#[test]
fn a_line_that_is_no_key_admits_nobody_and_takes_no_other_along() {
    let (_folder, file) = key_file();
    let good = file.create(options("acme")).unwrap();
    let line = fs::read_to_string(file.path()).unwrap();
    let odd = [
        "not JSON".to_owned(),
        "{}".to_owned(),
        line.replace("\"run\"", "\"fly\"").trim().to_owned(),
        line.replace("acme", "").trim().to_owned(),
        line.replace("cpk_", "").trim().to_owned(),
        line.replace("\"sha256\":\"", "\"sha256\":\"?").trim().to_owned(),
        // A restriction, perhaps, of a later version.
        line.replace("\"id\"", "\"addresses\":[],\"id\"").trim().to_owned(),
        "\u{fffd}".to_owned(),
    ];
    fs::write(file.path(), format!("{}\n\n{line}", odd.join("\n"))).unwrap();
    let list = file.read().unwrap();
    assert_eq!(list.records.len(), 1);
    let lines: Vec<usize> = list.unreadable.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7, 8], "{list:?}");
    assert!(list.unreadable[2].1.contains("there is no scope `fly`"), "{list:?}");
    let verifier = KeyVerifier::open(file.clone()).unwrap();
    let verified = verify(&verifier, good.text.expose_secret());
    assert_eq!(verified, Some(Ok("acme".to_owned())));
    // They stay, when the file is changed, and one that has this id is revoked, too.
    file.revoke(&good.record.id, NOW).unwrap();
    let text = fs::read_to_string(file.path()).unwrap();
    assert!(text.starts_with("not JSON\n{}\n") && text.contains("\"addresses\":[]"), "{text}");
    assert_eq!(text.matches("revoke_time").count(), 5, "{text}");
}

#[test]
fn of_a_key_that_is_there_twice_the_earlier_end_counts() {
    let (_folder, file) = key_file();
    let key = file.create(options("acme")).unwrap();
    let valid = fs::read_to_string(file.path()).unwrap();
    file.revoke(&key.record.id, NOW).unwrap();
    let revoked = fs::read_to_string(file.path()).unwrap();
    for text in [format!("{valid}{revoked}"), format!("{revoked}{valid}")] {
        fs::write(file.path(), text).unwrap();
        let list = file.read().unwrap();
        assert_eq!((list.records.len(), list.records[0].state(NOW)), (1, KeyState::Revoked));
        assert!(list.unreadable[0].1.ends_with("is there twice"), "{list:?}");
    }
}

#[test]
fn a_file_behind_a_link_is_changed_in_its_place_and_keeps_its_permissions() {
    let (folder, file) = key_file();
    let key = file.create(options("acme")).unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(file.path(), &link).unwrap();
    KeyFile::new(&link).revoke(&key.record.id, NOW).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(file.read().unwrap().records[0].revoke_time, Some(NOW));
    assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn what_is_no_file_blocks_nobody() {
    let (folder, _) = key_file();
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    for path in [&pipe, folder.path()] {
        let error = KeyFile::new(path).read().unwrap_err().to_string();
        assert!(error.contains("it is not a regular file"), "{error}");
    }
}

#[test]
fn properties_that_would_be_of_no_use_are_refused() {
    let (_folder, file) = key_file();
    let long = "x".repeat(65);
    for tenant in ["", "two words", "ü", "a\nb", &long] {
        let error = file.create(options(tenant)).err().unwrap().to_string();
        assert!(error.starts_with("the tenant must have 1 to 64 characters"), "{error}");
    }
    let none = KeyOptions { scopes: Scopes::default(), ..options("acme") };
    assert!(matches!(file.create(none), Err(KeyFileError::Invalid(_))));
    let never = Timestamp::from_micros(i64::MAX);
    let beyond = KeyOptions { expire_time: Some(never), ..options("acme") };
    assert!(matches!(file.create(beyond), Err(KeyFileError::Invalid(_))));
    assert!(!file.path().exists(), "something was written");
}

#[test]
fn a_file_that_others_could_change_is_refused() {
    let (_folder, file) = key_file();
    file.create(options("acme")).unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o620)).unwrap();
    let error = file.read().unwrap_err();
    assert!(matches!(error, KeyFileError::Ownership(_)), "{error:?}");
    assert!(KeyVerifier::open(file.clone()).is_err());
    assert_eq!(file.list().unwrap().records.len(), 1, "a person sees them");
}

#[test]
fn keys_and_nothing_else_are_for_this_verifier() {
    let (_folder, file) = key_file();
    let key = file.create(options("acme")).unwrap();
    let verifier = KeyVerifier::open(file).unwrap();
    let text = key.text.expose_secret();
    assert_eq!(verify(&verifier, text), Some(Ok("acme".to_owned())));
    for wrong in [&text[..text.len() - 1], &format!("{text}0"), key.record.id.as_str(), "cpk_"] {
        assert_eq!(verify(&verifier, wrong), Some(Err(AuthError::Invalid)), "{wrong}");
    }
    for other in ["", "token", &text.to_uppercase()] {
        assert_eq!(verify(&verifier, other), None, "{other}");
    }
}

#[tokio::test]
async fn the_last_use_of_a_key_is_written_down() {
    let (_folder, file) = key_file();
    let [used, unused] = ["one", "two"].map(|tenant| file.create(options(tenant)).unwrap());
    let verifier = std::sync::Arc::new(KeyVerifier::open(file.clone()).unwrap());
    verify(&verifier, used.text.expose_secret()).unwrap().unwrap();
    let over = tokio_util::sync::CancellationToken::new();
    over.cancel();
    KeyUpkeep::new(verifier.clone()).run(over.clone()).await;
    let uses = LastUses::read(&file);
    assert_eq!((uses.of(&used.record.id), uses.of(&unused.record.id)), (Some(NOW), None));
    // A file that is of no use is begun anew.
    fs::write(format!("{}.used", file.path().display()), "{").unwrap();
    verify(&verifier, unused.text.expose_secret()).unwrap().unwrap();
    KeyUpkeep::new(verifier).run(over).await;
    let uses = LastUses::read(&file);
    assert!(uses.of(&unused.record.id).is_some() && uses.are_known());
}
