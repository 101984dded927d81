//! The commands on a terminal of 80 columns: tables, colours, questions, Ctrl-C.

use crate::support::program::{Ended, PROGRAM, Program, Site, run};
use crate::support::waiting::Gate;

/// Runs a program on a terminal of 80 columns and 24 lines of its own. Types a text once the program
/// has printed another one, and exits with its code.
const TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
awaited, typed, *command = [word.encode() for word in sys.argv[1:]]
child, terminal = pty.fork()
if child == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.execv(command[0], command)
printed = b""
while True:
    try:
        piece = os.read(terminal, 65536)
    except OSError:
        break
    if not piece:
        break
    printed += piece
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    if typed and awaited in printed:
        os.write(terminal, typed)
        typed = b""
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

/// A terminal, and what a test types there.
struct Terminal<'a> {
    site: &'a Site,
    server: &'a Program,
    awaited: &'a str,
    typed: &'a str,
    variables: &'a [(&'a str, &'a str)],
}

impl<'a> Terminal<'a> {
    fn of(site: &'a Site, server: &'a Program) -> Self {
        Self { site, server, awaited: "", typed: "", variables: &[] }
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        let first = ["-c", TERMINAL, self.awaited, self.typed, PROGRAM];
        let mut command = self.site.other("python3", &[&first, arguments].concat());
        command.env("CALLPARK_ENDPOINT", &self.server.endpoint).env("TERM", "xterm");
        command.envs(self.variables.iter().copied());
        run(command).await
    }
}

/// The lines as a terminal shows them, without colours.
fn lines(ended: &Ended) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = ended.stdout();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    plain.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn tables_and_events_fit_a_terminal_of_80_columns() {
    let site = Site::new();
    let text = "[[tools]]\nname = \"a_tool_with_a_long_name\"\ndescription = \"Says a lot of words \
                about what it does, and about all that it does not do.\"\nargv = [\"echo\", \
                \"{a_long_argument}\", \"{another_argument}\"]\n[tools.input_schema]\ntype = \
                \"object\"\nrequired = [\"a_long_argument\", \"another_argument\"]\nproperties = { \
                a_long_argument = { type = \"string\" }, another_argument = { type = \"string\" } }\n";
    let file = site.write("callpark.toml", text).display().to_string();
    let server = site.serve(&["--config", &file]).await;
    let words =
        ["a_long_argument=日本語日本語日本語日本語日本語日本語日本語日本語", "another_argument=x"];
    let start = ["start", "--follow-up", "on-finish", "--label", "team=red"];
    let long = [&start, &["a_tool_with_a_long_name"][..], &words].concat();
    let id = server.cli(&long).await.exits(0).line().to_owned();
    server.cli(&["wait", &id]).await.exits(0);
    let terminal = Terminal::of(&site, &server);
    for words in [
        &["list"][..],
        &["sessions"],
        &["tools"],
        &["follow-ups"],
        &["events", "last"],
        &["config", "--config", &file],
    ] {
        let ended = terminal.run(words).await.exits(0);
        let lines = lines(&ended);
        assert!(lines.len() > 1, "{words:?}: {ended}");
        for line in lines.iter().filter(|line| !line.starts_with("callpark: ")) {
            // Each of these characters is two columns wide.
            let wide = line.chars().filter(|c| "日本語".contains(*c)).count();
            assert!(line.chars().count() + wide <= 80, "{words:?}: `{line}`");
        }
        // A short id can be used.
        if words[0] == "events" {
            assert!(ended.stdout().contains(&id.replacen("bg-", "call-", 1)[..13]), "{ended}");
        } else if words[0] == "list" {
            let short = lines[1].split(' ').next().expect("an id");
            assert_eq!(short, &id[..11]);
            let shown = server.cli(&["show", short]).await.exits(0);
            assert!(shown.stdout().contains(&id), "{shown}");
        }
    }
}

#[tokio::test]
async fn states_are_coloured_unless_that_is_not_wanted() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let id = server.cli(&["start", "bash", "exit 1"]).await.exits(0).line().to_owned();
    server.cli(&["wait", &id]).await.exits(1);
    let red = "\x1b[31mfailed\x1b[0m";
    for words in [&["list"][..], &["show", "last"]] {
        let terminal = Terminal::of(&site, &server);
        let ended = terminal.run(words).await.exits(0);
        assert!(ended.stdout().contains(red), "{ended}");
        for variables in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
            let plain = Terminal { variables: &variables, ..Terminal::of(&site, &server) };
            let ended = plain.run(words).await.exits(0);
            assert!(
                ended.stdout().contains("failed") && !ended.stdout().contains('\x1b'),
                "{ended}"
            );
        }
        assert!(!server.cli(words).await.exits(0).stdout().contains('\x1b'));
    }
}

