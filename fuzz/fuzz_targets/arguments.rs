//! Arguments: to messages and back, and against any schema. No fault repeats a value.
//!
//! The input is a JSON Schema, a NUL, and arguments as JSON.

#![no_main]

use std::sync::Arc;

use callpark::model::{Tool, ToolKind, ToolSource};
use callpark::internals::rpc::fuzzing::{map_from_struct, struct_from_map};
use callpark::tool::{ArgumentError, Arguments, CallContext, CallableTool, Registry, Work};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Stands for every text of the arguments, and must not come back.
const SECRET: &str = "kept-secret-4711";

/// A tool of which only the schema matters.
struct SchemaOnly(Tool);

impl CallableTool for SchemaOnly {
    fn describe(&self) -> &Tool {
        &self.0
    }

    fn prepare(&self, _: &Arguments, _: &CallContext) -> Result<Work, Vec<ArgumentError>> {
        Err(Vec::new())
    }
}

fn registry(input_schema: Value) -> Option<Registry> {
    let tool = Tool {
        destructive: true,
        ..Tool::new("tool", "", input_schema, ToolKind::Command, ToolSource::Config)
    };
    Registry::new(vec![Arc::new(SchemaOnly(tool))]).ok()
}

/// The same value with every text in it replaced.
fn hide(value: &mut Value) {
    match value {
        Value::String(text) => SECRET.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(map) => map.values_mut().for_each(hide),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn check(registry: &Registry, arguments: &Arguments) -> Vec<ArgumentError> {
    let Err(faults) = registry.check("tool", arguments) else { return Vec::new() };
    assert!(!faults.is_empty(), "refused without a fault");
    assert!(faults.iter().all(|fault| !fault.description.is_empty()), "{faults:?}");
    faults
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let schema = parts.next().and_then(|json| serde_json::from_slice::<Value>(json).ok());
    let arguments = parts.next().and_then(|json| serde_json::from_slice::<Value>(json).ok());
    let Some(Value::Object(arguments)) = arguments else { return };
    // Numbers become those of the wire on the first way, and stay the same from then on.
    let Ok(mut arguments) = map_from_struct(struct_from_map(arguments)) else { return };
    let again = map_from_struct(struct_from_map(arguments.clone())).expect("no faults");
    assert_eq!(again, arguments);
    let Some(registry) = schema.and_then(registry) else { return };
    check(&registry, &arguments);
    arguments.values_mut().for_each(hide);
    let told = format!("{:?}", check(&registry, &arguments));
    let is_in_schema = String::from_utf8_lossy(data).contains(SECRET);
    assert!(is_in_schema || !told.contains(SECRET), "{told}");
});
