//! What has been asked and not been answered: finds lost, double and overtaking answers.

use std::collections::VecDeque;

/// Questions of one socket, numbered from 0 in the order of asking, with what is remembered of
/// each. A server that keeps a socket's order answers them in this order too.
#[derive(Debug)]
pub struct Outstanding<T> {
    first: u64,
    waiting: VecDeque<Option<T>>,
    open: usize,
}

/// What an answer is.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// The one that was due.
    InOrder(T),
    /// It came before the answer to an earlier question.
    Overtaking(T),
    /// A second one to the same question, or one to a question that nobody asked.
    Double,
}

impl<T> Default for Outstanding<T> {
    fn default() -> Self {
        Self {
            first: 0,
            waiting: VecDeque::new(),
            open: 0,
        }
    }
}

impl<T> Outstanding<T> {
    /// Remembers a question; returns its number.
    pub fn ask(&mut self, about: T) -> u64 {
        let number = self.asked();
        self.waiting.push_back(Some(about));
        self.open += 1;
        number
    }

    /// Takes the answer to a question.
    pub fn answer(&mut self, number: u64) -> Answer<T> {
        let index = number.checked_sub(self.first);
        let slot = index.and_then(|index| self.waiting.get_mut(usize::try_from(index).ok()?));
        let Some(about) = slot.and_then(Option::take) else {
            return Answer::Double;
        };
        self.open -= 1;
        if index != Some(0) {
            return Answer::Overtaking(about);
        }
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.first += 1;
        }
        Answer::InOrder(about)
    }

    /// How many questions there were.
    pub fn asked(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    /// The number of the answer that is due.
    pub fn due(&self) -> u64 {
        self.first
    }

    /// How many questions have no answer.
    pub fn open(&self) -> usize {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_order_leave_nothing_behind() {
        let mut outstanding = Outstanding::default();
        for question in ["a", "b", "c"] {
            outstanding.ask(question);
        }
        for (number, question) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(outstanding.due(), number as u64);
            assert_eq!(outstanding.answer(number as u64), Answer::InOrder(question));
        }
        assert_eq!(outstanding.open(), 0);
        assert_eq!(outstanding.ask("d"), 3);
    }

    #[test]
    fn overtaking_double_unknown_and_lost_answers_are_told_apart() {
        let mut outstanding = Outstanding::default();
        for question in ["a", "b", "c"] {
            outstanding.ask(question);
        }
        assert_eq!(outstanding.answer(1), Answer::Overtaking("b"));
        assert_eq!(outstanding.answer(1), Answer::Double);
        assert_eq!(outstanding.answer(7), Answer::Double);
        assert_eq!(outstanding.answer(0), Answer::InOrder("a"));
        assert_eq!(outstanding.answer(0), Answer::Double);
        assert_eq!((outstanding.due(), outstanding.open()), (2, 1));
    }
}
