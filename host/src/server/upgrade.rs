//! The request that the running server be followed by a process of what is its program by now.

use tokio::sync::{mpsc, oneshot};

/// The id of the process that follows, or why there is none.
pub(crate) type Answer = Result<u32, String>;

/// Who is to be answered.
pub(crate) type Request = oneshot::Sender<Answer>;

/// How many may wait for the answer to the first of them; more wait to be heard.
const MOST_WAIT: usize = 64;

/// Asks whoever runs the server for it, if anybody can do it.
#[derive(Clone, Default)]
pub(crate) struct Upgrade(Option<mpsc::Sender<Request>>);

impl Upgrade {
    /// With who hears of it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (sender, requests) = mpsc::channel(MOST_WAIT);
        (Self(Some(sender)), requests)
    }

    /// Returns when the process that follows is ready, or will never be.
    pub(crate) async fn ask(&self) -> Answer {
        let nobody = "this server cannot start a process that follows it";
        let leaves = || "it is about to leave".to_owned();
        let (request, answer) = oneshot::channel();
        let sender = self.0.as_ref().ok_or_else(|| nobody.to_owned())?;
        sender.send(request).await.map_err(|_| leaves())?;
        answer.await.map_err(|_| leaves())?
    }
}
