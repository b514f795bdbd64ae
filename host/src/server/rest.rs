//! What a server still does when it has let go of everything: no state of it changes by that, so that whoever follows need
//! not wait.

use tokio::time::{Instant, timeout_at};

use crate::{telemetry::Exporting, transport::Connections};

/// What is left to be sent.
#[must_use]
pub(crate) struct Rest {
    /// Over which clients get the last answers, each as fast as it reads.
    pub(super) connections: Connections,
    /// How long those may take.
    pub(super) deadline: Instant,
    /// Sends the last spans and metrics; none if the end took all its time.
    pub(super) exporting: Option<Exporting>,
}

impl Rest {
    /// Sends it. What clients have not taken by the deadline is cut off.
    pub(crate) async fn end(self) {
        let sent = timeout_at(self.deadline, self.connections.ended());
        if sent.await.is_err() {
            tracing::warn!("some clients did not take their answers in time");
        }
        if let Some(exporting) = self.exporting {
            exporting.end().await;
        }
    }
}
