//! Tests of the messages: each comes as it was given.

use prost::Message as _;

use super::*;

const CALL: CallId = CallId::from_bytes([7; 16]);

fn sent<T: prost::Message + Default>(message: &T) -> T {
    T::decode(message.encode_to_vec().as_slice()).unwrap()
}

fn spec() -> RunSpec {
    let variables = [("PATH", "/bin"), ("EMPTY", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    RunSpec {
        call_id: CALL,
        process: ProcessSpec {
            argv: vec!["bash".into(), String::new(), "a\nb".into()],
            working_directory: Some("/tmp".into()),
            environment: variables.into_iter().collect(),
            stdin: Some(Bytes::from_static(b"\0\xff")),
        },
        limits: RunLimits {
            output_bytes_max: u64::MAX,
            idle_timeout: None,
            execution_timeout: Some(Duration::from_millis(1)),
            grace: Duration::ZERO,
        },
        output_before: OutputBefore {
            stdout: StreamSummary {
                total_bytes: 9,
                kept_bytes: 7,
                dropped_bytes: 2,
                cut_offset: Some(0),
            },
            combined: StreamSummary { total_bytes: 9, kept_bytes: 9, ..StreamSummary::default() },
            ..OutputBefore::default()
        },
    }
}

#[test]
fn a_start_comes_as_it_was_given() {
    assert_eq!(sent(&Start::from(spec())).into_spec(), Some(spec()));
    let mut other = spec();
    other.process.stdin = None;
    other.limits.idle_timeout = Some(Duration::MAX);
    other.limits.execution_timeout = None;
    let come = sent(&Start::from(other)).into_spec().unwrap();
    assert_eq!((come.process.stdin, come.limits.execution_timeout), (None, None));
    assert_eq!(come.limits.idle_timeout, Some(Duration::from_millis(u64::MAX)));
    let without_id = Start { call_id: Bytes::from_static(b"short"), ..Start::from(spec()) };
    assert_eq!(sent(&without_id).into_spec(), None);
}

#[test]
fn a_run_without_a_folder_is_in_that_of_the_server() {
    let here = std::fs::canonicalize(".").unwrap();
    for (given, come) in [(None, here.clone()), (Some("x/y"), here.join("x/y"))] {
        let mut spec = spec();
        spec.process.working_directory = given.map(PathBuf::from);
        let spec = sent(&Start::from(spec)).into_spec().unwrap();
        assert_eq!(spec.process.working_directory, Some(come));
    }
}

#[test]
fn stops_and_refusals_and_output_come_as_they_were_given() {
    for stop in [Stop::Kill, Stop::Graceful(Duration::ZERO), Stop::Graceful(Duration::from_secs(9))]
    {
        let order = sent(&Order::from(OrderKind::Stop(StopRun::new(CALL, stop))));
        let Some(OrderKind::Stop(order)) = order.kind else { panic!("{order:?}") };
        assert_eq!((order.stop(), call_id(&order.call_id)), (stop, Some(CALL)));
    }
    let (program, path, cause) = ("x".to_owned(), "/y".to_owned(), "z".to_owned());
    for error in [
        StartError::ProgramMissing { program: program.clone() },
        StartError::NotExecutable { program: program.clone() },
        StartError::WorkingDirectory { path },
        StartError::System { program, cause },
    ] {
        assert_eq!(sent(&Refused::new(CALL, error.clone())).into_error(), error);
    }
    for stream in [OutputStream::Stdout, OutputStream::Stderr] {
        let position = OutputPosition {
            stream,
            offset: u64::MAX,
            combined_offset: 0,
            dropped_bytes_before: 1 << 40,
        };
        let output = ToolOutput { position, data: Bytes::from_static(b"\0\xff") };
        assert_eq!(sent(&Output::new(CALL, &output)).into_output(), output);
    }
}

#[test]
fn a_message_of_a_kind_that_is_not_known_is_none() {
    // A field of a later version.
    let later = [0xfa, 0x01, 0x02, 0x08, 0x01];
    assert_eq!(Order::decode(later.as_slice()).unwrap().kind, None);
    assert_eq!(Report::decode(later.as_slice()).unwrap().kind, None);
}

/// An order as a shim of an earlier version reads it.
#[derive(Clone, PartialEq, prost::Message)]
struct EarlierOrder {
    #[prost(oneof = "EarlierKind", tags = "1, 2, 3, 4, 5, 6, 7")]
    kind: Option<EarlierKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum EarlierKind {
    #[prost(message, tag = "1")]
    Hello(ServerHello),
    #[prost(message, tag = "7")]
    Leave(Leave),
}

#[test]
fn an_order_about_the_time_of_runs_is_none_for_an_earlier_shim() {
    for time in [None, Some(Duration::ZERO), Some(Duration::from_secs(6))] {
        let order = Order::from(OrderKind::KeepFor(KeepFor::new(time)));
        assert_eq!(sent(&order), order);
        let earlier = EarlierOrder::decode(order.encode_to_vec().as_slice()).unwrap();
        assert_eq!(earlier, EarlierOrder::default());
    }
    let leave = Order::from(OrderKind::Leave(Leave {})).encode_to_vec();
    let earlier = EarlierOrder::decode(leave.as_slice()).unwrap();
    assert_eq!(earlier.kind, Some(EarlierKind::Leave(Leave {})));
}
