//! The result of a call, read block by block: one that is not valid is replaced by a note.

use rmcp::model::{CallToolResult, ContentBlock, ServerResult};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::excerpt::excerpt;

/// Reads the result of a call. The error is the end of a sentence.
pub(super) fn read(result: Value) -> Result<ServerResult, String> {
    let mut object = match result {
        Value::Null => return Ok(ServerResult::empty(())),
        Value::Object(object) => object,
        // The content without its frame.
        Value::String(_) => Map::from_iter([("content".to_owned(), result)]),
        Value::Array(ref items) if !items.is_empty() && items.iter().all(is_block) => {
            Map::from_iter([("content".to_owned(), result)])
        }
        other => return Err(invalid(&other)),
    };
    let is_complete = match object.get("resultType") {
        Some(Value::String(kind)) => kind == "complete" || kind.is_empty(),
        Some(_) | None => true,
    };
    if !is_complete {
        return Ok(any(Value::Object(object)));
    }
    let content = take(&mut object, &["content"]);
    let structured = take(&mut object, &["structuredContent", "structured_content", "toolResult"]);
    let is_error = take(&mut object, &["isError", "is_error"]);
    if content.is_none() && structured.is_none() && is_error.is_none() {
        let is_bare = object.keys().all(|key| ["resultType", "_meta"].contains(&key.as_str()));
        return match is_bare {
            true => Ok(ServerResult::empty(())),
            false => Err(invalid(&Value::Object(object))),
        };
    }
    let blocks = match content {
        None => Vec::new(),
        Some(Value::Array(items)) => items.into_iter().map(block).collect(),
        Some(one @ (Value::Object(_) | Value::String(_))) => vec![block(one)],
        Some(other) if structured.is_none() => {
            return Err(invalid(&json!({ "content": other })));
        }
        Some(other) => vec![note(&other)],
    };
    let mut read = CallToolResult::success(blocks);
    read.structured_content = structured;
    read.is_error = Some(is_error.is_some_and(|flag| is_true(&flag)));
    Ok(ServerResult::CallToolResult(read))
}

/// Reads a result whose form the caller checks.
pub(super) fn any(result: Value) -> ServerResult {
    if result.is_null() {
        return ServerResult::empty(());
    }
    let custom = || ServerResult::CustomResult(rmcp::model::CustomResult::new(result.clone()));
    ServerResult::deserialize(&result).unwrap_or_else(|_| custom())
}

/// Returns the first of these fields that is not null.
fn take(object: &mut Map<String, Value>, keys: &[&str]) -> Option<Value> {
    keys.iter().find_map(|key| object.remove(*key).filter(|value| !value.is_null()))
}

fn is_block(item: &Value) -> bool {
    item.get("type").is_some_and(Value::is_string)
}

fn is_true(flag: &Value) -> bool {
    match flag {
        Value::Bool(flag) => *flag,
        Value::String(text) => text.eq_ignore_ascii_case("true") || text == "1",
        Value::Number(number) => number.as_f64() != Some(0.0),
        _ => false,
    }
}

fn invalid(result: &Value) -> String {
    format!("its answer is not a valid MCP result: {}", excerpt(&result.to_string()))
}

fn note(block: &Value) -> ContentBlock {
    let words = excerpt(&block.to_string());
    ContentBlock::text(format!("[content that is not valid MCP content was left out: {words}]"))
}

fn block(item: Value) -> ContentBlock {
    if let Ok(block) = ContentBlock::deserialize(&item) {
        return block;
    }
    match item {
        Value::String(text) => ContentBlock::text(text),
        Value::Object(ref object) => {
            let simple = simplified(object.clone());
            ContentBlock::deserialize(&Value::Object(simple)).unwrap_or_else(|_| note(&item))
        }
        other => note(&other),
    }
}

/// Returns a block without its odd optional fields, and with the required ones as far as they are
/// beyond doubt.
fn simplified(mut block: Map<String, Value>) -> Map<String, Value> {
    block.retain(|_, value| !value.is_null());
    for key in ["annotations", "_meta", "icons", "size"] {
        block.remove(key);
    }
    if !block.contains_key("type") && block.get("text").is_some_and(Value::is_string) {
        block.insert("type".to_owned(), json!("text"));
    }
    match block.get("type").and_then(Value::as_str).map(str::to_lowercase).as_deref() {
        Some("text") => {
            block.insert("type".to_owned(), json!("text"));
            let scalar = block.get("text").filter(|text| text.is_number() || text.is_boolean());
            if let Some(text) = scalar.map(ToString::to_string) {
                block.insert("text".to_owned(), json!(text));
            }
        }
        Some("image") => {
            let media_type =
                take(&mut block, &["mimeType", "mime_type", "mediaType", "media_type"])
                    .or_else(|| Some(json!(picture_type(block.get("data")?.as_str()?)?)));
            block.extend(media_type.map(|media_type| ("mimeType".to_owned(), media_type)));
        }
        Some("resource_link") if !block.contains_key("name") => {
            let name = block.get("title").or(block.get("uri")).cloned();
            block.extend(name.map(|name| ("name".to_owned(), name)));
        }
        // The resource without its frame.
        Some("resource") if !block.contains_key("resource") && block.contains_key("uri") => {
            let resource = std::mem::take(&mut block);
            block.insert("type".to_owned(), json!("resource"));
            block.insert("resource".to_owned(), Value::Object(resource));
        }
        _ => {}
    }
    block
}

