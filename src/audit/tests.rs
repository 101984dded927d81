//! Tests of the chain: through restarts, rotation, crashes and full disks, and broken on purpose.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;

use super::file::AuditFile;
use super::line::{AuditAction, AuditEntry};
use super::refusals::{KINDS_MAX, Refusals, WINDOW};
use super::{AuditError, AuditFileOptions, AuditReport, audit_files, verify};
use crate::model::Timestamp;

const BYTES_MAX: u64 = 2_000;

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    fn open(&self) -> AuditFile {
        let options = AuditFileOptions { path: self.path(), bytes_max: BYTES_MAX, files_max: 3 };
        AuditFile::open(options).expect("a log").0
    }

    /// Appends so many entries, as the writer does.
    fn append(&self, count: usize) {
        let mut file = self.open();
        (0..count).for_each(|_| append(&mut file));
    }

    fn files(&self) -> Vec<PathBuf> {
        audit_files(&self.path()).expect("files")
    }

    fn verify(&self) -> Result<AuditReport, String> {
        verify(&self.files(), None).map_err(|error| {
            error.to_string().replace(&format!("{}/", self.folder.path().display()), "")
        })
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("text")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("written");
    }
}

fn append(file: &mut AuditFile) {
    if file.is_full() {
        file.rotate().expect("another file");
    }
    file.append(&entry()).expect("a line");
}

fn entry() -> AuditEntry {
    AuditEntry {
        tenant: Some("acme".to_owned()),
        method: Some("callpark.v1.BackgroundTasks/Start".to_owned()),
        ..AuditEntry::new(AuditAction::Start, Timestamp::from_micros(1_700_000_000_000_000))
    }
}