#[tokio::test]
async fn ctrl_c_ends_a_wait_and_says_that_the_task_goes_on() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let mut gate = Gate::new(site.folder(), "gate");
    let id = server.cli(&["start", "bash", &gate.wait()]).await.exits(0).line().to_owned();
    let awaited = format!("waiting for {id}");
    let terminal = Terminal { awaited: &awaited, typed: "\x03", ..Terminal::of(&site, &server) };
    let left = terminal.run(&["wait", &id]).await.exits(130);
    // The line of the spinner is cleared before the notes.
    let (before, notes) = left.stdout().rsplit_once("\x1b[2K").expect("a cleared line");
    assert!(before.contains(&awaited), "{left}");
    assert!(notes.contains(&format!("{id} continues on the server")), "{left}");
    assert!(notes.contains(&format!("callpark wait {id}")), "{left}");
    assert!(!notes.contains("waiting for"), "{left}");
    gate.open();
    server.cli(&["wait", &id]).await.exits(0);
}

#[tokio::test]
async fn cancel_all_asks_on_a_terminal() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    for _ in 0..2 {
        server.cli(&["start", "bash", "sleep 60"]).await.exits(0);
    }
    for typed in ["n\n", "\n"] {
        let no = Terminal { awaited: "[y/N] ", typed, ..Terminal::of(&site, &server) };
        let ended = no.run(&["cancel", "--all"]).await.exits(0);
        assert!(ended.stdout().contains("cancel 2 running tasks? [y/N]"), "{ended}");
        assert!(ended.stdout().contains("nothing was cancelled"), "{ended}");
    }
    assert_eq!(server.cli(&["list", "-q", "--running"]).await.stdout().lines().count(), 2);
    let yes = Terminal { awaited: "[y/N] ", typed: "y\n", ..Terminal::of(&site, &server) };
    yes.run(&["cancel", "--all"]).await.exits(0);
    assert_eq!(server.cli(&["list", "-q", "--running"]).await.exits(0).stdout(), "");
}

/// Sequences that a tool may write: the screen is cleared, the title and the clipboard are set, and a
/// colour is left on.
const HOSTILE: &str = r"printf 'one\033[2J\033]0;title\007\033]52;c;aGk=\033\\two \033[31mred\n'; \
                       printf 'three\302\2332J\n' >&2";

#[tokio::test]
async fn the_output_of_a_tool_colours_a_terminal_and_does_no_more() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let terminal = Terminal::of(&site, &server);
    let id = server.cli(&["start", "bash", HOSTILE]).await.exits(0).line().to_owned();
    server.cli(&["wait", &id]).await.exits(0);
    for words in [&["run", "bash", HOSTILE][..], &["wait", &id], &["output", &id]] {
        let shown = terminal.run(words).await.exits(0);
        let shown = shown.stdout();
        assert!(shown.contains("onetwo \x1b[31mred\r\n"), "{words:?}: {shown:?}");
        assert!(shown.contains("three\r\n") && shown.contains("\x1b[0m"), "{words:?}: {shown:?}");
        for left_out in ["\x1b[2J", "\x1b]", "title", "aGk", "\u{9b}"] {
            assert!(!shown.contains(left_out), "{words:?}: {shown:?}");
        }
        let note = "callpark: 4 control sequences of the output left out";
        assert_eq!(shown.matches(note).count(), 1, "{words:?}: {shown:?}");
        let raw = [&words[..1], &["--raw"], &words[1..]].concat();
        let raw = terminal.run(&raw).await.exits(0);
        assert!(raw.stdout().contains("one\x1b[2J\x1b]0;title\x07"), "{words:?}: {raw}");
        assert!(!raw.stdout().contains("left out"), "{words:?}: {raw}");
        // A pipe has every byte.
        let piped = server.cli(words).await.exits(0);
        assert!(piped.stdout().contains("one\x1b[2J\x1b]0;title\x07"), "{words:?}: {piped}");
    }
}

#[tokio::test]
async fn no_text_from_elsewhere_controls_a_terminal() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let hostile = "a\u{202e}b\u{9b}2Jc\u{2066}d\u{200b}e\u{feff}f\u{2028}g";
    let label = format!("team={hostile}");
    let start =
        ["start", "--description", hostile, "--label", &label, "--follow-up", "on-finish", "bash"];
    let id = server.cli(&[&start[..], &["exit 1"]].concat()).await.exits(0).line().to_owned();
    let other = server.cli(&["start", "bash", "sleep 60"]).await.exits(0).line().to_owned();
    server.cli(&["cancel", "--reason", hostile, &other]).await.exits(0);
    let terminal = Terminal::of(&site, &server);
    for words in [
        &["list"][..],
        &["show", &id],
        &["show", &other],
        &["sessions"],
        &["events", "last"],
        &["follow-ups"],
        &["follow-ups", "wait"],
        &["wait", &id],
        &["wait", &other],
        &["show", "--json", &id],
        &["list", "--json"],
        &["events", "--json", "last"],
        &["run", hostile],
    ] {
        let shown = terminal.run(words).await;
        let shown = shown.stdout();
        let hidden = |c: &char| {
            !c.is_ascii()
                && (c.is_control() || "\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}".contains(*c))
        };
        let found: Vec<char> = shown.chars().filter(hidden).collect();
        assert!(found.is_empty(), "{words:?}: {found:?} in {shown:?}");
        if words.contains(&"--json") {
            assert!(shown.contains("\\u202e"), "{words:?}: {shown:?}");
            let piped = server.cli(words).await.exits(0);
            assert!(piped.stdout().contains(hostile), "{words:?}: {piped}");
        }
    }
}
