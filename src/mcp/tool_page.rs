//! One page of the list of a server's tools, read tool by tool. `tool_list` fetches the pages.
//!
//! The `_meta` of a tool, which rmcp carries to `tool_list`, has notes on the odd parts of it; that of
//! the page has the number of entries that are no tools.

use rmcp::model::{ListToolsResult, MetaObject, Tool};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::excerpt::excerpt;

/// The key of the notes in `_meta`. A server cannot write them: its own are removed.
const NOTES: &str = "callpark/notes";

/// The key of a tool that can be called as a task only, by the protocol of 2025-11-25. rmcp knows
/// nothing of it.
const NEEDS_TASK: &str = "callpark/needs-task";

/// The entries of a page that are described. Further ones are counted.
const DESCRIBED_MAX: usize = 3;

/// Reads a page of tools. The error is the end of a sentence.
pub(super) fn read(page: Value) -> Result<ListToolsResult, String> {
    let mut page = match page {
        Value::Object(page) => page,
        // The list without its frame.
        Value::Array(_) => Map::from_iter([("tools".to_owned(), page)]),
        other => return Err(invalid(&other)),
    };
    let items = match page.remove("tools") {
        Some(Value::Array(items)) => items,
        // An empty list, as some languages write it.
        Some(Value::Null) => Vec::new(),
        // A map of tools by their names.
        Some(Value::Object(tools)) => tools.into_iter().map(named).collect(),
        Some(other) => return Err(invalid(&other)),
        None => return Err(invalid(&Value::Object(page))),
    };
    let mut odd = Vec::new();
    let tools: Vec<Tool> = items
        .into_iter()
        .filter_map(|item| match tool(item) {
            Ok(tool) => Some(tool),
            Err(item) => {
                odd.push(item);
                None
            }
        })
        .collect();
    let mut read = ListToolsResult::with_all_items(tools);
    let mut notes = Vec::new();
    if !odd.is_empty() {
        let words: Vec<String> = odd.iter().take(DESCRIBED_MAX).map(excerpt_of).collect();
        let entries = if odd.len() == 1 {
            "entry of its list is no tool"
        } else {
            "entries of its list are no tools"
        };
        notes.push(format!("{} {entries}: {}", odd.len(), words.join(", ")));
    }
    read.next_cursor = match page.remove("nextCursor") {
        Some(Value::String(cursor)) if !cursor.is_empty() => Some(cursor),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::Null | Value::String(_)) | None => None,
        Some(other) => {
            notes.push(format!("the tools after a cursor that is no text: {}", excerpt_of(&other)));
            None
        }
    };
    read.meta = meta_of(notes);
    Ok(read)
}

