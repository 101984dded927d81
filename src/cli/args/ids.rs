//! Ids on the command line: whole ones, the beginnings of them, and `last`.

use callpark_client::{Client, v1};

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
        let newest = match self.kind {
            IdKind::FollowUp => {
                let request = v1::ListFollowUpsRequest { page_size: 1, ..Default::default() };
                let page = client.follow_ups().list(request).await?;
                page.follow_ups.into_iter().next().map(|follow_up| follow_up.follow_up_id)
            }
            IdKind::Session | IdKind::Task => self.list(client, "", 1).await?.into_iter().next(),
        };
        newest.as_deref().and_then(digits_of).ok_or_else(|| {
            let (noun, _) = self.kind.noun();
            Failure::new(Exit::NotFound, format!("there is no {noun}, and so no last one"))
        })
    }

    /// Returns the digits of the only record whose id begins with `digits`.
    async fn find(&self, client: &Client, digits: &str) -> Result<String, Failure> {
        let found = self.list(client, digits, NAMED_MAX + 1).await?;
        if let [id] = found.as_slice() {
            return digits_of(id)
                .ok_or_else(|| Failure::unexpected_answer(format!("`{id}` is not an id")));
        }
        let (noun, list) = self.kind.noun();
        let given = format!("{}{digits}", self.kind.prefix());
        if found.is_empty() {
            let text = format!("no {noun} has an id that begins with `{given}`");
            return Err(Failure::new(
                Exit::NotFound,
                format!("{text}\nlist the {noun}s with `{list}`"),
            ));
        }
        let matches = match found.len() {
            more if more > NAMED_MAX => format!("more than {NAMED_MAX} {noun}s"),
            some => count(some, noun),
        };
        let named = found.iter().take(NAMED_MAX);
        let named: Vec<String> = named.map(|id| short_id_of(id, digits.len() + 4)).collect();
        let text = format!("`{given}` matches {matches}: {}", named.join(", "));
        Err(Failure::usage(format!("{text}\ngive more of the digits")))
    }

    /// Returns the ids of the newest records whose ids begin with these digits.
    async fn list(
        &self,
        client: &Client,
        digits: &str,
        count_max: usize,
    ) -> Result<Vec<String>, Failure> {
        let page_size = i32::try_from(count_max).unwrap_or(i32::MAX);
        let ids: Vec<String> = match self.kind {
            IdKind::Session => {
                let request = v1::ListSessionsRequest {
                    page_size,
                    session_id_prefix: format!("ses-{digits}"),
                    ..Default::default()
                };
                let page = client.sessions().list(request).await?;
                page.sessions.into_iter().map(|session| session.session_id).collect()
            }
            // A follow-up has the digits of its task.
            IdKind::Task | IdKind::FollowUp => {
                let request = v1::ListRequest {
                    page_size,
                    background_id_prefix: format!("bg-{digits}"),
                    ..Default::default()
                };
                let page = client.tasks().list(request).await?;
                page.tasks.into_iter().map(|task| task.background_id).collect()
            }
        };
        // A server that does not know the filter lists others too.
        let begins = |id: &String| digits_of(id).is_some_and(|whole| whole.starts_with(digits));
        Ok(ids.into_iter().filter(begins).collect())
    }
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
}
