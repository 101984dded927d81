//! Servers that give a shim the orders of a test, and nothing else.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;

use super::faults::read_frame;
use super::{connect, socket_name};
use crate::support::program::{Live, Site};

/// The first byte of the report of a start.
const STARTED: u8 = 2 << 3 | 2;

/// An order of a server, as far as it is given here.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Order {
    #[prost(message, tag = "1")]
    hello: Option<ServerHello>,
    #[prost(message, tag = "2")]
    start: Option<Start>,
    #[prost(message, tag = "3")]
    adopt: Option<Offset>,
    #[prost(message, tag = "6")]
    release: Option<Offset>,
    #[prost(message, tag = "8")]
    pub(super) keep_for: Option<KeepFor>,
}

#[derive(Clone, PartialEq, Message)]
struct ServerHello {
    #[prost(uint32, tag = "1")]
    protocol: u32,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Start {
    #[prost(bytes = "vec", tag = "1")]
    call_id: Vec<u8>,
    #[prost(string, repeated, tag = "2")]
    argv: Vec<String>,
    #[prost(map = "string, string", tag = "3")]
    environment: HashMap<String, String>,
}

/// A position in the output of a run, or the run alone.
#[derive(Clone, PartialEq, Message)]
struct Offset {
    #[prost(bytes = "vec", tag = "1")]
    call_id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    bytes: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeepFor {
    #[prost(uint64, optional, tag = "1")]
    pub(super) time_ms: Option<u64>,
    #[prost(uint64, tag = "2")]
    pub(super) given_ns: u64,
}

impl Offset {
    fn of(call: uuid::Uuid) -> Self {
        Self { call_id: call.as_bytes().to_vec(), bytes: 0 }
    }
}

impl Order {
    pub(super) fn hello() -> Self {
        let hello = ServerHello { protocol: 1, version: "9.9.9".into() };
        Self { hello: Some(hello), ..Self::default() }
    }

    /// Lets the runs go on for this time from the moment at which the shim reads it.
    pub(super) fn keep_for(time: Option<Duration>) -> Self {
        let time_ms = time.map(|time| u64::try_from(time.as_millis()).expect("short"));
        Self { keep_for: Some(KeepFor { time_ms, given_ns: 0 }), ..Self::default() }
    }

    /// Starts `sleep` for this time, with the home of the site.
    pub(super) fn start(site: &Site, call: uuid::Uuid, time: &str) -> Self {
        let home = site.home().display().to_string();
        let variables = [("PATH", "/usr/bin:/bin"), ("HOME", &home)];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let start = Start {
            call_id: call.as_bytes().to_vec(),
            argv: vec!["sleep".into(), time.into()],
            environment: variables.into(),
        };
        Self { start: Some(start), ..Self::default() }
    }

    /// Follows the run of a task from its beginning on.
    pub(super) fn adopt(id: &str) -> Self {
        let call = uuid::Uuid::parse_str(id.trim_start_matches("bg-")).expect("an id");
        Self { adopt: Some(Offset::of(call)), ..Self::default() }
    }

    pub(super) fn release(call: uuid::Uuid) -> Self {
        Self { release: Some(Offset::of(call)), ..Self::default() }
    }

    fn frame(&self) -> Vec<u8> {
        let order = self.encode_to_vec();
        let length = u32::try_from(order.len()).expect("short").to_be_bytes();
        [&length[..], &order].concat()
    }
}

fn frames(orders: &[Order]) -> Vec<u8> {
    orders.iter().flat_map(Order::frame).collect()
}

/// A server that gives a shim the orders of a test, and nothing else.
pub(super) struct FakeServer(UnixStream);

impl FakeServer {
    /// Takes the place of the server before.
    pub(super) fn connect(folder: &Path) -> Self {
        let mut server = Self(connect(folder));
        server.order(&[Order::hello()]);
        read_frame(&mut server.0).expect("the first message of the shim");
        server
    }

    /// Gives orders, all at once.
    pub(super) fn order(&mut self, orders: &[Order]) {
        self.0.write_all(&frames(orders)).expect("written");
    }

    /// Waits until the shim has started one more run.
    pub(super) fn started(&mut self) {
        while read_frame(&mut self.0).expect("a report")[0] != STARTED {}
    }
}

/// The same in a process of its own, which gives one time and nothing after it.
const SILENT_SERVER: &str = "import signal, socket, sys
shim = socket.socket(socket.AF_UNIX)
shim.connect('\\0' + sys.argv[1])
shim.sendall(bytes.fromhex(sys.argv[2]))
assert shim.recv(1)
print('connected', flush=True)
signal.pause()";

/// Starts such a server with the orders of its connection.
pub(super) async fn silent_server(site: &Site, orders: &[Order]) -> Live {
    let frames: String = frames(orders).iter().map(|byte| format!("{byte:02x}")).collect();
    let name = socket_name(&folder(site));
    let mut server = Live::start(site.other("python3", &["-c", SILENT_SERVER, &name, &frames]));
    server.stdout.until("connected").await;
    server
}

/// The folder of the only shim of a site.
pub(super) fn folder(site: &Site) -> PathBuf {
    let entries = std::fs::read_dir(site.data().join("callpark.db.shims")).expect("shims");
    entries.map(|entry| entry.expect("an entry").path()).next().expect("a shim")
}
