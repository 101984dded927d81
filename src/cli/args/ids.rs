//! Ids on the command line: whole ones, the beginnings of them, and `last`.

use callpark_client::{Client, v1};

use super::id_page::Page;
use crate::cli::{
    error::Failure,
    exit::Exit,
    print::text::{count, short_id_of},
};

/// The number of digits of a whole id.
const DIGITS: usize = 32;

/// The most records that an error about an ambiguous beginning names.
const NAMED_MAX: usize = 3;

/// The kind of record that an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IdKind {
    Session,
    Task,
    FollowUp,
}

impl IdKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Session => "ses-",
            Self::Task => "bg-",
            Self::FollowUp => "fu-",
        }
    }

    /// Returns the name of one such record, and the command that lists them.
    fn noun(self) -> (&'static str, &'static str) {
        match self {
            Self::Session => ("session", "callpark sessions"),
            Self::Task => ("task", "callpark list"),
            Self::FollowUp => ("follow-up", "callpark follow-ups"),
        }
    }
}

/// An id as it is given on the command line. A command resolves it before use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenId {
    kind: IdKind,
    digits: Digits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Digits {
    /// `last`: those of the newest record.
    Newest,
    /// All of them, or the first ones.
    Beginning(String),
}

/// Parses the id of a session.
pub(crate) fn session(text: &str) -> Result<GivenId, String> {
    parse(text, IdKind::Session, &["ses"])
}

/// Parses the id of a task. The id of its call, which has the same digits, is accepted too.
pub(crate) fn task(text: &str) -> Result<GivenId, String> {
    parse(text, IdKind::Task, &["bg", "call"])
}

/// Parses the id of a follow-up. The ids of its task and its call, which have the same digits, are
/// accepted too.
pub(crate) fn follow_up(text: &str) -> Result<GivenId, String> {
    parse(text, IdKind::FollowUp, &["fu", "bg", "call"])
}

/// Parses the id of a session or a task. Digits alone and `last` mean a task.
pub(crate) fn session_or_task(text: &str) -> Result<GivenId, String> {
    let parsed = if text.starts_with("ses-") { session(text) } else { task(text) };
    parsed.map_err(|_| {
        "must be the id of a task, `bg-` and 32 digits, or of a session, `ses-` and 32 digits, or \
         the beginning of one, or `last` for the newest task"
            .to_owned()
    })
}

fn parse(text: &str, kind: IdKind, prefixes: &[&str]) -> Result<GivenId, String> {
    if text == "last" {
        return Ok(GivenId { kind, digits: Digits::Newest });
    }
    let digits = match text.split_once('-') {
        Some((prefix, digits)) if prefixes.contains(&prefix) => Some(digits),
        Some(_) => None,
        None => Some(text),
    };
    let is_digit = |byte: u8| byte.is_ascii_hexdigit();
    match digits {
        Some(digits) if (1..=DIGITS).contains(&digits.len()) && digits.bytes().all(is_digit) => {
            Ok(GivenId { kind, digits: Digits::Beginning(digits.to_ascii_lowercase()) })
        }
        _ => {
            let (prefix, (noun, list)) = (kind.prefix(), kind.noun());
            Err(format!(
                "must be the id of a {noun}, `{prefix}` and 32 digits, or the beginning of one, or \
                 `last` for the newest; list the {noun}s with `{list}`"
            ))
        }
    }
}

impl GivenId {
    /// Returns `true` if it names a session.
    pub(crate) fn is_session(&self) -> bool {
        self.kind == IdKind::Session
    }

    /// Returns the whole id. Asks the server if it is not given in full.
    ///
    /// # Errors
    ///
    /// No record, or more than one, has an id that begins so.
    pub(crate) async fn resolve(&self, client: &Client) -> Result<String, Failure> {
        let digits = match &self.digits {
            Digits::Beginning(digits) if digits.len() == DIGITS => digits,
            Digits::Beginning(digits) => &self.find(client, digits).await?,
            Digits::Newest => &self.newest(client).await?,
        };
        Ok(format!("{}{digits}", self.kind.prefix()))
    }

    /// Returns the digits of the newest record.
    async fn newest(&self, client: &Client) -> Result<String, Failure> {
        let page = match self.kind {
            IdKind::FollowUp => {
                let request = v1::ListFollowUpsRequest { page_size: 1, ..Default::default() };
                Page::of_follow_ups(client.follow_ups().list(request).await?)
            }
            IdKind::Session | IdKind::Task => self.page(client, "", 1, String::new()).await?,
        };
        self.first_of(&page)
    }