/// Returns the media type of a picture by the beginning of its base64.
fn picture_type(base64: &str) -> Option<&'static str> {
    const BEGINNINGS: [(&str, &str); 4] = [
        ("iVBORw0KGgo", "image/png"),
        ("/9j/", "image/jpeg"),
        ("R0lGOD", "image/gif"),
        ("UklGR", "image/webp"),
    ];
    let found = BEGINNINGS.iter().find(|(beginning, _)| base64.starts_with(beginning));
    found.map(|(_, media_type)| *media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(result: Value) -> Value {
        match read(result).unwrap() {
            ServerResult::CallToolResult(result) => serde_json::to_value(result.content).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn only(block: Value) -> Value {
        content(json!({ "content": [block] }))[0].take()
    }

    #[test]
    fn an_odd_block_costs_only_itself() {
        let good = json!({ "type": "text", "text": "the work is done" });
        for odd in [
            json!({ "type": "json", "json": { "zork": 1 } }),
            json!({ "type": "image", "data": "zork" }),
            json!({ "type": "text", "text": null, "zork": 1 }),
            json!({ "type": 7, "zork": 1 }),
            json!({ "zork": 1 }),
            json!(["zork"]),
        ] {
            let content = content(json!({ "content": [good, odd, good] }));
            assert_eq!((&content[0], &content[2]), (&good, &good), "{odd}");
            let note = content[1]["text"].as_str().unwrap();
            assert!(note.contains("left out: ") && note.contains("zork"), "{odd}: {note}");
        }
    }

    #[test]
    fn what_is_beyond_doubt_is_no_oddity() {
        let text = json!({ "type": "text", "text": "x" });
        for block in [
            json!("x"),
            json!({ "text": "x" }),
            json!({ "type": "TEXT", "text": "x" }),
            json!({ "type": "text", "text": "x", "annotations": null, "_meta": [] }),
            json!({ "type": "text", "text": "x", "annotations": { "priority": "high" } }),
        ] {
            assert_eq!(only(block.clone()), text, "{block}");
        }
        assert_eq!(only(json!({ "type": "text", "text": 7 }))["text"], "7");
        let picture = only(json!({ "type": "image", "data": "iVBORw0KGgoAAAA" }));
        assert_eq!(picture["mimeType"], "image/png");
        let link = only(json!({ "type": "resource_link", "uri": "file:///x" }));
        assert_eq!((&link["uri"], &link["name"]), (&json!("file:///x"), &json!("file:///x")));
        let resource = only(json!({ "type": "resource", "uri": "file:///x", "text": "x" }));
        assert_eq!(resource["resource"]["text"], "x");
    }

    #[test]
    fn content_without_its_frame_is_read() {
        let text = json!([{ "type": "text", "text": "x" }]);
        for result in [
            json!("x"),
            json!([{ "type": "text", "text": "x" }]),
            json!({ "content": "x" }),
            json!({ "content": { "type": "text", "text": "x" } }),
            json!({ "content": ["x"], "isError": null, "_meta": 7 }),
        ] {
            assert_eq!(content(result.clone()), text, "{result}");
        }
    }

    #[test]
    fn a_result_that_makes_no_sense_is_an_error_with_its_words() {
        for result in
            [json!(7), json!({ "zork": 7 }), json!({ "content": 7 }), json!([7]), json!([])]
        {
            let reason = read(result.clone()).unwrap_err();
            assert!(reason.contains("not a valid MCP result: "), "{result}: {reason}");
            assert!(reason.contains(&excerpt(&result.to_string())), "{result}: {reason}");
        }
    }

    #[test]
    fn the_flag_of_an_error_is_read_in_every_form() {
        for (flag, expected) in [
            (json!(true), true),
            (json!("true"), true),
            (json!(1), true),
            (json!("no"), false),
            (json!(0), false),
        ] {
            let result = read(json!({ "content": "x", "isError": flag })).unwrap();
            let ServerResult::CallToolResult(result) = result else { panic!("{result:?}") };
            assert_eq!(result.is_error, Some(expected), "{flag}");
        }
    }
}
