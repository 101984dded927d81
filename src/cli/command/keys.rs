//! `callpark keys`: the API keys of a server.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde::Serialize;

use crate::auth::keys::{
    KeyFile, KeyFileError, KeyId, KeyIdError, KeyOptions, KeyRecord, LastUses,
};
use crate::cli::args::connect::ConnectArgs;
use crate::cli::args::duration::parse_duration;
use crate::cli::args::settings::SettingFlags;
use crate::cli::error::Failure;
use crate::cli::exit::Exit;
use crate::cli::print::output::{Out, eprint_note};
use crate::cli::print::table::{Column, Table};
use crate::cli::print::time::relative_to_now;
use crate::engine::{Clock as _, SystemClock};
use crate::model::{Scope, Scopes, Timestamp};

/// Create, list and revoke the API keys of a server
///
/// The commands change the file that the setting `keys-file` names, on the machine of the server, whether it
/// runs or not. A server that runs reads the file again within two seconds.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum KeysCommand {
    Create(CreateArgs),
    List(ListArgs),
    Revoke(RevokeArgs),
}

/// Create a key, and print it
///
/// This is the only time that the key is shown: the file has its hash. Callers send it as
/// `authorization: Bearer KEY`; the commands of callpark take it from CALLPARK_TOKEN or --token-file.
#[derive(Clone, Debug, clap::Args)]
struct CreateArgs {
    /// Tenant of the key's callers: they see the sessions and tasks of this tenant, and no others
    #[arg(long, value_name = "NAME")]
    tenant: String,

    /// Name of the key's callers, such as that of a service
    #[arg(long, value_name = "NAME")]
    name: String,

    /// Scopes of the key's callers: read, run, cancel, follow_up, admin
    #[arg(
        long,
        value_name = "SCOPE[,SCOPE]",
        value_delimiter = ',',
        default_values = ["read", "run", "cancel", "follow_up"]
    )]
    scopes: Vec<Scope>,

    /// Time after which the key is refused, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = parse_lifetime)]
    expires_in: Option<Duration>,

    #[command(flatten)]
    file: FileArgs,
}

/// List the keys, without their secrets
///
/// LAST USED is a minute late at most.
#[derive(Clone, Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    file: FileArgs,
}

/// Revoke a key
///
/// Servers refuse the key, and end the requests and streams that it has open, within two seconds. Its
/// tasks go on.
#[derive(Clone, Debug, clap::Args)]
struct RevokeArgs {
    /// Id of the key, as `callpark keys list` shows it
    // Parsed later: clap would repeat a secret that was given by mistake.
    id: String,

    #[command(flatten)]
    file: FileArgs,
}

#[derive(Clone, Debug, clap::Args)]
struct FileArgs {
    /// File with the keys, as for `callpark serve` [env: CALLPARK_KEYS_FILE]
    #[arg(long, value_name = "FILE")]
    keys_file: Option<PathBuf>,

    /// Folder of the server's files, which has the file unless that is named [env: CALLPARK_DATA_DIR]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

/// A key in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    tenant: String,
    name: String,
    scopes: Vec<&'static str>,
    state: &'static str,
    create_time: Option<String>,
    expire_time: Option<String>,
    last_use_time: Option<String>,
}

#[derive(Serialize)]
struct Entries {
    keys: Vec<Entry>,
}

impl Entry {
    fn of(record: &KeyRecord, last_use: Option<Timestamp>) -> Self {
        Self {
            id: record.id.to_string(),
            key: None,
            tenant: record.tenant.to_string(),
            name: record.name.clone(),
            scopes: record.scopes.iter().map(Scope::as_str).collect(),
            state: record.state(now()).as_str(),
            create_time: text_of(record.create_time),
            expire_time: record.expire_time.and_then(text_of),
            last_use_time: last_use.and_then(text_of),
        }
    }
}

pub(crate) async fn run(
    args: KeysArgs,
    connect: ConnectArgs,
    out: &mut Out,
) -> Result<Exit, Failure> {
    match args.command {
        KeysCommand::Create(args) => create(args, connect, out).await,
        KeysCommand::List(args) => list(&args.file.open(connect)?, out).await,
        KeysCommand::Revoke(args) => {
            let file = args.file.open(connect)?;
            let id: KeyId = args
                .id
                .parse()
                .map_err(|error: KeyIdError| Failure::new(Exit::Usage, error.to_string()))?;
            let is_new = file.revoke(&id, now()).map_err(failed)?;
            let state = if is_new { "is revoked" } else { "was revoked before" };
            eprint_note(&format!("{id} {state}"));
            Ok(Exit::Success)
        }
    }
}

