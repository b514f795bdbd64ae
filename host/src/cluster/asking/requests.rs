//! What this server has asked others and they have not all answered.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::talk::{Answer, Said};
use crate::message::Message;

/// More requests are not sent: others answer too slowly.
const MAX_OPEN: usize = 100_000;

/// The requests that are open.
#[derive(Default)]
pub(crate) struct Requests(Mutex<HashMap<String, Open>>);

/// Who is asked, and where the answers go. They are as many as who is asked: so that needs no bound.
enum Open {
    /// All servers, each of which answers once.
    Servers {
        heard: HashSet<String>,
        answers: UnboundedSender<Answer>,
    },
    /// One client, of this server.
    Client {
        server: String,
        socket: String,
        answers: UnboundedSender<ClientAnswer>,
    },
}

/// What a client, by its public id, has answered; none if it is gone.
pub(crate) type ClientAnswer = (String, Option<Message>);

/// Requests whose answers come here, until it is dropped.
pub(crate) struct Pending<T> {
    /// Their ids.
    pub ids: Vec<String>,
    pub answers: UnboundedReceiver<T>,
    requests: Arc<Requests>,
}

impl Requests {
    /// All servers are about to be asked; none if too much is asked already.
    pub(crate) fn to_servers(self: &Arc<Self>) -> Option<Pending<Answer>> {
        let (answers, receiver) = unbounded_channel();
        let heard = HashSet::new();
        self.open([Open::Servers { heard, answers }], receiver)
    }

    /// Clients are about to be asked, of these servers and with these public ids.
    pub(crate) fn to_clients(
        self: &Arc<Self>,
        clients: &[(String, String)],
    ) -> Option<Pending<ClientAnswer>> {
        let (answers, receiver) = unbounded_channel();
        let open = clients.iter().map(|(server, socket)| Open::Client {
            server: server.clone(),
            socket: socket.clone(),
            answers: answers.clone(),
        });
        self.open(open, receiver)
    }

    fn open<T>(
        self: &Arc<Self>,
        all: impl IntoIterator<Item = Open, IntoIter: ExactSizeIterator>,
        answers: UnboundedReceiver<T>,
    ) -> Option<Pending<T>> {
        let all = all.into_iter();
        let mut requests = self.0.lock();
        if requests.len() + all.len() > MAX_OPEN {
            return None;
        }
        let mut ids = Vec::with_capacity(all.len());
        for open in all {
            let id = format!("{:016x}", rand::random::<u64>());
            requests.insert(id.clone(), open);
            ids.push(id);
        }
        Some(Pending {
            ids,
            answers,
            requests: self.clone(),
        })
    }

    /// A server has answered. What nobody waits for is dropped.
    pub(crate) fn answer(&self, answer: Answer) {
        let mut requests = self.0.lock();
        let Some(open) = requests.get_mut(&answer.id) else {
            return;
        };
        match open {
            Open::Servers { heard, answers } => {
                if heard.insert(answer.server.clone()) {
                    // Whoever asked may wait no more.
                    answers.send(answer).ok();
                }
            }
            Open::Client {
                server,
                socket,
                answers,
            } => {
                // In the stream all hear of it, and say that they have no such client.
                if *server != answer.server {
                    return;
                }
                let id = answer.id.clone();
                let said = match answer.read() {
                    Ok(Said::Ack(message)) => Some(message),
                    Ok(Said::Clients(0)) => None,
                    // Its ack comes, or cannot be read: that is none in time.
                    _ => return,
                };
                answers.send((std::mem::take(socket), said)).ok();
                requests.remove(&id);
            }
        }
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        let mut requests = self.requests.0.lock();
        for id in &self.ids {
            requests.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::talk::Talk, *};

    fn answer(server: &str, id: &str, said: Said) -> Answer {
        match Talk::unpack(&said.say(id).pack(server, "/")) {
            Ok(Some(Talk::Answer(answer))) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_server_is_heard_once_and_nothing_is_left_of_a_request() {
        let requests: Arc<Requests> = Arc::default();
        let mut pending = requests.to_servers().unwrap();
        let id = pending.ids[0].clone();
        for server in ["a", "a", "b"] {
            requests.answer(answer(server, &id, Said::Count(1)));
            requests.answer(answer(server, "0", Said::Count(1)));
        }
        let mut heard = Vec::new();
        while let Ok(answer) = pending.answers.try_recv() {
            heard.push(answer.server);
        }
        assert_eq!(heard, ["a", "b"]);
        drop(pending);
        assert!(requests.0.lock().is_empty());
    }

    #[test]
    fn a_client_is_heard_of_by_its_own_server() {
        let requests: Arc<Requests> = Arc::default();
        let clients = [("a", "1"), ("b", "2")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let mut pending = requests.to_clients(&clients).unwrap();
        for (server, said) in [
            ("b", Said::Clients(0)),
            ("a", Said::Clients(1)),
            ("a", Said::Ack(Message::none())),
        ] {
            requests.answer(answer(server, &pending.ids[0], said));
        }
        requests.answer(answer("b", &pending.ids[1], Said::Clients(0)));
        let heard = [pending.answers.try_recv(), pending.answers.try_recv()];
        let heard = heard.map(|it| it.map(|(id, said)| (id, said.is_some())));
        assert_eq!(
            heard,
            [Ok(("1".to_owned(), true)), Ok(("2".to_owned(), false))]
        );
        assert!(requests.0.lock().is_empty());
    }
}
