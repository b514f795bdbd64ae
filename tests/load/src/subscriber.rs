//! Payment updates: a backend pushes them over HTTP, and every subscriber must get each, once and
//! in order.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use crate::{
    backend::Backend,
    client::Client,
    faults::Faults,
    meter::Meter,
    outstanding::{Answer, Outstanding},
    packet::Packet,
};

/// The updates pushed so far.
pub struct Updates {
    /// What surrounds the number in the data: `{"n":`…`,"text":"…"}`.
    tail: String,
    pushed: Mutex<Vec<Instant>>,
}

/// A socket that listens to them.
pub struct Subscriber {
    updates: Arc<Updates>,
    expected: Outstanding<()>,
    received: u64,
    latencies: Vec<Duration>,
    faults: Faults,
}

impl Updates {
    /// With a text of so many bytes in each.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            tail: format!(",\"text\":\"{}\"}}", "x".repeat(bytes)),
            pushed: Mutex::default(),
        })
    }

    /// Pushes the next one; returns how many sockets it went to, as the server counts them.
    pub async fn push(&self, backend: &mut Backend) -> Result<Option<u64>> {
        let number = {
            let mut pushed = self.pushed.lock().expect("no holder panics");
            pushed.push(Instant::now());
            pushed.len() - 1
        };
        let data = format!("{{\"n\":{number}{}", self.tail);
        backend.push_payment(data.as_bytes()).await
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.pushed.lock().expect("no holder panics").len() as u64
    }

    fn moment(&self, number: u64) -> Option<Instant> {
        let pushed = self.pushed.lock().expect("no holder panics");
        pushed.get(usize::try_from(number).ok()?).copied()
    }

    /// The number in
    /// `"payment_update",{"type":"payment_update","data":{"n":1,…},"timestamp":"…"}`; none if it
    /// is anything else.
    fn number(&self, arguments: &[u8]) -> Option<u64> {
        let update =
            arguments.strip_prefix(br#""payment_update",{"type":"payment_update","data":{"n":"#)?;
        let digits = update
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (number, rest) = update.split_at(digits);
        let timestamp = rest
            .strip_prefix(self.tail.as_bytes())?
            .strip_prefix(br#","timestamp":""#)?
            .strip_suffix(br#""}"#)?;
        // As toISOString writes it.
        let is_time = timestamp.len() == "2000-01-01T00:00:00.000Z".len();
        let number = std::str::from_utf8(number).ok()?.parse().ok()?;
        is_time.then_some(number)
    }
}

impl Subscriber {
    /// Subscribes a client.
    pub async fn subscribe(client: &mut Client, updates: Arc<Updates>) -> Result<Self> {
        let answer = client.ask("[\"subscribe:payments\"]").await?;
        ensure!(
            answer == r#"[{"success":true}]"#,
            "subscribe:payments was answered with {answer}"
        );
        Ok(Self {
            updates,
            expected: Outstanding::default(),
            received: 0,
            latencies: Vec::new(),
            faults: Faults::default(),
        })
    }

    /// Listens until the meter says that it is over and everything pushed has come; returns what
    /// went wrong.
    pub async fn run(mut self, mut client: Client, meter: Arc<Meter>) -> Faults {
        if let Err(error) = self.listen(&mut client, &meter).await {
            self.faults.disconnected(&error);
        }
        self.expect(self.updates.count());
        self.faults.lost += self.expected.open() as u64;
        self.faults
    }

    async fn listen(&mut self, client: &mut Client, meter: &Meter) -> Result<()> {
        let mut end = pin!(meter.end());
        let mut deadline = pin!(meter.deadline());
        while !(meter.is_over() && self.received >= self.updates.count()) {
            tokio::select! {
                biased;
                read = client.read() => {
                    read?;
                    client.packets(|packet, _| match packet {
                        Packet::Event(arguments) => {
                            self.take(arguments);
                            Ok(())
                        }
                        other => bail!("unexpected: {other:?}"),
                    })?;
                    meter.answered(&mut self.latencies);
                    // Pings.
                    client.flush().await?;
                }
                () = &mut end, if !meter.is_over() => {}
                () = &mut deadline => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, arguments: &[u8]) {
        self.received += 1;
        let number = self.updates.number(arguments);
        let known = number.and_then(|number| Some((number, self.updates.moment(number)?)));
        let Some((number, moment)) = known else {
            return self.faults.wrong_answer(arguments);
        };
        self.expect(number + 1);
        match self.expected.answer(number) {
            Answer::InOrder(()) => {}
            Answer::Overtaking(()) => self.faults.out_of_order += 1,
            Answer::Double => self.faults.double += 1,
        }
        self.latencies.push(moment.elapsed());
    }

    /// So many updates are known to have been pushed.
    fn expect(&mut self, count: u64) {
        while self.expected.asked() < count {
            self.expected.ask(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_checked_to_the_last_byte() {
        let updates = Updates::new(1);
        let update = |data: &str, time: &str| {
            let text = format!(
                r#""payment_update",{{"type":"payment_update","data":{data},"timestamp":"{time}"}}"#
            );
            updates.number(text.as_bytes())
        };
        let time = "2026-11-23T07:15:00.000Z";
        assert_eq!(update(r#"{"n":12,"text":"x"}"#, time), Some(12));
        assert_eq!(update(r#"{"n":12,"text":"y"}"#, time), None);
        assert_eq!(update(r#"{"n":,"text":"x"}"#, time), None);
        assert_eq!(update(r#"{"n":12,"text":"x"}"#, "now"), None);
    }
}
