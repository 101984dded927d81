//! The arguments of a tool, from the words of a command line.

use serde_json::{Map, Value};

/// The arguments of a call, a JSON object.
pub(crate) type Arguments = Map<String, Value>;

/// Returns the argument that the words of the command line become, or `None` if each word is an
/// argument by itself.
pub(crate) fn code_argument(tool: &str) -> Option<&'static str> {
    match tool {
        "bash" => Some("command"),
        "python" => Some("code"),
        _ => None,
    }
}

/// Returns the code for an interpreter. A single word is the code itself. Several words are one shell
/// command, in which each remains one word.
pub(crate) fn code(tool: &str, words: &[String]) -> Result<String, String> {
    match words {
        [code] => Ok(code.clone()),
        words if tool == "bash" => {
            let quoted: Vec<String> = words.iter().map(|word| quote_for_shell(word)).collect();
            Ok(quoted.join(" "))
        }
        _ => Err(format!("{tool} takes the whole program as one word: put it in quotes")),
    }
}

/// Quotes a word for a shell, if necessary.
fn quote_for_shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Splits `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ if text.starts_with('-') => Err(format!(
            "`{text}` must have the form KEY=VALUE; options of callpark stand before the input of \
             the tool"
        )),
        _ => Err(format!("`{text}` must have the form KEY=VALUE")),
    }
}

/// Parses a JSON object.
pub(crate) fn object(text: &str) -> Result<Arguments, String> {
    let expected = "the arguments must be one JSON object such as {\"key\": 1}";
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(expected.to_owned()),
        Err(error) => Err(format!("{expected}: {error}")),
    }
}

/// Adds an argument.
///
/// # Errors
///
/// If the argument is present already.
pub(crate) fn add(arguments: &mut Arguments, key: String, value: Value) -> Result<(), String> {
    if arguments.contains_key(&key) {
        return Err(format!("the argument `{key}` is given twice: give it once"));
    }
    arguments.insert(key, value);
    Ok(())
}

/// Returns the value of an argument that was given as text: the text itself if the tool's schema
/// takes a text or if it is not JSON, else the JSON value.
pub(crate) fn typed(schema: &Value, key: &str, text: &str) -> Value {
    if takes_text(schema, key) {
        return Value::String(text.to_owned());
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn takes_text(schema: &Value, key: &str) -> bool {
    let declared = schema.get("properties").and_then(|properties| properties.get(key));
    match declared.and_then(|property| property.get("type")) {
        Some(Value::String(one)) => one == "string",
        Some(Value::Array(several)) => several.iter().any(|one| one == "string"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn one_word_is_code() {
        assert_eq!(code("bash", &words(&["make test | tee log"])).unwrap(), "make test | tee log");
        assert_eq!(code("python", &words(&["print('x')"])).unwrap(), "print('x')");
    }

    #[test]
    fn several_words_are_one_command() {
        let given = words(&["grep", "-c", "a  b", "it's", "", "$HOME"]);
        assert_eq!(code("bash", &given).unwrap(), r"grep -c 'a  b' 'it'\''s' '' '$HOME'");
        assert!(code("python", &words(&["print(1)", "x"])).unwrap_err().contains("quotes"));
    }

    #[test]
    fn pairs_have_a_key() {
        assert_eq!(pair("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert_eq!(pair("a=").unwrap(), ("a".to_owned(), String::new()));
        assert!(pair("=b").is_err());
        assert!(pair("make test").unwrap_err().contains("KEY=VALUE"));
    }

    #[test]
    fn the_schema_decides_which_values_are_texts() {
        let schema = json!({ "properties": {
            "name": { "type": "string" },
            "maybe": { "type": ["null", "string"] },
            "count": { "type": "integer" },
            "any": {},
        }});
        assert_eq!(typed(&schema, "name", "1"), json!("1"));
        assert_eq!(typed(&schema, "maybe", "null"), json!("null"));
        assert_eq!(typed(&schema, "count", "1"), json!(1));
        assert_eq!(typed(&schema, "any", "[1, {}]"), json!([1, {}]));
        assert_eq!(typed(&schema, "unknown", "true"), json!(true));
        assert_eq!(typed(&schema, "unknown", "on"), json!("on"));
        assert_eq!(typed(&Value::Null, "any", "x"), json!("x"));
    }

    #[test]
    fn arguments_are_one_object() {
        assert_eq!(object("{\"a\": 1}").unwrap()["a"], json!(1));
        assert!(object("[1]").unwrap_err().contains("one JSON object"));
        assert!(object("{").unwrap_err().contains("line 1"));
    }

    #[test]
    fn no_argument_is_given_twice() {
        let mut arguments = object("{\"a\": 1}").unwrap();
        assert!(add(&mut arguments, "b".into(), json!(2)).is_ok());
        assert!(add(&mut arguments, "a".into(), json!(2)).unwrap_err().contains("`a`"));
    }
}
