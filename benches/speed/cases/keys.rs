//! The verification of API keys.

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Instant;

use callpark::internals::auth::keys::{KeyFile, KeyOptions, KeyVerifier};
use callpark::internals::auth::{Credentials, Verifier as _};
use callpark::internals::engine::{Clock as _, SystemClock};
use callpark::model::Scopes;
use secrecy::ExposeSecret as _;

use super::Bench;
use crate::measure::Samples;
use crate::table::{Goal, Row};
use crate::{Result, child};

/// The numbers of keys that are compared.
const FEW: usize = 1_000;
const MANY: usize = 1_000_000;

/// The verifications of one figure.
const VERIFICATIONS: u32 = 100_000;

/// Measures the look-up of one key among few and among many, and of an unknown one.
pub(crate) async fn keys(bench: &Bench) -> Result<Vec<Row>> {
    let folder = child::folder()?;
    let (few, known) = verifier(folder.path(), FEW)?;
    let (many, known_of_many) = verifier(folder.path(), MANY)?;
    let unknown = format!("{}f", &known_of_many[..known_of_many.len() - 1]);
    let [mut base, mut case, mut refused] = [const { Samples(Vec::new()) }; 3];
    for _ in 0..bench.rounds {
        base.0.push(nanoseconds(&few, &known, true)?);
        case.0.push(nanoseconds(&many, &known_of_many, true)?);
        refused.0.push(nanoseconds(&many, &unknown, false)?);
    }
    Ok(vec![
        Row {
            case: "one of 1,000,000 API keys verified".into(),
            unit: "ns",
            case_samples: case.clone(),
            base: "one of 1,000".into(),
            base_samples: base,
            goal: Goal::AtMost(2.0),
        },
        Row {
            case: "an unknown API key refused, beside 1,000,000".into(),
            unit: "ns",
            case_samples: refused,
            base: "a known one".into(),
            base_samples: case,
            goal: Goal::AtMost(1.5),
        },
    ])
}

/// Returns a verifier of so many keys, and the text of one of them.
fn verifier(folder: &Path, count: usize) -> Result<(KeyVerifier, String)> {
    let file = KeyFile::new(folder.join(format!("{count}-keys")));
    let options = KeyOptions {
        tenant: "acme".to_owned(),
        name: "backend".to_owned(),
        scopes: Scopes::ALL,
        create_time: SystemClock.now(),
        expire_time: None,
    };
    let key = file.create(options)?;
    let line = fs::read_to_string(file.path())?;
    let mut document: serde_json::Value = serde_json::from_str(&line)?;
    let mut lines = line;
    for number in 1..count {
        // Any hash that no other line has.
        document["id"] = format!("cpk_{number:012x}").into();
        document["sha256"] = format!("{number:042x}A").into();
        lines.push_str(&document.to_string());
        lines.push('\n');
    }
    let new = file.path().with_extension("new");
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    fs::write(&new, lines)?;
    fs::rename(&new, file.path())?;
    let list = file.read()?;
    if list.records.len() != count {
        return Err(format!("{} of {count} keys were read", list.records.len()).into());
    }
    Ok((KeyVerifier::open(file)?, key.text.expose_secret().to_owned()))
}

/// Returns the time of a verification.
fn nanoseconds(verifier: &KeyVerifier, key: &str, is_known: bool) -> Result<f64> {
    let text = format!("Bearer {key}");
    let credentials = Credentials {
        authorization: Some(&text),
        time: SystemClock.now(),
        ..Credentials::default()
    };
    let begin = Instant::now();
    for _ in 0..VERIFICATIONS {
        let verified = black_box(verifier).verify(black_box(&credentials));
        if verified.is_some_and(|verified| verified.is_ok()) != is_known {
            return Err("the key is not what it should be".into());
        }
    }
    Ok(begin.elapsed().as_secs_f64() * 1e9 / f64::from(VERIFICATIONS))
}
