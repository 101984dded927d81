//! Every place of a request that a caller can fill, found by walking the descriptors.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};

use super::encode::delimited;
use super::table::{Rule, rule_of};

/// A field, or a choice between fields, somewhere in a request.
#[derive(Debug, Clone)]
pub struct Target {
    /// As an error names it: `tool_call.arguments`.
    pub path: String,
    /// The rule of the contract for it.
    pub rule: Rule,
    /// The field itself.
    pub place: Place,
    /// The fields that it lies in, from the outside in.
    parents: Vec<FieldDescriptor>,
}

/// The place of a target in its request.
#[derive(Debug, Clone)]
pub enum Place {
    /// A field.
    Field(FieldDescriptor),
    /// A `oneof`, which can be left unset.
    OneOf(OneofDescriptor),
}

impl Target {
    /// The request without this field, and then with the bytes given in its place.
    pub fn filled(&self, good: &DynamicMessage, bytes: &[u8]) -> Vec<u8> {
        use prost::Message as _;
        let mut request = good.clone();
        self.clear(&mut request);
        let mut whole = request.encode_to_vec();
        // Of a message that comes in two parts the decoder merges the parts.
        let wrap = |inner: Vec<u8>, field: &FieldDescriptor| delimited(field.number(), &inner);
        whole.extend(self.parents.iter().rev().fold(bytes.to_vec(), wrap));
        whole
    }

    fn clear(&self, request: &mut DynamicMessage) {
        let mut message = request;
        for parent in &self.parents {
            if parent.is_list() || !message.has_field(parent) {
                return;
            }
            let inner = message.get_field_mut(parent).as_message_mut();
            message = inner.expect("a message");
        }
        match &self.place {
            Place::Field(field) => message.clear_field(field),
            Place::OneOf(choice) => choice.fields().for_each(|field| message.clear_field(&field)),
        }
    }

    /// The name that a decoder's error has: of a choice it doesn't name the field that was wrong.
    pub fn name(&self) -> String {
        match &self.place {
            Place::OneOf(choice) => choice.name().to_owned(),
            Place::Field(field) => match field.containing_oneof() {
                Some(choice) if !choice.is_synthetic() => choice.name().to_owned(),
                _ => field.name().to_owned(),
            },
        }
    }

    /// The full name of the message that the field holds, if it holds one.
    pub fn message(&self) -> Option<String> {
        let Place::Field(field) = &self.place else { return None };
        field.kind().as_message().map(|message| message.full_name().to_owned())
    }
}

/// All targets of a request. Fields that the table doesn't know are added to `unknown`.
pub fn targets(request: &MessageDescriptor, unknown: &mut Vec<String>) -> Vec<Target> {
    let mut walk = Walk { parents: Vec::new(), found: Vec::new(), unknown };
    walk.message(request);
    walk.found
}

struct Walk<'a> {
    parents: Vec<FieldDescriptor>,
    found: Vec<Target>,
    unknown: &'a mut Vec<String>,
}

impl Walk<'_> {
    fn message(&mut self, message: &MessageDescriptor) {
        for choice in message.oneofs().filter(|choice| !choice.is_synthetic()) {
            let name = choice.name().to_owned();
            self.add(message, &name, Place::OneOf(choice));
        }
        for field in message.fields() {
            let rule = self.add(message, field.name(), Place::Field(field.clone()));
            if matches!(rule, Some(Rule::Attachments { .. } | Rule::Resource)) {
                continue;
            }
            let Some(inner) = walked(&field) else { continue };
            let is_inside_itself = self.parents.iter().any(|parent| parent.kind() == field.kind());
            if !is_inside_itself {
                self.parents.push(field.clone());
                self.message(&inner);
                self.parents.pop();
            }
        }
    }

    fn add(&mut self, message: &MessageDescriptor, name: &str, place: Place) -> Option<Rule> {
        let names = self.parents.iter().map(FieldDescriptor::name).chain([name]);
        let path = names.collect::<Vec<_>>().join(".");
        let Some(rule) = rule_of(&path, message.name(), name) else {
            self.unknown.push(format!("{}.{name}", message.name()));
            return None;
        };
        self.found.push(Target { path, rule, place, parents: self.parents.clone() });
        Some(rule)
    }
}

/// The message inside a field whose own fields are targets. Google's are values, and the entries of
/// maps are made with their map.
fn walked(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let Kind::Message(message) = field.kind() else { return None };
    let is_value = message.full_name().starts_with("google.protobuf.");
    (!is_value && !field.is_map()).then_some(message)
}
