//! One socket that sends `custom_event` and checks every answer.

use std::{
    io::Write,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    client::{Client, Output},
    faults::Faults,
    meter::Meter,
    outstanding::{Answer, Outstanding},
    pacer::Pacer,
    packet::{Packet, is_event},
};

/// When a question is asked.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// When an earlier one has been answered; so many are under way.
    InFlight(usize),
    /// At a fixed rate, beginning after `offset`.
    Every {
        /// Between two questions.
        interval: Duration,
        /// Before the first.
        offset: Duration,
    },
}

impl Pace {
    /// One of `sockets` that ask `rate` questions a second together, taking turns.
    pub fn evenly(rate: f64, socket: usize, sockets: usize) -> Self {
        let turn = Duration::from_secs_f64(1.0 / rate.clamp(0.01, 1e6));
        Self::Every {
            interval: turn.mul_f64(sockets as f64),
            offset: turn.mul_f64(socket as f64),
        }
    }
}

/// A socket's questions and answers.
pub struct Conversation {
    /// The event of the questions, and how the answer's arguments begin: `"custom_response",`.
    event: String,
    answer: Vec<u8>,
    /// What surrounds the number in the argument: `{"socket":1,"n":`…`,"text":"…"}`.
    head: String,
    tail: String,
    with_ack: bool,
    /// For each question when it was to be asked: waiting for `custom_response`, and for the ack.
    responses: Outstanding<Instant>,
    acks: Outstanding<Instant>,
    latencies: Vec<Duration>,
    faults: Faults,
    scratch: Vec<u8>,
}

impl Conversation {
    /// Of socket number `socket`, with a text of so many bytes in each message. The latency that
    /// counts is that of the ack where there is one.
    pub fn new(socket: usize, with_ack: bool, bytes: usize) -> Self {
        Self {
            event: "custom_event".to_owned(),
            answer: name_of("custom_response"),
            head: format!("{{\"socket\":{socket},\"n\":"),
            tail: format!(",\"text\":\"{}\"}}", "x".repeat(bytes)),
            with_ack,
            responses: Outstanding::default(),
            acks: Outstanding::default(),
            latencies: Vec::new(),
            faults: Faults::default(),
            scratch: Vec::new(),
        }
    }

    /// The same by other events.
    pub fn by(self, event: &str, answer: &str) -> Self {
        Self {
            event: event.to_owned(),
            answer: name_of(answer),
            ..self
        }
    }

    /// Asks and checks until the meter says that it is over; returns what went wrong.
    pub async fn run(mut self, mut client: Client, pace: Pace, meter: Arc<Meter>) -> Faults {
        if let Err(error) = self.talk(&mut client, pace, &meter).await {
            self.faults.disconnected(&error);
        }
        self.faults.lost += (self.responses.open() + self.acks.open()) as u64;
        self.faults
    }

    async fn talk(&mut self, client: &mut Client, pace: Pace, meter: &Meter) -> Result<()> {
        let mut pacer = match pace {
            Pace::InFlight(count) => {
                for _ in 0..count {
                    self.ask(client.output(), Instant::now());
                }
                client.flush().await?;
                None
            }
            Pace::Every { interval, offset } => Some(Pacer::start(offset, interval)?),
        };
        let mut end = pin!(meter.end());
        let mut deadline = pin!(meter.deadline());
        while !(meter.is_over() && self.open() == 0) {
            tokio::select! {
                biased;
                read = client.read() => {
                    read?;
                    let answered = self.take(client)?;
                    meter.answered(&mut self.latencies);
                    if pacer.is_none() && !meter.is_over() {
                        for _ in 0..answered {
                            self.ask(client.output(), Instant::now());
                        }
                    }
                }
                moments = ticks(&mut pacer), if !meter.is_over() => {
                    for moment in moments? {
                        self.ask(client.output(), moment);
                    }
                }
                () = &mut end, if !meter.is_over() => {}
                () = &mut deadline => break,
            }
            client.flush().await?;
        }
        Ok(())
    }

    fn open(&self) -> usize {
        self.responses.open() + self.acks.open()
    }

    fn ask(&mut self, output: &mut Output, moment: Instant) {
        let number = self.responses.ask(moment);
        self.scratch.clear();
        let (event, head, tail) = (&self.event, &self.head, &self.tail);
        write!(self.scratch, "[\"{event}\",{head}{number}{tail}]").expect("a Vec takes everything");
        if self.with_ack {
            let id = self.acks.ask(moment);
            output.event_with_ack(id, &self.scratch);
        } else {
            output.event(&self.scratch);
        }
    }

    /// Checks what has come; returns how many questions have been answered.
    fn take(&mut self, client: &mut Client) -> Result<usize> {
        let mut answered = 0;
        client.packets(|packet, _| {
            let done = match packet {
                Packet::Event(arguments) => self.take_event(arguments),
                Packet::Ack { id, arguments } => self.take_ack(id, arguments),
                other => bail!("unexpected: {other:?}"),
            };
            answered += usize::from(done);
            Ok(())
        })?;
        Ok(answered)
    }

