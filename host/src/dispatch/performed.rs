//! When what follows a commit has been performed, the connection that waited for it goes on. Mostly it has
//! nothing to go on with, so that no task is made to find that out.

use std::{mem, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What follows a commit has ended with a panic, and nobody knows how much of it has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost;

type GoOn = Box<dyn FnOnce(Result<(), Lost>) + Send>;

/// ## Pending => (Awaited | Over), Awaited => Over
enum State {
    /// It is not over, and nobody waits yet.
    Pending,
    /// It is not over, and this is to be called when it is.
    Awaited(GoOn),
    Over(Result<(), Lost>),
}

/// Kept by whoever performs it. One that is dropped before it is done is lost.
pub(super) struct Performing(Option<Arc<Mutex<State>>>);

/// Kept by whoever waits.
pub(super) struct Performed(Arc<Mutex<State>>);

/// Both sides of something that is yet to be performed.
pub(super) fn pending() -> (Performing, Performed) {
    let state = Arc::new(Mutex::new(State::Pending));
    (Performing(Some(state.clone())), Performed(state))
}

impl Performing {
    /// It has been performed: whoever waits goes on, on this thread.
    pub(super) fn done(mut self) {
        self.end(Ok(()));
    }

    fn end(&mut self, ended: Result<(), Lost>) {
        let Some(state) = self.0.take() else { return };
        let former = mem::replace(&mut *state.lock(), State::Over(ended));
        if let State::Awaited(go_on) = former {
            go_on(ended);
        }
    }
}

impl Drop for Performing {
    fn drop(&mut self) {
        self.end(Err(Lost));
    }
}

impl Performed {
    /// How it has ended; none if it has not.
    pub(super) fn over(&self) -> Option<Result<(), Lost>> {
        match &*self.0.lock() {
            State::Over(ended) => Some(*ended),
            State::Pending | State::Awaited(_) => None,
        }
    }

    /// Has this called when it is over, by whoever has performed it; at once if it is.
    pub(super) fn then(self, go_on: impl FnOnce(Result<(), Lost>) + Send + 'static) {
        let over = {
            let mut state = self.0.lock();
            match &*state {
                State::Over(ended) => *ended,
                State::Pending | State::Awaited(_) => {
                    *state = State::Awaited(Box::new(go_on));
                    return;
                }
            }
        };
        go_on(over);
    }

    /// Waits until it is over.
    pub(super) async fn wait(self) -> Result<(), Lost> {
        let (tell, told) = oneshot::channel();
        self.then(move |ended| {
            // Who waits may be gone.
            let _ = tell.send(ended);
        });
        told.await.unwrap_or(Err(Lost))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// What whoever waits is told, if that begins `before` it is over or after.
    fn told(before: bool, end: impl FnOnce(Performing)) -> Result<(), Lost> {
        let (performing, performed) = pending();
        let (tell, told) = mpsc::channel();
        let go_on = move |ended| tell.send(ended).expect("the test waits");
        if before {
            assert_eq!(performed.over(), None);
            performed.then(go_on);
            end(performing);
        } else {
            end(performing);
            assert!(performed.over().is_some());
            performed.then(go_on);
        }
        let ended = told.try_recv().expect("it is over");
        assert!(told.try_recv().is_err(), "it is told twice");
        ended
    }

    #[test]
    fn whoever_waits_goes_on_once_whether_it_was_over_before_or_not() {
        for before in [true, false] {
            assert_eq!(told(before, Performing::done), Ok(()));
            assert_eq!(told(before, drop), Err(Lost));
        }
    }
}
