//! The items of one message of a session or call stream.

use std::{collections::VecDeque, vec};

use crate::{
    stream::{item::SessionItem, resume::Queue},
    v1,
};

/// The items of one message, in the order in which they are delivered.
///
/// The events stay in the vector of the message until they are delivered: they are large, and moving
/// them once more would cost a good part of what decoding them costs.
#[derive(Default)]
pub(super) struct MessageItems {
    events: vec::IntoIter<v1::SessionEvent>,
    steps: VecDeque<Step>,
}

enum Step {
    /// Deliver this many events.
    Deliver(usize),
    /// Drop this many events.
    Skip(usize),
    /// Deliver another item.
    Item(SessionItem),
}

impl MessageItems {
    /// Stores the events of the message. [`deliver`](Self::deliver) and [`skip`](Self::skip) decide
    /// about them one by one, in order; the rest is dropped.
    pub(super) fn hold(&mut self, events: Vec<v1::SessionEvent>) {
        self.events = events.into_iter();
    }

    /// Marks the next event for delivery.
    pub(super) fn deliver(&mut self) {
        match self.steps.back_mut() {
            Some(Step::Deliver(count)) => *count += 1,
            _ => self.steps.push_back(Step::Deliver(1)),
        }
    }

    /// Marks the next event to be dropped.
    pub(super) fn skip(&mut self) {
        match self.steps.back_mut() {
            Some(Step::Skip(count)) => *count += 1,
            _ => self.steps.push_back(Step::Skip(1)),
        }
    }

    /// Appends the item, if there is one.
    pub(super) fn extend(&mut self, item: Option<SessionItem>) {
        self.steps.extend(item.map(Step::Item));
    }
}

impl Queue for MessageItems {
    type Item = SessionItem;

    fn push(&mut self, item: SessionItem) {
        self.steps.push_back(Step::Item(item));
    }

    fn pop(&mut self) -> Option<SessionItem> {
        loop {
            match self.steps.front_mut()? {
                Step::Deliver(count @ 1..) => {
                    *count -= 1;
                    if let Some(event) = self.events.next() {
                        return Some(SessionItem::Event(Box::new(event)));
                    }
                }
                Step::Skip(count @ 1..) => {
                    self.events.nth(*count - 1);
                    *count = 0;
                }
                _ => {
                    if let Some(Step::Item(item)) = self.steps.pop_front() {
                        return Some(item);
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
