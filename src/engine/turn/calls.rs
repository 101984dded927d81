//! The calls that a model asks for, run as anybody's are.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use super::control;
use super::pictures::{self, Room, is_picture};
use super::play::Turn;
use crate::engine::run::json_depth::are_too_deep;
use crate::engine::text::{self, state_name, truncate_middle};
use crate::engine::{CallHandle, CallRequest, Error, Started};
use crate::machine::Command;
use crate::model::limits::{
    ARGUMENTS_DEPTH_MAX, MODEL_RESULT_BYTES_MAX, REPEATED_FAILURES_MAX, TURN_IDLE_SECONDS,
};
use crate::model::{Call, Content, Exit, ModelCall, Outcome, Picture, State, TurnError};
use crate::tool::Arguments;

/// What a model is told of a call.
pub(super) struct Told {
    pub(super) text: String,
    pub(super) pictures: Vec<Picture>,
    pub(super) failed: bool,
    /// Of a process that ended with one.
    pub(super) exit_code: Option<i32>,
}

impl Told {
    pub(super) fn failure(text: impl Into<String>) -> Self {
        Self { text: text.into(), pictures: Vec::new(), failed: true, exit_code: None }
    }

    /// Of a call that has ended.
    fn result(call: &Call) -> Self {
        Self {
            text: result(call),
            pictures: pictures::of(call),
            failed: call.state != State::Succeeded,
            exit_code: exit_code(call),
        }
    }

    /// As much of it as a model is told and shown.
    pub(super) fn cut(self, room: &mut Room) -> Self {
        let mut text = truncate_middle(&self.text, MODEL_RESULT_BYTES_MAX);
        let pictures = room.take(self.pictures, &mut text);
        Self { text, pictures, ..self }
    }
}

impl Turn {
    /// Starts the calls in their order, and waits for all of them: those that may run together do.
    pub(super) async fn run_calls(&self, calls: &[ModelCall]) -> Vec<Told> {
        let mut started = Vec::with_capacity(calls.len());
        for call in calls {
            started.push(self.start_call(call).await);
        }
        let answers = started.into_iter().map(|started| async {
            match started {
                Ok(handle) => self.answer(handle).await,
                Err(told) => told,
            }
        });
        let all = join_all(answers);
        // Calls have limits of their own: while they run, the turn isn't idle.
        let pause = Duration::from_secs(TURN_IDLE_SECONDS / 4);
        let mut all = std::pin::pin!(all);
        loop {
            tokio::select! {
                answers = &mut all => return answers,
                () = tokio::time::sleep(pause) => self.is_alive().await,
            }
        }
    }

    pub(super) async fn is_alive(&self) {
        let command = Command::Alive { call_id: self.play.call_id };
        // A turn that isn't live any more is being stopped.
        let _ = self.play.handle.command(command, None).await;
    }

    pub(super) async fn start_call(&self, call: &ModelCall) -> Result<CallHandle, Told> {
        let arguments = match arguments(&call.arguments) {
            Ok(arguments) => arguments,
            Err(fault) => return Err(Told::failure(fault)),
        };
        if self.tools.iter().all(|tool| tool.name != call.tool) {
            let names: Vec<&str> = self.tools.iter().map(|tool| tool.name.as_str()).collect();
            let names = names.join(", ");
            let text = format!("there is no tool `{}`: there are {names}", call.tool);
            return Err(Told::failure(text));
        }
        if self.is_agent(&call.tool) {
            return self.start_agent(call, arguments).await;
        }
        let engine = &self.play.engine;
        let started = if control::is_control(&call.tool) {
            self.start_control(call, arguments).await
        } else {
            let request = CallRequest {
                session_id: Some(self.play.session_id),
                tool: call.tool.clone(),
                arguments,
                of_turn: Some((self.play.turn_id, call.call_id)),
                follow_up: self.play.session.follow_up,
                ..CallRequest::default()
            };
            engine.calls().start(&self.play.who, request).await
        };
        match started {
            Ok(Started::Call(handle)) => Ok(handle),
            Ok(Started::DryRun(_)) => Err(Told::failure("nothing was started")),
            Err(error) => Err(Told::failure(error.to_string())),
        }
    }

    pub(super) async fn answer(&self, mut handle: CallHandle) -> Told {
        let told = async {
            let call = handle.wait_settled(None).await?;
            if call.is_task() {
                return Ok(parked(&call, call.elapsed(self.play.engine.now())));
            }
            let (call, _) = self.play.engine.calls().with_full_output(call).await?;
            Ok::<_, Error>(Told::result(&call))
        };
        told.await.unwrap_or_else(|error| Told::failure(error.to_string()))
    }
}

/// Arguments as a model writes them: a JSON object, or nothing at all.
fn arguments(text: &str) -> Result<Arguments, String> {
    if text.trim().is_empty() {
        return Ok(Arguments::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(arguments)) if are_too_deep(&arguments) => {
            Err(format!("the arguments are nested deeper than {ARGUMENTS_DEPTH_MAX} levels"))
        }
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(_) => Err("the arguments must be a JSON object".into()),
        Err(error) => Err(format!("the arguments are no JSON: {error}")),
    }
}