    /// Returns the digits of the first record of the first page.
    fn first_of(&self, page: &Page) -> Result<String, Failure> {
        let (noun, _) = self.kind.noun();
        if page.has_unreadable {
            return Err(Failure::new(
                Exit::Internal,
                format!(
                    "the newest {noun} cannot be read, so `last` names none\n\
                     the server's log names it; give the id of another one"
                ),
            ));
        }
        match page.ids.first() {
            Some(id) => digits_of(id)
                .ok_or_else(|| Failure::unexpected_answer(format!("`{id}` is not an id"))),
            None => {
                let text = format!("there is no {noun}, and so no last one");
                Err(Failure::new(Exit::NotFound, text))
            }
        }
    }

    /// Returns the digits of the only record whose id begins with `digits`.
    async fn find(&self, client: &Client, digits: &str) -> Result<String, Failure> {
        self.only_of(self.list(client, digits).await?, digits)
    }

    /// Returns the digits of the only record that is listed.
    fn only_of(&self, listed: Listed, digits: &str) -> Result<String, Failure> {
        let Listed { ids, is_complete } = listed;
        let (noun, list) = self.kind.noun();
        let given = format!("{}{digits}", self.kind.prefix());
        let matches = match (ids.as_slice(), is_complete) {
            ([id], true) => {
                return digits_of(id)
                    .ok_or_else(|| Failure::unexpected_answer(format!("`{id}` is not an id")));
            }
            ([], true) => {
                let text = format!("no {noun} has an id that begins with `{given}`");
                return Err(Failure::new(
                    Exit::NotFound,
                    format!("{text}\nlist the {noun}s with `{list}`"),
                ));
            }
            ([] | [_], false) => {
                let others = if ids.is_empty() { format!("{noun}s") } else { "others".to_owned() };
                return Err(Failure::usage(format!(
                    "`{given}` may match {others} that this server cannot list: give the whole id"
                )));
            }
            (some, _) if some.len() > NAMED_MAX => format!("more than {NAMED_MAX} {noun}s"),
            (some, true) => count(some.len(), noun),
            (some, false) => format!("at least {}", count(some.len(), noun)),
        };
        let named = ids.iter().take(NAMED_MAX);
        let named: Vec<String> = named.map(|id| short_id_of(id, digits.len() + 4)).collect();
        let text = format!("`{given}` matches {matches}: {}", named.join(", "));
        Err(Failure::usage(format!("{text}\ngive more of the digits")))
    }

    /// Lists the newest records whose ids begin with these digits, as many as an error can need.
    async fn list(&self, client: &Client, digits: &str) -> Result<Listed, Failure> {
        let mut ids = Vec::new();
        let mut page_token = String::new();
        loop {
            let missing = NAMED_MAX + 1 - ids.len();
            let mut page = self.page(client, digits, missing, page_token).await?;
            let listed_count = page.ids.len();
            page.ids.retain(|id| digits_of(id).is_some_and(|whole| whole.starts_with(digits)));
            // A server that does not know the filter lists others too, maybe a great many.
            let is_filtered = page.ids.len() == listed_count;
            let has_some = !page.ids.is_empty();
            ids.append(&mut page.ids);
            let is_last = page.next_page_token.is_empty();
            let can_go_on = is_filtered && has_some && !page.has_unreadable;
            if is_last || !can_go_on || ids.len() > NAMED_MAX {
                return Ok(Listed { ids, is_complete: is_last && !page.has_unreadable });
            }
            page_token = page.next_page_token;
        }
    }

    /// Returns a page of the newest records whose ids begin with these digits.
    async fn page(
        &self,
        client: &Client,
        digits: &str,
        size: usize,
        page_token: String,
    ) -> Result<Page, Failure> {
        let page_size = i32::try_from(size).unwrap_or(i32::MAX);
        Ok(match self.kind {
            IdKind::Session => {
                let request = v1::ListSessionsRequest {
                    page_size,
                    page_token,
                    session_id_prefix: format!("ses-{digits}"),
                    ..Default::default()
                };
                Page::of_sessions(client.sessions().list(request).await?)
            }
            // A follow-up has the digits of its task.
            IdKind::Task | IdKind::FollowUp => {
                let request = v1::ListRequest {
                    page_size,
                    page_token,
                    background_id_prefix: format!("bg-{digits}"),
                    ..Default::default()
                };
                Page::of_tasks(client.tasks().list(request).await?)
            }
        })
    }
}

/// The ids that begin with some digits.
#[derive(Debug)]
struct Listed {
    ids: Vec<String>,
    /// `true` if no other record can have such an id.
    is_complete: bool,
}

/// Returns whole ids for those that are given.
///
/// # Errors
///
/// One of them names no record, or more than one.
pub(crate) async fn resolve_all(
    given: &[GivenId],
    client: &Client,
) -> Result<Vec<String>, Failure> {
    let mut ids = Vec::with_capacity(given.len());
    for one in given {
        ids.push(one.resolve(client).await?);
    }
    Ok(ids)
}