    fn take_event(&mut self, arguments: &[u8]) -> bool {
        let data = arguments.strip_prefix(self.answer.as_slice());
        let number = data.and_then(|data| self.number(data)).unwrap_or_else(|| {
            self.faults.wrong_answer(arguments);
            // Something was answered: go on with the next question.
            self.responses.due()
        });
        let answer = self.responses.answer(number);
        let counts = !self.with_ack || is_event(arguments, "mixlab:error");
        self.judge(answer, counts)
    }

    fn take_ack(&mut self, id: u64, arguments: &[u8]) -> bool {
        let data = arguments.strip_prefix(b"[");
        let data = data.and_then(|data| data.strip_suffix(b"]"));
        if data.and_then(|data| self.number(data)) != Some(id) {
            self.faults.wrong_answer(arguments);
            // An event that failed has no other effect.
            if arguments.starts_with(br#"[{"error":"#) {
                self.responses.answer(id);
            }
        }
        let answer = self.acks.answer(id);
        self.judge(answer, true)
    }

    fn judge(&mut self, answer: Answer<Instant>, counts: bool) -> bool {
        let moment = match answer {
            Answer::InOrder(moment) => moment,
            Answer::Overtaking(moment) => {
                self.faults.out_of_order += 1;
                moment
            }
            Answer::Double => {
                self.faults.double += 1;
                return false;
            }
        };
        if counts {
            self.latencies.push(moment.elapsed());
        }
        counts
    }

    /// The number in data that repeats a question; none if it differs in anything else.
    fn number(&self, data: &[u8]) -> Option<u64> {
        let number = data
            .strip_prefix(self.head.as_bytes())?
            .strip_suffix(self.tail.as_bytes())?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }
}

fn name_of(event: &str) -> Vec<u8> {
    format!("\"{event}\",").into_bytes()
}

async fn ticks(
    pacer: &mut Option<Pacer>,
) -> std::io::Result<impl Iterator<Item = Instant> + use<>> {
    match pacer {
        Some(pacer) => pacer.ticks().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn an_answer_must_repeat_its_question() {
        let conversation = Conversation::new(7, false, 2);
        let data = br#"{"socket":7,"n":12,"text":"xx"}"#;
        assert_eq!(conversation.number(data), Some(12));
        for wrong in [
            br#"{"socket":8,"n":12,"text":"xx"}"#.as_slice(),
            br#"{"socket":7,"n":12,"text":"xy"}"#,
            br#"{"socket":7,"n":,"text":"xx"}"#,
            br#"{"socket":7,"n":12,"text":"xx"},1"#,
        ] {
            assert_eq!(conversation.number(wrong), None);
        }
    }

    /// Sends a few events, with acks, to a server with this script.
    async fn check(
        script: impl Fn(u64, &str) -> Option<Vec<String>> + Send + Sync + 'static,
    ) -> Faults {
        let client = fake::connect(script).await;
        let meter = Meter::new();
        let talk = Conversation::new(7, true, 2).run(client, Pace::InFlight(2), meter.clone());
        fake::faults(tokio::spawn(talk), &meter).await
    }

    fn answers(id: u64, arguments: &str) -> Vec<String> {
        let data = arguments.strip_prefix("[\"custom_event\",").unwrap();
        vec![
            format!("42[\"custom_response\",{data}"),
            format!("43{id}[{data}"),
        ]
    }

    #[tokio::test]
    async fn faults_of_a_server_are_told_apart() {
        let right = check(|id, arguments| Some(answers(id, arguments))).await;
        assert_eq!(right.total(), 0, "{right:?}");

        let no_response = check(|id, arguments| match id {
            5 => Some(answers(id, arguments).split_off(1)),
            _ => Some(answers(id, arguments)),
        });
        assert_eq!(no_response.await.lost, 1);

        let two_responses = check(|id, arguments| match id {
            5 => Some([answers(5, arguments), answers(5, arguments)].concat()),
            _ => Some(answers(id, arguments)),
        });
        assert_eq!(two_responses.await.double, 2);

        let other_text = check(|id, arguments| match id {
            5 => Some(answers(id, &arguments.replace("xx", "xy"))),
            _ => Some(answers(id, arguments)),
        });
        let other_text = other_text.await;
        assert_eq!((other_text.wrong, other_text.total()), (2, 2));

        let refused = check(|id, arguments| match id {
            5 => Some(vec![format!(
                r#"43{id}[{{"error":{{"code":"rate_limited"}}}}]"#
            )]),
            _ => Some(answers(id, arguments)),
        });
        let refused = refused.await;
        assert_eq!((refused.refused, refused.total()), (1, 1), "{refused:?}");
    }
}
