//! One socket that asks the plugin for its version all the time, and checks every ack.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::time::sleep;

use crate::{
    client::Client,
    faults::Faults,
    meter::Meter,
    outstanding::{Answer, Outstanding},
    packet::Packet,
    placements::Placements,
    sandbox::REPLACED,
};

/// The questions of one socket, and what was expected of each.
pub struct Asking {
    socket: usize,
    in_flight: usize,
    think: Duration,
    placements: Arc<Placements>,
    /// When each question was asked, and what could be expected then.
    acks: Outstanding<(Instant, usize)>,
    latencies: Vec<Duration>,
    faults: Faults,
    /// The version of this socket's last answer, for the reasons of faults.
    last_seen: u32,
}

impl Asking {
    /// Socket number `socket`, with so many questions under way at once. Between its answers and
    /// its next questions it waits for `think` on average.
    pub fn new(
        socket: usize,
        in_flight: usize,
        think: Duration,
        placements: Arc<Placements>,
    ) -> Self {
        Self {
            socket,
            in_flight: in_flight.max(1),
            think,
            placements,
            acks: Outstanding::default(),
            latencies: Vec::new(),
            faults: Faults::default(),
            last_seen: 0,
        }
    }

    /// Asks and checks until the meter says that it is over; returns what went wrong.
    pub async fn run(mut self, mut client: Client, meter: Arc<Meter>) -> Faults {
        if let Err(error) = self.ask_and_check(&mut client, &meter).await {
            self.faults.disconnected(&error);
        }
        self.faults.lost += self.acks.open() as u64;
        self.faults
    }

    async fn ask_and_check(&mut self, client: &mut Client, meter: &Meter) -> Result<()> {
        let mut deadline = pin!(meter.deadline());
        // The sockets begin at different moments.
        let mut next = pin!(sleep(self.think.mul_f64(fastrand::f64())));
        while !(meter.is_over() && self.acks.open() == 0) {
            let idle = self.acks.open() == 0;
            tokio::select! {
                biased;
                read = client.read() => {
                    read?;
                    client.packets(|packet, _| self.take(packet))?;
                    meter.answered(&mut self.latencies);
                    if self.acks.open() == 0 {
                        let pause = self.think.mul_f64(0.5 + fastrand::f64());
                        next.as_mut().reset((Instant::now() + pause).into());
                    }
                }
                () = &mut next, if idle && !meter.is_over() => self.ask(client),
                () = meter.end(), if idle => {}
                () = &mut deadline => break,
            }
            client.flush().await?;
        }
        Ok(())
    }

    fn ask(&mut self, client: &mut Client) {
        for _ in 0..self.in_flight {
            let floor = self.placements.floor();
            let id = self.acks.ask((Instant::now(), floor));
            let question = format!("[\"{REPLACED}\",\"{}:{id}\"]", self.socket);
            client.output().event_with_ack(id, question.as_bytes());
        }
    }

    fn take(&mut self, packet: Packet<'_>) -> Result<()> {
        let Packet::Ack { id, arguments } = packet else {
            bail!("unexpected: {packet:?}");
        };
        let (asked, floor) = match self.acks.answer(id) {
            Answer::InOrder(about) => about,
            Answer::Overtaking(about) => {
                self.faults.out_of_order += 1;
                about
            }
            Answer::Double => {
                self.faults.double += 1;
                return Ok(());
            }
        };
        self.latencies.push(asked.elapsed());
        let Some(version) = self.version(id, arguments) else {
            self.faults.wrong_answer(arguments);
            return Ok(());
        };
        if !self.placements.allows(floor, version) {
            let reason = format!(
                "version {version} after version {} and {floor} placements seen",
                self.last_seen
            );
            self.faults.wrong_answer(reason.as_bytes());
        }
        self.last_seen = version;
        Ok(())
    }

