//! Page tokens: what was written is read back, and what is read was written so.
//!
//! The input is where a page ends, how its token is spoilt, and the request that it is for.

#![no_main]

use callpark::model::{CallId, Principal, SessionId, Tenant, Timestamp};
use callpark::internals::rpc::fuzzing::{call_page, session_page};
use callpark::store::{CallCursor, SessionCursor};
use callpark_proto::v1;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

/// A token with some of its bytes changed.
fn spoil(token: &str, input: &mut Unstructured) -> Result<String> {
    let mut bytes = token.as_bytes().to_vec();
    for _ in 0..input.int_in_range(0..=3)? {
        let at = input.choose_index(bytes.len())?;
        bytes[at] = input.arbitrary()?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tasks(input: &mut Unstructured) -> Result<()> {
    let who = Principal { tenant: Tenant::new("a"), name: "b".into(), scopes: Scopes::ALL };
    let create_time = Timestamp::from_micros(input.arbitrary()?);
    let cursor = CallCursor { create_time, id: CallId::from_bytes(input.arbitrary()?) };
    let mut spoilt = Unstructured::new(input.bytes(8)?);
    let Ok(mut request) = v1::ListRequest::decode(input.bytes(input.len())?) else {
        return Ok(());
    };
    if let Ok((Some(read), token)) = call_page(&who, request.clone()) {
        assert_eq!(token(read), request.page_token, "the request's own");
    }
    request.page_token.clear();
    let Ok((None, next)) = call_page(&who, request.clone()) else { return Ok(()) };
    let token = next(cursor);
    request.page_token = token.clone();
    let (read, again) = call_page(&who, request.clone()).expect("a token of ours");
    assert_eq!((read, again(cursor)), (Some(cursor), token.clone()));
    request.page_token = spoil(&token, &mut spoilt)?;
    if let Ok((Some(read), token)) = call_page(&who, request.clone()) {
        assert_eq!(token(read), request.page_token, "a spoilt one");
    }
    Ok(())
}

fn sessions(input: &mut Unstructured) -> Result<()> {
    let who = Principal { tenant: Tenant::new("a"), name: "b".into(), scopes: Scopes::ALL };
    let create_time = Timestamp::from_micros(input.arbitrary()?);
    let cursor = SessionCursor { create_time, id: SessionId::from_bytes(input.arbitrary()?) };
    let mut spoilt = Unstructured::new(input.bytes(8)?);
    let Ok(mut request) = v1::ListSessionsRequest::decode(input.bytes(input.len())?) else {
        return Ok(());
    };
    if let Ok((Some(read), token)) = session_page(&who, request.clone()) {
        assert_eq!(token(read), request.page_token, "the request's own");
    }
    request.page_token.clear();
    let Ok((None, next)) = session_page(&who, request.clone()) else { return Ok(()) };
    let token = next(cursor);
    request.page_token = token.clone();
    let (read, again) = session_page(&who, request.clone()).expect("a token of ours");
    assert_eq!((read, again(cursor)), (Some(cursor), token.clone()));
    request.page_token = spoil(&token, &mut spoilt)?;
    if let Ok((Some(read), token)) = session_page(&who, request.clone()) {
        assert_eq!(token(read), request.page_token, "a spoilt one");
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    // Input that is too short tries nothing.
    let _ = match input.arbitrary() {
        Ok(true) => tasks(&mut input),
        _ => sessions(&mut input),
    };
});