/// What a model is told of a call that went to the background.
fn parked(call: &Call, ran: Duration) -> Told {
    let id = call.id.background();
    let message = format!(
        "still running after {:.0} s; it goes on in the background as {id}, and its result is not \
         lost. Go on with other work; when you need the result, call {} with this id to wait for \
         it. Do not start it again, and do not cancel it for being slow.",
        ran.as_secs_f64(),
        control::CHECK,
    );
    let text = json!({
        "type": "background",
        "tool": call.tool,
        "background_id": id,
        "message": message,
    });
    Told { text: text.to_string(), pictures: Vec::new(), failed: false, exit_code: None }
}

pub(super) fn exit_code(call: &Call) -> Option<i32> {
    match &call.outcome {
        Some(Outcome::Result(result)) => match result.exit {
            Some(Exit::Code(code)) => Some(code),
            Some(Exit::Signal(_)) | None => None,
        },
        Some(Outcome::Failure(_)) | None => None,
    }
}

/// What a model is told of a call that has ended.
pub(super) fn result(call: &Call) -> String {
    in_words(call, |content| text::content(content))
}

/// The same without a word of the pictures, for whoever shows them beside it.
pub(super) fn result_beside_pictures(call: &Call) -> String {
    in_words(call, |content| {
        let others = content.iter().filter(|piece| !is_picture(piece));
        let text = text::content(others);
        let is_all = text.trim().is_empty() && content.iter().any(is_picture);
        if is_all { "(only pictures)".to_owned() } else { text }
    })
}

fn in_words(call: &Call, content: impl Fn(&[Content]) -> String) -> String {
    let (text, why) = match &call.outcome {
        Some(Outcome::Result(result)) => {
            let exit = match result.exit {
                Some(Exit::Code(0)) | None => String::new(),
                Some(Exit::Code(code)) => format!("exit code {code}"),
                Some(Exit::Signal(signal)) => format!("ended by signal {signal}"),
            };
            let why =
                if result.error_message.is_empty() { exit } else { result.error_message.clone() };
            (content(&result.content), why)
        }
        Some(Outcome::Failure(failure)) => (String::new(), failure.message.clone()),
        None => (String::new(), String::new()),
    };
    let text = if text.trim().is_empty() { "(no output)" } else { text.as_str() };
    match (call.state, why.as_str()) {
        (State::Succeeded, _) => text.to_owned(),
        (state, "") => format!("[{}]\n{text}", state_name(state)),
        (state, why) => format!("[{}: {why}]\n{text}", state_name(state)),
    }
}

/// Calls that fail again and again.
#[derive(Default)]
pub(super) struct Repetitions {
    last: Option<(String, String)>,
    count: u32,
}

impl Repetitions {
    /// Notes how a call went.
    ///
    /// # Errors
    ///
    /// The model repeats a failing call word for word, and learns nothing from it.
    pub(super) fn note(&mut self, call: &ModelCall, failed: bool) -> Result<(), TurnError> {
        if !failed {
            *self = Self::default();
            return Ok(());
        }
        let this = (call.tool.clone(), call.arguments.clone());
        if self.last.as_ref() == Some(&this) {
            self.count += 1;
        } else {
            self.last = Some(this);
            self.count = 1;
        }
        if self.count < REPEATED_FAILURES_MAX {
            return Ok(());
        }
        Err(TurnError {
            code: "repeated_failure".into(),
            message: format!(
                "the model called `{}` {} times in a row with the same arguments, and each call \
                 failed: change the prompt, or what the tool needs",
                call.tool, self.count
            ),
            retryable: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CallId;

    fn call(arguments: &str) -> ModelCall {
        let (id, tool) = ("a".into(), "t".into());
        ModelCall { id, tool, arguments: arguments.into(), call_id: CallId::random() }
    }

    #[test]
    fn only_equal_failures_in_a_row_count() {
        let mut seen = Repetitions::default();
        let steps = [("1", true), ("1", true), ("2", true), ("1", true), ("1", true)];
        for (arguments, failed) in steps {
            assert_eq!(seen.note(&call(arguments), failed), Ok(()));
        }
        assert_eq!(seen.note(&call("1"), false), Ok(()));
        for _ in 0..2 {
            assert_eq!(seen.note(&call("1"), true), Ok(()));
        }
        let error = seen.note(&call("1"), true).expect_err("is the third");
        assert_eq!((error.code.as_str(), error.retryable), ("repeated_failure", false));
    }

    #[test]
    fn arguments_are_an_object_or_nothing() {
        assert_eq!(arguments(" "), Ok(Arguments::new()));
        assert_eq!(arguments("{\"a\":1}").map(|a| a.len()), Ok(1));
        assert!(arguments("[1]").is_err_and(|fault| fault.contains("object")));
        assert!(arguments("{\"a\":").is_err_and(|fault| fault.contains("no JSON")));
        let nested = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
        assert!(arguments(&nested(ARGUMENTS_DEPTH_MAX)).is_ok());
        let deeper = arguments(&nested(ARGUMENTS_DEPTH_MAX + 1));
        assert!(deeper.is_err_and(|fault| fault.contains("deeper than 32 levels")));
    }
}
