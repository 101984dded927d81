//! Lines of MCP servers: each call ends once, with the line that bears its id or with the good answer
//! that follows.

#![no_main]

use callpark::internals::mcp::LineReader;
use libfuzzer_sys::fuzz_target;

const CALLS: [i64; 3] = [1, 2, 3];

fn answer(id: i64, text: &str) -> String {
    let text = serde_json::Value::from(text);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":{text}}}]}}}}"#)
}

fuzz_target!(|data: &[u8]| {
    let reader = LineReader::new(&CALLS);
    let mut ended: Vec<i64> = Vec::new();
    for line in data.split(|byte| *byte == b'\n') {
        ended.extend(reader.read(line).into_iter().map(|(id, _)| id));
    }
    for id in CALLS {
        ended.extend(reader.read(answer(id, "good").as_bytes()).into_iter().map(|(id, _)| id));
    }
    ended.sort_unstable();
    assert_eq!(ended, CALLS, "each call ends once");

    // Whatever a result says, it is read; and cut behind its id it still ends its call.
    let line = answer(7, &String::from_utf8_lossy(data));
    assert_eq!(LineReader::new(&[7]).read(line.as_bytes()), [(7, true)]);
    let begin = answer(7, "").find("7,").expect("an id") + 2;
    let cut = begin + data.first().map_or(0, |byte| usize::from(*byte)) % (line.len() - begin);
    assert_eq!(LineReader::new(&[7]).read(&line.as_bytes()[..cut]), [(7, false)], "{cut} of {line}");
});