/// Returns the notes in a `_meta`.
pub(super) fn notes(meta: Option<&MetaObject>) -> Vec<String> {
    let notes = meta.and_then(|meta| meta.0.get(NOTES)).and_then(Value::as_array);
    let texts = notes.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// Returns `true` for a tool that can be called as a task only, by the protocol of 2025-11-25.
pub(super) fn needs_task(tool: &Tool) -> bool {
    tool.meta.as_ref().is_some_and(|meta| meta.0.contains_key(NEEDS_TASK))
}

fn meta_of(notes: Vec<String>) -> Option<MetaObject> {
    let notes = (!notes.is_empty()).then(|| (NOTES.to_owned(), json!(notes)))?;
    Some(MetaObject(Map::from_iter([notes])))
}

fn named((name, mut tool): (String, Value)) -> Value {
    if let Value::Object(tool) = &mut tool {
        tool.entry("name").or_insert(json!(name));
    }
    tool
}

fn invalid(page: &Value) -> String {
    format!("its answer is not a valid list of tools: {}", excerpt_of(page))
}

fn excerpt_of(value: &Value) -> String {
    excerpt(&value.to_string())
}

/// Reads a tool. Returns the entry if it is none.
fn tool(item: Value) -> Result<Tool, Value> {
    let mut notes = Vec::new();
    let mut tool = match (Tool::deserialize(&item), &item) {
        (Ok(tool), _) => tool,
        (Err(_), Value::Object(object)) if object.get("name").is_some_and(Value::is_string) => {
            let simple = Value::Object(simplified(object, &mut notes));
            Tool::deserialize(&simple).map_err(|_| item.clone())?
        }
        (Err(_), _) => return Err(item),
    };
    tool.meta = meta_of(notes);
    let support = item.get("execution").and_then(|execution| execution.get("taskSupport"));
    if support.is_some_and(|support| support == "required") {
        tool.meta.get_or_insert_default().0.insert(NEEDS_TASK.to_owned(), json!(true));
    }
    Ok(tool)
}

/// Returns a tool without the fields that cannot be read, with a note on each.
fn simplified(tool: &Map<String, Value>, notes: &mut Vec<String>) -> Map<String, Value> {
    let name = tool.get("name").cloned().unwrap_or_default();
    let mut simple = Map::from_iter([
        ("name".to_owned(), name),
        ("inputSchema".to_owned(), schema(tool, notes)),
    ]);
    for key in ["title", "description", "outputSchema", "annotations", "icons"] {
        let Some(value) = tool.get(key).filter(|value| !value.is_null()) else { continue };
        let value = match value {
            Value::Object(hints) if key == "annotations" => {
                Value::Object(annotations(hints, notes))
            }
            Value::Number(_) | Value::Bool(_) if key == "description" => json!(value.to_string()),
            other => other.clone(),
        };
        let mut tried = simple.clone();
        tried.insert(key.to_owned(), value);
        match Tool::deserialize(&Value::Object(tried.clone())) {
            Ok(_) => simple = tried,
            Err(_) => notes.push(unusable(key, tool.get(key))),
        }
    }
    simple
}

/// Returns the schema of the arguments, or one of any object.
fn schema(tool: &Map<String, Value>, notes: &mut Vec<String>) -> Value {
    let schemas = ["inputSchema", "input_schema", "parameters"].map(|key| tool.get(key));
    match schemas.into_iter().flatten().find(|schema| !schema.is_null()) {
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(odd) => {
            notes.push(unusable("inputSchema", Some(odd)));
            json!({ "type": "object" })
        }
        None => {
            notes.push("it has no `inputSchema`: it gets any arguments".to_owned());
            json!({ "type": "object" })
        }
    }
}

/// Returns the hints that can be read.
fn annotations(hints: &Map<String, Value>, notes: &mut Vec<String>) -> Map<String, Value> {
    let mut readable = Map::new();
    for (key, value) in hints {
        let fits = match key.as_str() {
            "title" => value.is_string(),
            hint if hint.ends_with("Hint") => value.is_boolean(),
            _ => false,
        };
        match fits {
            true => drop(readable.insert(key.clone(), value.clone())),
            false if value.is_null() || !(key == "title" || key.ends_with("Hint")) => {}
            false => notes.push(unusable(key, Some(value))),
        }
    }
    readable
}

fn unusable(key: &str, value: Option<&Value>) -> String {
    format!("its `{key}` cannot be used: {}", value.map(excerpt_of).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Value {
        json!({ "name": "echo", "inputSchema": { "type": "object" } })
    }

    /// Reads a page of a good tool and this entry.
    fn read_with(entry: Value) -> ListToolsResult {
        let page = read(json!({ "tools": [good(), entry] })).unwrap();
        assert_eq!(page.tools[0].name, "echo");
        page
    }

    #[test]
    fn an_odd_tool_is_read_with_notes() {
        for (odd, expected) in [
            (json!({}), "no `inputSchema`"),
            (json!({ "inputSchema": null }), "no `inputSchema`"),
            (json!({ "inputSchema": true }), "`inputSchema` cannot be used: true"),
            (json!({ "inputSchema": "zork" }), "`inputSchema` cannot be used: \"zork\""),
            (
                json!({ "annotations": { "readOnlyHint": "true" } }),
                "`readOnlyHint` cannot be used: \"true\"",
            ),
            (json!({ "annotations": 7 }), "`annotations` cannot be used: 7"),
            (json!({ "outputSchema": true }), "`outputSchema` cannot be used: true"),
            (json!({ "description": ["x"] }), "`description` cannot be used: [\"x\"]"),
            (json!({ "icons": "x" }), "`icons` cannot be used: \"x\""),
        ] {
            let mut entry = json!({ "name": "odd", "inputSchema": { "type": "object" } });
            let (Value::Object(entry_fields), Value::Object(odd_fields)) = (&mut entry, &odd)
            else {
                panic!("{odd}");
            };
            if odd_fields.is_empty() {
                entry_fields.remove("inputSchema");
            }
            entry_fields.extend(odd_fields.clone());
            let page = read_with(entry);
            let notes = notes(page.tools[1].meta.as_ref());
            assert!(notes.len() == 1 && notes[0].contains(expected), "{odd}: {notes:?}");
        }
    }

    #[test]
    fn fields_that_are_null_or_plain_are_no_oddity() {
        let mut entry = json!({ "name": "odd", "description": 7, "title": null, "annotations": null,
            "inputSchema": { "type": "object" }, "outputSchema": null, "_meta": 7, "x": 1 });
        entry["annotations"] = json!({ "readOnlyHint": true, "title": null, "x": "y" });
        let page = read_with(entry);
        let tool = &page.tools[1];
        assert_eq!(tool.description.as_deref(), Some("7"));
        assert_eq!(tool.annotations.as_ref().unwrap().read_only_hint, Some(true));
        assert_eq!(notes(tool.meta.as_ref()), [""; 0]);
    }

    #[test]
    fn entries_that_are_no_tools_are_counted() {
        let odd = vec![json!(null), json!(7), json!({ "inputSchema": {} }), json!({ "name": 7 })];
        let mut items = vec![good()];
        items.extend(odd);
        let page = read(json!({ "tools": items })).unwrap();
        assert_eq!(page.tools.len(), 1);
        let notes = notes(page.meta.as_ref());
        assert_eq!(notes, [r#"4 entries of its list are no tools: null, 7, {"inputSchema":{}}"#]);
    }

    #[test]
    fn a_list_without_its_frame_is_read() {
        for page in [json!([good()]), json!({ "tools": { "echo": { "inputSchema": {} } } })] {
            assert_eq!(read(page.clone()).unwrap().tools[0].name, "echo", "{page}");
        }
        assert!(read(json!({ "tools": null })).unwrap().tools.is_empty());
        for page in [json!({}), json!("zork"), json!({ "tools": 7 })] {
            assert!(
                read(page.clone()).unwrap_err().contains("not a valid list of tools"),
                "{page}"
            );
        }
    }

    #[test]
    fn a_cursor_is_read_in_every_form() {
        for (cursor, expected) in [
            (json!("x"), Some("x")),
            (json!(7), Some("7")),
            (json!(""), None),
            (json!(null), None),
            (json!({}), None),
        ] {
            let page = read(json!({ "tools": [], "nextCursor": cursor })).unwrap();
            assert_eq!(page.next_cursor.as_deref(), expected, "{cursor}");
        }
    }

    #[test]
    fn a_tool_that_needs_a_task_is_known() {
        let mut entry = good();
        entry["execution"] = json!({ "taskSupport": "required" });
        assert!(needs_task(&read_with(entry.clone()).tools[1]));
        entry["execution"] = json!({ "taskSupport": "optional" });
        assert!(!needs_task(&read_with(entry).tools[1]));
    }

    #[test]
    fn a_server_cannot_write_notes() {
        let mut entry = good();
        entry["_meta"] = json!({ NOTES: ["forged"] });
        let page = read_with(entry);
        assert_eq!(notes(page.tools[1].meta.as_ref()), [""; 0]);
    }
}