async fn create(args: CreateArgs, connect: ConnectArgs, out: &mut Out) -> Result<Exit, Failure> {
    let file = args.file.open(connect)?;
    let (scopes, create_time): (Scopes, _) = (args.scopes.into_iter().collect(), now());
    let expire_time = args.expires_in.map(|lifetime| create_time.saturating_add(lifetime));
    let (tenant, name) = (args.tenant, args.name);
    let options = KeyOptions { tenant, name, scopes, create_time, expire_time };
    let key = file.create(options).map_err(failed)?;
    let text = key.text.expose_secret();
    if out.json {
        let entry = Entry::of(&key.record, None);
        out.json(&Entry { key: Some(text.to_owned()), ..entry }).await?;
    } else {
        let (id, file) = (&key.record.id, file.path().display());
        eprint_note(&format!("{id} is in {file}; the key is shown this once, keep it secret"));
        out.line(text).await?;
    }
    Ok(Exit::Success)
}

async fn list(file: &KeyFile, out: &mut Out) -> Result<Exit, Failure> {
    let (list, uses) = (file.list().map_err(failed)?, LastUses::read(file));
    for (line, reason) in &list.unreadable {
        eprint_note(&format!("line {line} of {} is not a key: {reason}", file.path().display()));
    }
    if out.json {
        let entry = |record: &KeyRecord| Entry::of(record, uses.of(&record.id));
        out.json(&Entries { keys: list.records.iter().map(entry).collect() }).await?;
    } else if list.records.is_empty() {
        eprint_note("there are no keys: `callpark keys create` makes one");
    } else {
        out.table(&table(&list.records, &uses)).await?;
    }
    Ok(Exit::Success)
}

fn table(records: &[KeyRecord], uses: &LastUses) -> Table {
    let mut table = Table::new([
        ("KEY", Column::Value),
        ("TENANT", Column::Text),
        ("NAME", Column::Text),
        ("SCOPES", Column::Text),
        ("STATE", Column::State),
        ("CREATED", Column::Value),
        ("EXPIRES", Column::Value),
        ("LAST USED", Column::Value),
    ]);
    for record in records {
        let state = record.state(now());
        table.row([
            record.id.to_string(),
            record.tenant.to_string(),
            record.name.clone(),
            record.scopes.to_string(),
            state.as_str().to_owned(),
            relative_to_now(record.create_time),
            record.expire_time.map_or_else(|| "never".to_owned(), relative_to_now),
            match uses.of(&record.id) {
                Some(time) => relative_to_now(time),
                None if uses.are_known() => "never".to_owned(),
                None => "unknown".to_owned(),
            },
        ]);
    }
    table
}

impl FileArgs {
    /// Returns the file that `callpark serve` would use with these flags.
    fn open(self, connect: ConnectArgs) -> Result<KeyFile, Failure> {
        let config = SettingFlags::keys(self.data_dir, self.keys_file).load(connect)?.config;
        let file = config.keys_file.filter(|file| !file.as_os_str().is_empty());
        file.map(KeyFile::new).ok_or_else(|| {
            Failure::new(Exit::Config, "there is no file for keys: name one with --keys-file")
        })
    }
}

/// Parses the time for which a key is good.
fn parse_lifetime(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be more than 0".to_owned()),
        // A hundred years.
        lifetime if lifetime > Duration::from_secs(100 * 366 * 86_400) => {
            Err("must be at most 100 years: without it, the key does not expire".to_owned())
        }
        lifetime => Ok(lifetime),
    }
}

fn now() -> Timestamp {
    SystemClock.now()
}

fn text_of(time: Timestamp) -> Option<String> {
    jiff::Timestamp::from_microsecond(time.as_micros()).ok().map(|time| time.to_string())
}

fn failed(error: KeyFileError) -> Failure {
    let exit = match error {
        KeyFileError::Invalid(_) => Exit::Usage,
        KeyFileError::Unknown { .. } => Exit::NotFound,
        KeyFileError::Ownership(_) => Exit::Config,
        KeyFileError::File { .. } | KeyFileError::Random(_) => Exit::Io,
    };
    Failure::new(exit, error.to_string())
}
