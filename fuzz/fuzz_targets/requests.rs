//! Requests of any bytes: each is converted, or refused with the names of its bad fields.
//!
//! The first byte says which message the rest is.

#![no_main]

use callpark::internals::rpc::fuzzing::READERS;
use libfuzzer_sys::fuzz_target;
use tonic::Code;
use tonic_types::StatusExt as _;

/// Clients take 16 KiB of metadata, in which the text is escaped and the details are encoded.
const ERROR_BYTES_MAX: usize = 8 << 10;

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let (name, read) = READERS[usize::from(*first) % READERS.len()];
    let Some(Err(status)) = read(bytes) else { return };
    assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status:?}");
    let reason = status.get_details_error_info().expect("a reason").reason;
    assert!(["INVALID_FIELD", "PAGE_TOKEN_INVALID"].contains(&reason.as_str()), "{name}: {reason}");
    let fields = status.get_details_bad_request().expect("bad fields").field_violations;
    assert!(!fields.is_empty(), "{name}: {status:?}");
    for field in &fields {
        assert!(!field.field.is_empty() && !field.description.is_empty(), "{name}: {field:?}");
    }
    let escaped = status.message().bytes().map(|byte| if byte.is_ascii_graphic() { 1 } else { 3 });
    let bytes = escaped.sum::<usize>() + status.details().len() * 4 / 3;
    assert!(bytes <= ERROR_BYTES_MAX, "{name}: an error of {bytes} bytes");
});
