//! How far the task that read an event has come with it.

use std::pin::Pin;

use super::performed::{Lost, Performed};

/// Whether an arrival has been dealt with.
pub(super) enum Progress {
    Done,
    /// The rest of it, to be run on the server's runtime.
    Moved(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// It is committed. What follows is performed by others when it is durable.
    Committed(Performed),
}

impl Progress {
    /// Of what is committed.
    pub(super) fn until(performed: Performed) -> Self {
        match performed.over() {
            Some(ended) => {
                not_lost(ended);
                Self::Done
            }
            None => Self::Committed(performed),
        }
    }

    /// Runs the rest, if there is one, or waits for it.
    pub(super) async fn end(self) {
        match self {
            Self::Done => {}
            Self::Moved(rest) => rest.await,
            Self::Committed(performed) => not_lost(performed.wait().await),
        }
    }
}

/// Nobody knows what became of an event when what followed has panicked: so does whoever waits.
fn not_lost(ended: Result<(), Lost>) {
    if let Err(Lost) = ended {
        panic!("what follows a commit has panicked");
    }
}
