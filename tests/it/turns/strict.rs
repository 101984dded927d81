//! The rules of all chat endpoints together: what any of the known ones refuses is refused here.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Map, Value};

/// Returns the reason for which an endpoint refuses a request, or `None` if all of them accept it.
pub(crate) fn refusal(request: &Value) -> Option<String> {
    check(request).err()
}

type Checked = Result<(), String>;

fn ensure(holds: bool, words: &str, value: &Value) -> Checked {
    if holds { Ok(()) } else { Err(format!("{words}: {value}")) }
}

fn check(request: &Value) -> Checked {
    let messages = request["messages"].as_array().ok_or("messages must be a list")?;
    check_messages(messages)?;
    let tools = request.get("tools");
    for field in ["tool_choice", "parallel_tool_calls"] {
        ensure(
            request.get(field).is_none() || tools.is_some(),
            "only allowed with tools",
            &field.into(),
        )?;
    }
    let Some(tools) = tools else { return Ok(()) };
    let tools = tools.as_array().filter(|tools| !tools.is_empty()).ok_or("tools is empty")?;
    let mut names = BTreeSet::new();
    for tool in tools {
        ensure(tool["type"] == "function", "type must be function", tool)?;
        let function = &tool["function"];
        check_name(&function["name"])?;
        ensure(names.insert(function["name"].as_str()), "names of tools must be unique", tool)?;
        ensure(function["description"].is_string(), "description must be a text", tool)?;
        check_parameters(&function["parameters"])?;
    }
    Ok(())
}

/// Checks a name by the rule of Gemini, which is the strictest.
fn check_name(name: &Value) -> Checked {
    let text = name.as_str().unwrap_or_default();
    let is_accepted = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    ensure(begins && text.len() <= 64 && text.chars().all(is_accepted), "invalid name", name)
}

fn check_messages(messages: &[Value]) -> Checked {
    let mut last = "system";
    let mut ids = BTreeSet::new();
    let mut open = VecDeque::new();
    for (index, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        ensure(role == "tool" || open.is_empty(), "a call is not answered", message)?;
        let may_follow = match role {
            "system" => index == 0,
            "user" => matches!(last, "system" | "assistant"),
            "assistant" => matches!(last, "user" | "tool"),
            "tool" => !open.is_empty(),
            _ => false,
        };
        ensure(may_follow, &format!("Unexpected role '{role}' after role '{last}'"), message)?;
        let calls = message.get("tool_calls");
        match calls {
            Some(calls) => {
                let calls =
                    calls.as_array().filter(|calls| role == "assistant" && !calls.is_empty());
                for call in calls.ok_or("tool_calls must be a list of an assistant's calls")? {
                    open.push_back(check_call(call, &mut ids)?);
                }
                let content = &message["content"];
                ensure(
                    content.is_null() || is_text(content),
                    "content must not be blank",
                    message,
                )?;
            }
            None => check_content(role, &message["content"])?,
        }
        if role == "tool" {
            let id = message["tool_call_id"].as_str();
            ensure(
                id == open.pop_front().as_deref(),
                "results must be in order of calls",
                message,
            )?;
        }
        last = role;
    }
    ensure(open.is_empty() && matches!(last, "user" | "tool"), "Unexpected last role", &last.into())
}

fn check_call(call: &Value, ids: &mut BTreeSet<String>) -> Result<String, String> {
    let id = call["id"].as_str().filter(|id| !id.is_empty()).ok_or("a call must have an id")?;
    ensure(ids.insert(id.to_owned()), "Duplicate value for 'tool_call_id'", call)?;
    ensure(call["type"] == "function", "type must be function", call)?;
    check_name(&call["function"]["name"])?;
    let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
    let is_object = serde_json::from_str::<Map<String, Value>>(arguments).is_ok();
    ensure(is_object, "function.arguments must be a JSON object", call)?;
    Ok(id.to_owned())
}

fn is_text(content: &Value) -> bool {
    content.as_str().is_some_and(|text| !text.trim().is_empty())
}

/// Checks the content of a message. A list is only for what a text can't hold.
fn check_content(role: &str, content: &Value) -> Checked {
    let Value::Array(parts) = content else {
        return ensure(is_text(content), &format!("{role}: content must not be blank"), content);
    };
    let is_image = |part: &Value| {
        let url = part["image_url"]["url"].as_str().unwrap_or_default();
        part["type"] == "image_url" && url.starts_with("data:image/") && url.contains(";base64,")
    };
    let is_valid =
        |part: &Value| is_image(part) || part["type"] == "text" && is_text(&part["text"]);
    ensure(role == "user" && parts.iter().any(is_image), "content must be a string", content)?;
    ensure(parts.iter().all(is_valid), "content has an invalid part", content)
}

fn check_parameters(schema: &Value) -> Checked {
    ensure(schema["type"] == "object", "schema must have type 'object'", schema)?;
    for keyword in ["oneOf", "anyOf", "allOf", "enum", "not", "$ref", "$schema"] {
        let is_absent = schema.get(keyword).is_none();
        ensure(is_absent, &format!("schema must not have '{keyword}' at the top level"), schema)?;
    }
    ensure(jsonschema::meta::is_valid(schema), "not a JSON Schema", schema)?;
    check_schema(schema)
}

/// Checks a schema and those in it.
fn check_schema(schema: &Value) -> Checked {
    match schema {
        Value::Object(keywords) => {
            let is = |kind: &str| schema["type"] == kind;
            ensure(
                !is("object") || schema["properties"].is_object(),
                "object schema missing properties",
                schema,
            )?;
            ensure(
                !is("array") || schema["items"].is_object(),
                "array schema missing items",
                schema,
            )?;
            keywords.values().try_for_each(check_schema)
        }
        Value::Array(values) => values.iter().try_for_each(check_schema),
        _ => Ok(()),
    }
}
