//! Sockets that ask and are answered, and what each of them costs in memory as well.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    conversation::{Conversation, Pace},
    crowd,
    meter::Meter,
    procfs,
    report::Report,
    target::Target,
    transport::Transport,
};

/// Connections that come and go before the base is taken, so that it holds what any first
/// connection allocates.
const FIRST: usize = 16;

/// How long the server may come to rest before its memory is read.
const REST: Duration = Duration::from_millis(1000);

const WARM_UP: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(2);

/// A conversation of many sockets.
#[derive(Debug, Clone)]
pub struct Talk {
    /// Sockets.
    pub sockets: usize,
    /// Questions a second, of all together; without it, each asks when it has been answered.
    pub rate: Option<f64>,
    /// Length of the text in each question.
    pub bytes: usize,
    /// The events of the questions: the sockets take turns.
    pub events: Vec<String>,
    /// The event of the answers.
    pub answer: &'static str,
    /// How many rooms each socket joins, by an event `join`.
    pub rooms: usize,
}

impl Default for Talk {
    fn default() -> Self {
        Self {
            sockets: 16,
            rate: None,
            bytes: 64,
            events: vec!["custom_event".to_owned()],
            answer: "custom_response",
            rooms: 0,
        }
    }
}

impl Talk {
    /// Runs it.
    pub async fn run(&self, target: &Arc<Target>) -> Result<Report> {
        let first = crowd::connect_over(Transport::Websocket, target, 0, FIRST);
        crowd::close(first.await?).await;
        sleep(REST).await;
        let base = procfs::memory(target.pid)?;
        let mut clients = crowd::connect(target, FIRST as u64, self.sockets).await?;
        for client in &mut clients {
            for room in 0..self.rooms {
                let answer = client.ask(&format!("[\"join\",\"room:{room}\"]")).await?;
                ensure!(!answer.contains("error"), "join was answered with {answer}");
            }
        }
        sleep(REST).await;
        let full = procfs::memory(target.pid)?;

        let meter = Meter::new();
        let mut tasks = JoinSet::new();
        for (socket, client) in clients.into_iter().enumerate() {
            let event = &self.events[socket % self.events.len()];
            let conversation = Conversation::new(socket, false, self.bytes).by(event, self.answer);
            tasks.spawn(conversation.run(client, self.pace(socket), meter.clone()));
        }
        let window = meter.measure(target, WARM_UP, TIME).await;
        meter.stop();
        let faults = crowd::faults(tasks).await?;

        let mut report = Report::new("talk", &target.name);
        faults.report(&mut report);
        let added = full.resident_kib.saturating_sub(base.resident_kib);
        report.set_number("kib_per_connection", added as f64 / self.sockets as f64);
        window?.report(&mut report, &meter, target)?;
        Ok(report)
    }

    fn pace(&self, socket: usize) -> Pace {
        match self.rate {
            None => Pace::InFlight(1),
            Some(rate) => Pace::evenly(rate, socket, self.sockets),
        }
    }
}
