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
        Ok(Value::Object(object)) => check_numbers(text).map(|()| object),
        Ok(_) => Err(expected.to_owned()),
        Err(error) => Err(format!("{expected}: {error}")),
    }
}

/// The largest whole number up to which every one is a double of its own.
const EXACT_MAX: u128 = 1 << 53;

/// Checks that a server receives the whole numbers in a JSON text as they are.
///
/// # Errors
///
/// The first number that would arrive as another one.
fn check_numbers(json: &str) -> Result<(), String> {
    let is_of_number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let mut rest = json;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = &rest[at..];
        if let Some(inside) = rest.strip_prefix('"') {
            rest = behind_string(inside);
            continue;
        }
        let end = rest.find(|c| !is_of_number(c)).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(end);
        let digits = number.trim_start_matches('-');
        let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_whole && digits.parse().map_or(true, |value: u128| value > EXACT_MAX) {
            return Err(format!(
                "the whole number {number} is beyond {EXACT_MAX} (2^53) and would arrive as another \
                 one, because the contract carries numbers as doubles: put it in double quotes, as \
                 text, where the tool takes text"
            ));
        }
        rest = behind;
    }
    Ok(())
}

/// Returns what follows the closing quote of a JSON string.
fn behind_string(inside: &str) -> &str {
    let mut is_escaped = false;
    let end = inside.find(|c| {
        if std::mem::take(&mut is_escaped) {
            return false;
        }
        is_escaped = c == '\\';
        c == '"'
    });
    end.map_or("", |end| &inside[end + 1..])
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
///
/// # Errors
///
/// If the value has a number that cannot be sent exactly.
pub(crate) fn typed(schema: &Value, key: &str, text: &str) -> Result<Value, String> {
    if takes_text(schema, key) {
        return Ok(Value::String(text.to_owned()));
    }
    match serde_json::from_str(text) {
        Ok(value) => check_numbers(text)
            .map(|()| value)
            .map_err(|error| format!("the argument `{key}`: {error}")),
        Err(_) => Ok(Value::String(text.to_owned())),
    }
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
        let typed = |key, text| typed(&schema, key, text).unwrap();
        assert_eq!(typed("name", "1"), json!("1"));
        assert_eq!(typed("maybe", "null"), json!("null"));
        assert_eq!(typed("count", "1"), json!(1));
        assert_eq!(typed("any", "[1, {}]"), json!([1, {}]));
        assert_eq!(typed("unknown", "true"), json!(true));
        assert_eq!(typed("unknown", "on"), json!("on"));
        assert_eq!(super::typed(&Value::Null, "any", "x"), Ok(json!("x")));
        assert_eq!(typed("name", "9007199254740993"), json!("9007199254740993"));
    }

    #[test]
    fn a_number_that_would_change_on_its_way_is_refused() {
        for number in
            ["9007199254740993", "-9223372036854775807", "99999999999999999999999", &"9".repeat(60)]
        {
            for text in [
                format!("{{\"id\": {number}}}"),
                format!("{{\"say \\\"1\\\\\": [1, {{\"id\":{number}}}]}}"),
                format!("{{\"t\":\"a\\nb\",\"id\":{number}}}"),
                format!("{{\"t\":\"\\u00e9\\\\\\t\",\"id\":{number}}}"),
            ] {
                let error = object(&text).unwrap_err();
                assert!(error.contains(&format!("number {number} is beyond")), "{error}");
            }
            let error = typed(&Value::Null, "id", number).unwrap_err();
            assert!(error.starts_with("the argument `id`: the whole number"), "{error}");
        }
    }

    #[test]
    fn numbers_that_arrive_as_they_are_pass() {
        for number in [
            "9007199254740992",
            "-9007199254740992",
            "0",
            "1e300",
            "12345678901234567890.5",
            "\"9007199254740993\"",
            "\"\\\\\"",
            "\"a 9007199254740993 \\\" 9007199254740993\"",
        ] {
            object(&format!("{{\"id\": {number}, \"n\": [1, 2]}}")).unwrap();
        }
        for text in [
            r#"{"t":"a\nb","f":"-v"}"#,
            r#"{"t":"a\nb","id":"1234567890123456789"}"#,
            r#"{"t":"\u00e9\\","id":"-1234567890123456789","f":"-"}"#,
        ] {
            object(text).unwrap();
        }
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