#[test]
fn a_line_has_its_fields_in_a_fixed_order() {
    let site = Site::new();
    site.append(1);
    let text = site.text();
    let zeros = "0".repeat(64);
    let begin = format!(
        r#"{{"sequence":1,"time":"2023-11-14T22:13:20Z","tenant":"acme","name":null,"credential_id":null,"action":"start","method":"callpark.v1.BackgroundTasks/Start","id":null,"outcome":"OK","reason":null,"request_id":null,"peer":null,"previous_hash":"{zeros}","hash":""#
    );
    assert!(text.starts_with(&begin), "{text}");
    let mode = fs::metadata(site.path()).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_chain_goes_on_after_a_restart_and_through_all_files() {
    let site = Site::new();
    (0..20).for_each(|_| site.append(1));
    let report = site.verify().expect("a whole chain");
    assert_eq!((report.files, report.last_sequence), (3, 20));
    assert!(report.first_sequence > 1, "the oldest files are gone: {report:?}");
    assert_eq!(report.lines, 21 - report.first_sequence);
    // In any order, and from any file on.
    let mut files = site.files();
    files.reverse();
    assert_eq!(verify(&files, None).expect("a whole chain"), report);
    assert_eq!(verify(&files[..2], None).expect("a whole chain").last_sequence, 20);
    let found = verify(&files, Some(&report.last_hash)).expect("a whole chain");
    assert!(found.hash_found && !report.hash_found);
    // The file that was written is gone, as after a crash in the middle of a rotation.
    let last = report.last_sequence;
    let (full, path) = (site.folder.path().join(format!("audit.jsonl.{last:020}")), site.path());
    fs::rename(&path, &full).expect("renamed");
    site.append(1);
    assert_eq!(site.verify().expect("a whole chain").last_sequence, 21);
}

#[test]
fn each_way_of_breaking_the_chain_is_found_at_its_line() {
    let site = Site::new();
    site.append(4);
    let whole = site.text();
    let lines: Vec<&str> = whole.lines().collect();
    let without = |index: usize| {
        let mut left = lines.clone();
        left.remove(index);
        left.join("\n") + "\n"
    };
    let mut other = lines.clone();
    other.swap(1, 2);
    let forged = lines[1].replace("acme", "evil");
    let hash_at = forged.find(r#","hash""#).expect("a hash");
    let rehashed = {
        // As an attacker does who knows how hashes are made, and leaves the later lines as they are.
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(&forged.as_bytes()[..hash_at]);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(r#"{},"hash":"{hex}"}}"#, &forged[..hash_at])
    };
    let changed = "it was changed: its hash is that of another line";
    let not_next = |found, next| format!("its sequence is {found}, and {next} is the next one");
    for (text, problem) in [
        (whole.replacen("acme", "evil", 1), format!("1: {changed}")),
        (whole.replacen("\"OK\"", "\"NO\"", 1), format!("1: {changed}")),
        (whole.replacen("null,", "null, ", 1), format!("1: {changed}")),
        (without(1), format!("2: {}", not_next(3, 2))),
        (without(0), String::new()),
        (other.join("\n") + "\n", format!("2: {}", not_next(3, 2))),
        (
            whole.replace(lines[1], &rehashed),
            "3: its previous_hash is not the hash of the line before".to_owned(),
        ),
        (whole.replace(lines[1], "{}"), "2: it is not a line of an audit log".to_owned()),
        (whole.replace(lines[1], ""), "2: it is not a line of an audit log".to_owned()),
        (format!("{whole}{}\n", lines[1]), format!("5: {}", not_next(2, 5))),
    ] {
        site.write(&text);
        let found = site.verify().err().unwrap_or_default();
        let expected = if problem.is_empty() { problem } else { format!("audit.jsonl:{problem}") };
        assert_eq!(found, expected, "{text}");
    }
    // The first line may be any unless it is the very first: older files may be gone.
    site.write(&lines[0].replace(&"0".repeat(64), &"1".repeat(64)));
    assert!(site.verify().is_err());
}

#[test]
fn a_file_that_is_missing_in_the_middle_is_found() {
    let site = Site::new();
    site.append(20);
    let files = site.files();
    assert_eq!(files.len(), 3);
    fs::remove_file(&files[1]).expect("removed");
    let error = site.verify().expect_err("a gap");
    assert!(error.contains(":1: its sequence is"), "{error}");
}

/// The text of a log that a crash has torn at any place ends with a line that says so, and is whole.
#[test]
fn a_line_that_a_crash_has_torn_is_closed_by_one_that_says_so() {
    let site = Site::new();
    site.append(3);
    let whole = site.text();
    let second = whole.match_indices('\n').nth(1).expect("a line").0 + 1;
    for length in 0..=whole.len() {
        site.write(&whole[..length]);
        let before = site.verify().unwrap_or_else(|error| panic!("{length}: {error}"));
        site.append(2);
        let report = site.verify().unwrap_or_else(|error| panic!("{length}: {error}"));
        let torn = before.ends_in_part;
        assert_eq!(report.lines, before.lines + 2 + u64::from(torn), "{length}");
        assert_eq!(report.damaged_bytes > 0, torn, "{length}");
        assert!(site.text().starts_with(&whole[..length]), "nothing is taken away");
        if length > second && length < whole.len() - 1 {
            assert!(torn, "{length}");
            assert_eq!(report.damaged_bytes, (length - second + 1) as u64);
        }
    }
    // What has been repaired is part of the chain: the torn part cannot go.
    site.write(&whole[..whole.len() - 9]);
    site.append(1);
    let text = site.text();
    let lines: Vec<&str> = text.lines().collect();
    site.write(&text.replace(&format!("{}\n", lines[2]), ""));
    assert_eq!(site.verify(), Err("audit.jsonl:3: the damage before it is gone".to_owned()));
}

#[test]
fn a_file_that_is_no_audit_log_is_left_alone() {
    let site = Site::new();
    for text in ["hello", "{}\n", "{\"sequence\":1}\n{\"sequence\":2}\n"] {
        site.write(text);
        fs::set_permissions(site.path(), fs::Permissions::from_mode(0o600)).expect("a file");
        let options = AuditFileOptions { path: site.path(), bytes_max: BYTES_MAX, files_max: 3 };
        let opened = AuditFile::open(options).map(|_| ());
        assert!(matches!(opened, Err(AuditError::NotAnAuditLog { .. })), "{opened:?}");
        assert_eq!(site.text(), text);
    }
    fs::set_permissions(site.path(), fs::Permissions::from_mode(0o644)).expect("a file");
    let options = AuditFileOptions { path: site.path(), bytes_max: BYTES_MAX, files_max: 3 };
    assert!(matches!(AuditFile::open(options), Err(AuditError::Ownership(_))));
}

#[test]
fn two_servers_do_not_share_a_log() {
    let site = Site::new();
    let _open = site.open();
    let options = AuditFileOptions { path: site.path(), bytes_max: BYTES_MAX, files_max: 3 };
    assert!(matches!(AuditFile::open(options), Err(AuditError::Locked { .. })));
}

#[test]
fn a_file_that_cannot_be_renamed_is_written_on() {
    let site = Site::new();
    let mut file = site.open();
    while !file.is_full() {
        append(&mut file);
    }
    // A folder of the name that the full file would have.
    let in_the_way = site.folder.path().join(format!("audit.jsonl.{:020}", 1));
    fs::create_dir(&in_the_way).expect("a folder");
    assert!(file.rotate().is_err());
    file.append(&entry()).expect("a line");
    drop(file);
    fs::remove_dir(in_the_way).expect("removed");
    let lines = site.text().lines().count() as u64;
    let report = site.verify().expect("a whole chain");
    assert_eq!((report.files, report.lines), (1, lines));
}

#[test]
fn a_partial_line_behind_a_running_server_is_explained_by_the_next_start() {
    let site = Site::new();
    site.append(1);
    let mut file = fs::OpenOptions::new().append(true).open(site.path()).expect("a file");
    file.write_all(b"\0\0\0\nx").expect("written");
    site.append(1);
    let report = site.verify().expect("a whole chain");
    assert_eq!((report.lines, report.damaged_bytes), (3, 6));
}

#[test]
fn refusals_have_a_bounded_number_of_lines() {
    let mut refusals = Refusals::default();
    let now = Instant::now();
    let refused = |reason: &str, id: usize| AuditEntry {
        reason: Some(reason.to_owned()),
        credential_id: Some(format!("cpk_{id}")),
        ..AuditEntry::new(AuditAction::Refused, Timestamp::default())
    };
    let mut lines = 0;
    for round in 0..1_000 {
        for reason in ["a", "b"] {
            let entry = refused(reason, round % 100);
            lines += usize::from(refusals.refused(entry, "127.0.0.1", now).is_some());
        }
    }
    assert_eq!(lines, KINDS_MAX);
    assert!(refusals.end_window(Some(now)).is_empty(), "the window is not over");
    let counted = refusals.end_window(Some(now + WINDOW));
    assert_eq!(counted.len(), KINDS_MAX + 2);
    let count: u64 = counted.iter().filter_map(|entry| entry.count).sum();
    assert_eq!(count as usize + lines, 2_000);
    assert!(refusals.end_window(None).is_empty());
    assert!(refusals.refused(refused("a", 0), "127.0.0.1", now).is_some());
}

#[test]
fn every_line_is_json_of_its_own() {
    let site = Site::new();
    let mut file = site.open();
    let nasty = "a\"b\\c\nd\u{2028}e\",\"hash\":\"0";
    file.append(&AuditEntry { request_id: Some(nasty.to_owned()), ..entry() }).expect("a line");
    drop(file);
    let line: Value = serde_json::from_str(site.text().trim_end()).expect("JSON");
    assert_eq!(line["request_id"], nasty);
    assert_eq!(site.verify().expect("a whole chain").lines, 1);
}
