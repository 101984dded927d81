//! The configurations of `docs/models.md`. Each runs a turn against an endpoint that refuses what any
//! provider refuses.

use serde_json::json;

use super::*;

/// Returns the blocks of configuration on the page.
fn blocks() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/models.md");
    let page = std::fs::read_to_string(path).expect("a page");
    let blocks = page.split("```toml\n").skip(1);
    blocks.map(|block| block.split("```").next().expect("an end").to_owned()).collect()
}

/// Returns the value of a key of a block.
fn value<'b>(block: &'b str, key: &str) -> Option<&'b str> {
    let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    line.map(|value| value.trim_matches('"'))
}

#[tokio::test]
async fn every_documented_configuration_runs_a_turn() {
    let mut names = Vec::new();
    for block in blocks() {
        let name = value(&block, "name").expect("a name").to_owned();
        let address = value(&block, "endpoint").expect("an endpoint");
        let (_, place) = address.split_once("://").expect("a scheme");
        let path = place.find('/').map_or("", |start| &place[start..]);
        let bash = ("a-long-id-of-a-call", "bash", json!({ "command": "echo four" }));
        let endpoint = Endpoint::new(vec![calls(&[bash]), says("four")]).await;
        let own = format!("{}{path}", endpoint.url.trim_end_matches("/v1"));
        // A variable that is always set stands for those with the keys.
        let mut config = block.replace(address, &own);
        for word in block.split('"').filter(|word| word.ends_with("_API_KEY")) {
            config = config.replace(word, "PATH");
        }
        let server = TestServer::with_config(&config, &[("model-retry-delay", "20ms")]).await;
        let answer = turn(&server, prompt("", "two and two?")).await;
        assert_eq!(answer.final_text, "four", "{name}: {answer:?}");
        let path = path.replacen('?', "/chat/completions?", usize::from(path.contains('?')));
        let path = if path.contains('?') { path } else { format!("{path}/chat/completions") };
        let head = endpoint.heads().remove(1);
        assert!(head.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{name}: {head}");
        let has_key = config.contains("PATH");
        let head = head.to_ascii_lowercase();
        let sends_key = head.contains("authorization: bearer /") || head.contains("api-key: /");
        assert_eq!(sends_key, has_key, "{name}: {head}");
        let request = endpoint.requests().remove(1);
        assert_eq!(request["model"], value(&block, "model").unwrap_or(&name), "{name}");
        names.push(name);
    }
    let expected = [
        "openai",
        "azure",
        "gemini",
        "claude",
        "mistral",
        "deepseek",
        "openrouter",
        "groq",
        "vllm",
        "llama",
        "ollama",
        "lmstudio",
        "litellm",
    ];
    assert_eq!(names, expected);
}
