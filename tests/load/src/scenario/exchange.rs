//! `custom_event` to and fro: answered by `custom_response`, or by an ack as well.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use clap::Args;
use tokio::task::JoinSet;

use super::sockets;
use crate::{
    conversation::{Conversation, Pace},
    crowd,
    meter::Meter,
    options::duration,
    report::Report,
    target::Target,
};

/// Send events and check the answers.
#[derive(Args, Debug, Clone)]
pub struct Exchange {
    /// Sockets.
    #[arg(long, default_value = "64", value_parser = sockets())]
    pub sockets: usize,
    /// Questions that each socket has under way at once: the next follows an answer.
    #[arg(long, default_value_t = 1, conflicts_with = "rate")]
    pub in_flight: usize,
    /// Questions a second, of all sockets together, whatever becomes of earlier ones. Latencies
    /// count from when a question was due.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Length of the text in each question.
    #[arg(long, default_value_t = 64)]
    pub bytes: usize,
    /// Time before the measurement.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub warm_up: Duration,
    /// Time of the measurement.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub time: Duration,
}

impl Exchange {
    /// Runs it, with acks or without.
    pub async fn run(&self, target: &Arc<Target>, with_ack: bool) -> Result<Report> {
        let clients = crowd::connect(target, 0, self.sockets).await?;
        let meter = Meter::new();
        let mut tasks = JoinSet::new();
        for (socket, client) in clients.into_iter().enumerate() {
            let conversation = Conversation::new(socket, with_ack, self.bytes);
            tasks.spawn(conversation.run(client, self.pace(socket), meter.clone()));
        }
        let window = meter.measure(target, self.warm_up, self.time).await;
        meter.stop();
        let faults = crowd::faults(tasks).await?;

        let mut report = Report::new(if with_ack { "ack" } else { "echo" }, &target.name);
        report.set("sockets", self.sockets);
        match self.rate {
            Some(rate) => report.set_number("rate", rate),
            None => report.set("in_flight", self.in_flight),
        }
        report.set("bytes", self.bytes);
        faults.report(&mut report);
        window?.report(&mut report, &meter, target)?;
        Ok(report)
    }

    fn pace(&self, socket: usize) -> Pace {
        match self.rate {
            None => Pace::InFlight(self.in_flight.max(1)),
            Some(rate) => Pace::evenly(rate, socket, self.sockets),
        }
    }
}