    /// The version in `[{"version":3,"data":"SOCKET:ID"}]`.
    fn version(&self, id: u64, arguments: &[u8]) -> Option<u32> {
        let tail = format!(",\"data\":\"{}:{id}\"}}]", self.socket);
        let version = arguments
            .strip_prefix(br#"[{"version":"#)?
            .strip_suffix(tail.as_bytes())?;
        std::str::from_utf8(version).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    /// Asks a server with this script until it has answered a few times or is given up; version 1
    /// serves, and version 2 once it is announced.
    async fn check(
        placements: Placements,
        script: impl Fn(u64, &str) -> Option<Vec<String>> + Send + Sync + 'static,
    ) -> Faults {
        let client = fake::connect(script).await;
        let meter = Meter::new();
        let asking = Asking::new(7, 2, Duration::from_millis(1), Arc::new(placements));
        let asked = tokio::spawn(asking.run(client, meter.clone()));
        fake::faults(asked, &meter).await
    }

    fn ack(id: u64, version: u32) -> String {
        format!(r#"43{id}[{{"version":{version},"data":"7:{id}"}}]"#)
    }

    fn one_version() -> Placements {
        Placements::new(1)
    }

    #[tokio::test]
    async fn right_answers_are_no_fault() {
        let faults = check(one_version(), |id, _| Some(vec![ack(id, 1)])).await;
        assert_eq!(faults.total(), 0, "{faults:?}");
    }

    #[tokio::test]
    async fn a_lost_ack_is_noticed() {
        let faults = check(one_version(), |id, _| match id {
            3 => Some(vec![]),
            id => Some(vec![ack(id, 1)]),
        });
        assert_eq!(faults.await.lost, 1);
    }

    #[tokio::test]
    async fn a_double_ack_is_noticed() {
        let faults = check(one_version(), |id, _| match id {
            3 => Some(vec![ack(3, 1), ack(3, 1)]),
            id => Some(vec![ack(id, 1)]),
        });
        assert_eq!(faults.await.double, 1);
    }

    #[tokio::test]
    async fn an_overtaking_ack_is_noticed() {
        let faults = check(one_version(), |id, _| match id {
            2 => Some(vec![]),
            3 => Some(vec![ack(3, 1), ack(2, 1)]),
            id => Some(vec![ack(id, 1)]),
        });
        let faults = faults.await;
        assert_eq!((faults.out_of_order, faults.total()), (1, 1), "{faults:?}");
    }

    #[tokio::test]
    async fn a_version_that_is_not_in_place_is_noticed() {
        let faults = check(one_version(), |id, _| match id {
            3 => Some(vec![ack(id, 2)]),
            id => Some(vec![ack(id, 1)]),
        });
        assert_eq!(faults.await.wrong, 1);
    }

    #[tokio::test]
    async fn an_old_version_after_the_new_one_is_noticed() {
        let placements = one_version();
        placements.announce(2);
        // Both questions of the first pair were asked before anybody saw version 2.
        let faults = check(placements, |id, _| match id {
            1 | 4 => Some(vec![ack(id, 1)]),
            id => Some(vec![ack(id, 2)]),
        });
        let faults = faults.await;
        assert_eq!((faults.wrong, faults.total()), (1, 1), "{faults:?}");
    }

    #[tokio::test]
    async fn an_answer_to_somebody_else_is_noticed() {
        let faults = check(one_version(), |id, _| match id {
            3 => Some(vec![format!(r#"43{id}[{{"version":1,"data":"8:{id}"}}]"#)]),
            id => Some(vec![ack(id, 1)]),
        });
        assert_eq!(faults.await.wrong, 1);
    }

    #[tokio::test]
    async fn an_error_is_noticed() {
        let faults = check(one_version(), |id, _| match id {
            3 => Some(vec![format!(
                r#"43{id}[{{"error":{{"code":"plugin_unavailable"}}}}]"#
            )]),
            id => Some(vec![ack(id, 1)]),
        });
        assert_eq!(faults.await.refused, 1);
    }

    #[tokio::test]
    async fn a_disconnect_is_noticed() {
        let closed = check(one_version(), |id, _| (id < 3).then(|| vec![ack(id, 1)])).await;
        assert_eq!(closed.disconnects, 1);
        let told = check(one_version(), |id, _| match id {
            3 => Some(vec!["41".to_owned()]),
            id => Some(vec![ack(id, 1)]),
        });
        assert_eq!(told.await.disconnects, 1);
    }
}
