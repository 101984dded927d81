//! Templates of a command tool: text with placeholders for arguments.
//!
//! `{name}` is the value of an argument: a string as it is, anything else as compact JSON. `{{`
//! and `}}` are braces. A text that names an absent argument, or one that is null, is omitted.
//! `{name...}` must stand alone. It becomes one element for each item of an array.

use serde_json::Value;

use super::Arguments;
use super::values::ArgumentErrors;

/// A parsed element of an argv, or a standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Template {
    /// A text with placeholders.
    Text(Vec<Piece>),
    /// A placeholder that becomes one element for each item of an array.
    Spread(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(String),
    /// A placeholder for the value of an argument.
    Value(String),
}

impl Template {
    /// Parses a template. The error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (literal, from) = rest.split_at(at);
            push_literal(&mut pieces, literal);
            rest = if let Some(after) = from.strip_prefix("{{") {
                push_literal(&mut pieces, "{");
                after
            } else if let Some(after) = from.strip_prefix("}}") {
                push_literal(&mut pieces, "}");
                after
            } else {
                let (name, after) = placeholder(from)?;
                pieces.push(Piece::Value(name.to_owned()));
                after
            };
        }
        push_literal(&mut pieces, rest);
        Self::of(pieces)
    }

    fn of(pieces: Vec<Piece>) -> Result<Self, String> {
        let spread = pieces.iter().find_map(|piece| match piece {
            Piece::Value(name) => name.strip_suffix("..."),
            Piece::Literal(_) => None,
        });
        match spread {
            None => Ok(Self::Text(pieces)),
            Some(name) if pieces.len() == 1 => Ok(Self::Spread(name.to_owned())),
            Some(name) => Err(format!(
                "`{{{name}...}}` becomes several elements, so nothing may stand beside it"
            )),
        }
    }

    /// Returns the names of the arguments in it.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::Spread(name) => vec![name],
            Self::Text(pieces) => pieces.iter().filter_map(Piece::name).collect(),
        }
    }

    /// Returns the elements of argv. A value that cannot be passed to a program is an error.
    pub(super) fn render(&self, arguments: &Arguments, errors: &mut ArgumentErrors) -> Vec<String> {
        match self {
            Self::Text(pieces) => render_text(pieces, arguments, errors).into_iter().collect(),
            Self::Spread(name) => render_items(name, arguments, errors),
        }
    }
}

impl Piece {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::Value(name) => Some(name),
        }
    }
}

fn render_text(
    pieces: &[Piece],
    arguments: &Arguments,
    errors: &mut ArgumentErrors,
) -> Option<String> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Value(name) => {
                let value = text_of(arguments.get(name).filter(|value| !value.is_null())?);
                errors.check_nul(name, &value);
                text.push_str(&value);
            }
        }
    }
    Some(text)
}

fn render_items(name: &str, arguments: &Arguments, errors: &mut ArgumentErrors) -> Vec<String> {
    let items = match arguments.get(name) {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => {
            errors.add(name, "must be of type array");
            return Vec::new();
        }
    };
    let texts: Vec<String> = items.iter().map(text_of).collect();
    for (index, text) in texts.iter().enumerate() {
        let path = format!("{name}[{index}]");
        errors.check_nul(&path, text);
        errors.check_length(&path, text.len());
    }
    texts
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Literal(before)) => before.push_str(text),
        _ => pieces.push(Piece::Literal(text.to_owned())),
    }
}

/// Splits `{name} and more` into the name and the rest.
fn placeholder(text: &str) -> Result<(&str, &str), String> {
    let Some(inside) = text.strip_prefix('{') else {
        return Err("there is a `}` without its `{`: write a literal one as `}}`".to_owned());
    };
    match inside.split_once('}') {
        Some((name, after)) if !name.is_empty() && !name.contains('{') => Ok((name, after)),
        Some(_) => Err("there is a `{` without the name of an argument: write a literal one as \
                        `{{`"
            .to_owned()),
        None => Err("there is a `{` without its `}`: write a literal one as `{{`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str, arguments: Value) -> Vec<String> {
        let mut errors = ArgumentErrors::default();
        let template = Template::parse(template).unwrap();
        let rendered = template.render(arguments.as_object().unwrap(), &mut errors);
        errors.finish(rendered).unwrap()
    }

    #[test]
    fn placeholders_become_values() {
        let arguments = json!({
            "s": "a b", "n": 1.5, "b": true, "o": { "k": [1] }, "list": ["x", 2, null], "no": null,
        });
        for (template, expected) in [
            ("plain", vec!["plain"]),
            ("", vec![""]),
            ("{s}", vec!["a b"]),
            ("--s={s}/{n}", vec!["--s=a b/1.5"]),
            ("{b}{o}", vec![r#"true{"k":[1]}"#]),
            ("{list}", vec![r#"["x",2,null]"#]),
            ("{list...}", vec!["x", "2", "null"]),
            ("{{s}} }}{{{s}}}", vec!["{s} }{a b}"]),
            ("{gone}", vec![]),
            ("--gone={gone}", vec![]),
            ("{no}", vec![]),
            ("{gone...}", vec![]),
        ] {
            assert_eq!(render(template, arguments.clone()), expected, "{template}");
        }
    }

    #[test]
    fn values_are_not_templates() {
        assert_eq!(render("{s}", json!({ "s": "{t}$(id)", "t": "x" })), ["{t}$(id)"]);
    }

    #[test]
    fn bad_templates_are_refused() {
        for template in ["{", "}", "{}", "a{b", "a}b", "{a{b}}", "x{list...}", "{a...}{b}"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }

    #[test]
    fn errors_name_the_argument() {
        let mut errors = ArgumentErrors::default();
        let arguments = json!({ "s": "\0", "list": ["a", "\0"], "n": 1 });
        for template in ["-{s}", "{list...}", "{n...}"] {
            let template = Template::parse(template).unwrap();
            template.render(arguments.as_object().unwrap(), &mut errors);
        }
        let errors = errors.finish(()).unwrap_err();
        let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["s", "list[1]", "n"]);
    }
}
