//! The tools for the resources and the prompts of MCP servers.

use super::*;

fn listed(name: &str, description: &str, arguments: &[(&str, bool)]) -> ListedDocument {
    let argument = |&(name, is_optional): &(&str, bool)| {
        let name = name.to_owned();
        ListedArgument { name, is_optional }
    };
    let arguments = arguments.iter().map(argument).collect();
    ListedDocument { name: name.to_owned(), description: description.to_owned(), arguments }
}

#[test]
fn the_tools_name_what_they_read() {
    let resources =
        [listed("file:///notes.txt", "The notes\nof today.", &[]), listed("db://{table}", "", &[])];
    assert_eq!(
        read_resource_description(&resources),
        "Reads a resource of this MCP server by its URI.\n\
         - \"file:///notes.txt\": \"The notes of today.\"\n\
         - \"db://{table}\"\n\
         Without `uri` it lists all of them."
    );
    let prompts = [listed(
        "review",
        "Reviews a change.",
        &[("change", false), ("tone", true), ("why?", false)],
    )];
    assert_eq!(
        get_prompt_description(&prompts),
        "Gets a prompt of this MCP server: instructions that its authors have written for a task.\n\
         - \"review\"(change, tone?, \"why?\"): \"Reviews a change.\"\n\
         Without `name` it lists all of them."
    );
    assert_eq!(prompt_message("user", "Review it."), "[user]: Review it.");
    assert_eq!(document_text("db://a\nb", "rows"), "\"db://a\\nb\":\nrows");
}

#[test]
fn a_description_names_a_few_of_many_and_a_list_all() {
    let many = vec![listed("a", &"x".repeat(200), &[]); 30];
    assert_eq!(read_resource_description(&many).lines().count(), 22);
    let list = document_list(&many);
    assert_eq!(list.lines().count(), 30);
    assert_eq!(list.lines().next(), Some(format!("- \"a\": \"{}\"…", "x".repeat(160)).as_str()));
}