/// Returns the whole id for one that may be given, or an empty text.
pub(crate) async fn resolve_or_empty(
    given: Option<&GivenId>,
    client: &Client,
) -> Result<String, Failure> {
    match given {
        Some(given) => given.resolve(client).await,
        None => Ok(String::new()),
    }
}

fn digits_of(id: &str) -> Option<String> {
    id.split_once('-').map(|(_, digits)| digits.to_owned())
}

/// Returns the id of the task that a call becomes when it is parked, or `None` if the text is not
/// the id of a call.
pub(crate) fn task_of_call(call_id: &str) -> Option<String> {
    let digits = call_id.strip_prefix("call-")?;
    Some(format!("bg-{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(kind: IdKind, digits: &str) -> GivenId {
        GivenId { kind, digits: Digits::Beginning(digits.to_owned()) }
    }

    #[test]
    fn a_call_and_its_task_have_the_same_digits() {
        for text in ["bg-12", "call-12", "12"] {
            assert_eq!(task(text).unwrap(), given(IdKind::Task, "12"));
        }
        assert_eq!(task_of_call("call-12").unwrap(), "bg-12");
        assert_eq!(task_of_call(""), None);
        assert!(task("ses-12").unwrap_err().contains("callpark list"));
    }

    #[test]
    fn a_follow_up_has_the_digits_of_its_task() {
        for text in ["fu-12", "bg-12", "call-12"] {
            assert_eq!(follow_up(text).unwrap(), given(IdKind::FollowUp, "12"));
        }
        assert!(follow_up("ses-12").unwrap_err().contains("callpark follow-ups"));
    }

    #[test]
    fn sessions_and_tasks_are_distinguished() {
        assert_eq!(session_or_task("ses-12").unwrap(), given(IdKind::Session, "12"));
        assert_eq!(session_or_task("call-12").unwrap(), given(IdKind::Task, "12"));
        assert_eq!(session_or_task("5e").unwrap(), given(IdKind::Task, "5e"));
        assert!(session_or_task("fu-12").unwrap_err().contains("bg-"));
        assert!(session("bg-12").unwrap_err().contains("callpark sessions"));
    }

    #[test]
    fn the_last_one_is_the_newest() {
        assert_eq!(task("last").unwrap().digits, Digits::Newest);
        assert!(session("last").unwrap().is_session());
        assert!(!session_or_task("last").unwrap().is_session());
    }

    #[test]
    fn what_cannot_begin_an_id_is_refused() {
        let long = format!("bg-{}", "0".repeat(33));
        for text in ["", "bg-", "bg-xyz", "build", "bg-12 ", long.as_str()] {
            assert!(task(text).is_err(), "{text}");
        }
        assert_eq!(task("bg-AB").unwrap(), given(IdKind::Task, "ab"));
    }

    #[test]
    fn a_beginning_names_a_record_only_if_no_other_can_have_it() {
        let only = |ids: &[&str], is_complete| {
            let ids = ids.iter().map(|&id| id.to_owned()).collect();
            let only = given(IdKind::Task, "3").only_of(Listed { ids, is_complete }, "3");
            only.map_err(|failure| (failure.exit(), format!("{failure:?}")))
        };
        assert_eq!(only(&["bg-31"], true).unwrap(), "31");
        for ids in [&[][..], &["bg-31"]] {
            let (exit, text) = only(ids, false).unwrap_err();
            assert!(exit == Exit::Usage && text.contains("give the whole id"), "{text}");
        }
        assert_eq!(only(&[], true).unwrap_err().0, Exit::NotFound);
        for (is_complete, expected) in [(true, "matches 2 tasks"), (false, "at least 2 tasks")] {
            let (exit, text) = only(&["bg-31", "bg-32"], is_complete).unwrap_err();
            assert!(exit == Exit::Usage && text.contains(expected), "{text}");
        }
    }

    #[test]
    fn last_names_no_older_record_in_place_of_an_unreadable_one() {
        let first = |ids: &[&str], has_unreadable| {
            let ids = ids.iter().map(|&id| id.to_owned()).collect();
            let page = Page { ids, next_page_token: String::new(), has_unreadable };
            let first = given(IdKind::Task, "").first_of(&page);
            first.map_err(|failure| failure.exit())
        };
        assert_eq!(first(&["bg-31"], false), Ok("31".to_owned()));
        assert_eq!(first(&[], false), Err(Exit::NotFound));
        assert_eq!(first(&[], true), Err(Exit::Internal));
        assert_eq!(first(&["bg-31"], true), Err(Exit::Internal));
    }
}
