//! Whatever happens to a few clients, in whatever order: who recovers has every event once and in order.

use std::slice;

use proptest::{collection::vec, prelude::*};

use super::{
    Client, ROOMS, VOLATILE, broadcast, broadcast_volatile, everyone, limits, namespace, only,
    roomy,
};
use crate::{config, transport::Selection};

/// What happens, to one of the clients or to all of them.
#[derive(Debug, Clone)]
enum Step {
    Emit(usize),
    EmitVolatile(usize),
    Broadcast(Names),
    BroadcastVolatile(Names),
    Join(usize, usize),
    Leave(usize, usize),
    /// The client reads so many of what waits.
    Read(usize, usize),
    Cut(usize),
    Back(usize),
}

/// The rooms and clients of a selection.
#[derive(Debug, Clone)]
struct Names {
    rooms: Vec<usize>,
    clients: Vec<usize>,
    except_rooms: Vec<usize>,
    except_clients: Vec<usize>,
}

const CLIENTS: usize = 3;

impl Names {
    fn selection(&self, clients: &[Client]) -> Selection {
        let rooms = |rooms: &[usize]| -> Vec<_> {
            rooms.iter().map(|room| ROOMS[*room].to_owned()).collect()
        };
        let ids = |ids: &[usize]| -> Vec<_> {
            ids.iter()
                .map(|client| clients[*client].id.clone())
                .collect()
        };
        Selection {
            rooms: rooms(&self.rooms),
            sockets: ids(&self.clients),
            except: [rooms(&self.except_rooms), ids(&self.except_clients)].concat(),
            except_socket: None,
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let room = || 0..ROOMS.len();
    let client = || 0..CLIENTS;
    let selection = || {
        let parts = (
            vec(room(), 0..3),
            vec(client(), 0..2),
            vec(room(), 0..2),
            vec(client(), 0..2),
        );
        parts.prop_map(|(rooms, clients, except_rooms, except_clients)| Names {
            rooms,
            clients,
            except_rooms,
            except_clients,
        })
    };
    prop_oneof![
        4 => client().prop_map(Step::Emit),
        1 => client().prop_map(Step::EmitVolatile),
        4 => selection().prop_map(Step::Broadcast),
        1 => selection().prop_map(Step::BroadcastVolatile),
        1 => (client(), room()).prop_map(|(client, room)| Step::Join(client, room)),
        1 => (client(), room()).prop_map(|(client, room)| Step::Leave(client, room)),
        3 => (client(), 0..6usize).prop_map(|(client, count)| Step::Read(client, count)),
        2 => client().prop_map(Step::Cut),
        2 => client().prop_map(Step::Back),
    ]
}

/// What a client was replayed without seeing any of it.
#[derive(Default)]
struct Replayed {
    offset: Option<String>,
    first: Option<String>,
    times: usize,
}

impl Replayed {
    /// Whether the client may have what it missed, and has not dropped over it twice.
    fn allows(&self, client: &Client) -> bool {
        let first = client.first_missed();
        first.is_none() || self.times < 2 || !self.is(client)
    }

    fn note(&mut self, client: &Client) {
        if !self.is(client) {
            self.offset = client.offset.clone();
            self.first = client.first_missed().cloned();
            self.times = 0;
        }
        self.times += 1;
    }

    fn is(&self, client: &Client) -> bool {
        (&self.offset, self.first.as_ref()) == (&client.offset, client.first_missed())
    }
}

/// Runs the steps. A client that recovers has to have every event once and in order; returns whether
/// each has recovered whenever it came back, but where it drops over the same event again and again.
fn run(limits: config::Recovery, steps: &[Step]) -> bool {
    let journal = namespace(limits);
    // Others have been here before.
    for number in 0..3 {
        broadcast(&journal, &mut [], everyone(), &format!("old{number}"));
    }
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(&journal)).collect();
    let mut replayed: Vec<Replayed> = (0..CLIENTS).map(|_| Replayed::default()).collect();
    let mut always = true;
    for (number, step) in steps.iter().enumerate() {
        let name = number.to_string();
        let volatile = format!("{VOLATILE}{number}");
        match step {
            Step::Emit(client) => clients[*client].emit(&journal, &name),
            Step::EmitVolatile(client) => clients[*client].emit_volatile(&journal, &volatile),
            Step::Broadcast(to) => {
                let to = to.selection(&clients);
                broadcast(&journal, &mut clients, to, &name);
            }
            Step::BroadcastVolatile(to) => {
                let to = to.selection(&clients);
                broadcast_volatile(&journal, &mut clients, &to, &volatile);
            }
            Step::Join(client, room) if clients[*client].is_here => {
                clients[*client].change_rooms(&journal, ROOMS[*room], true);
            }
            Step::Leave(client, room) if clients[*client].is_here => {
                clients[*client].change_rooms(&journal, ROOMS[*room], false);
            }
            Step::Read(client, count) if clients[*client].is_here => clients[*client].read(*count),
            Step::Cut(client) if clients[*client].is_here => clients[*client].cut(&journal),
            Step::Back(client) if !clients[*client].is_here => {
                let (client, replayed) = (&mut clients[*client], &mut replayed[*client]);
                let is_allowed = replayed.allows(client);
                let recovered = client.come_back(&journal, |client| {
                    client.emit(&journal, &format!("{name}own"));
                    let to = only(&client.id);
                    let clients = slice::from_mut(client);
                    broadcast(&journal, clients, to, &format!("{name}all"));
                });
                if recovered {
                    assert!(is_allowed);
                    assert_eq!(client.meant, client.lasting());
                    replayed.note(client);
                } else {
                    always &= !is_allowed;
                    client.start_afresh(&journal);
                    *replayed = Replayed::default();
                }
            }
            _ => {}
        }
    }
    for client in clients.iter().filter(|client| client.is_here) {
        assert_eq!(client.meant, client.lasting());
    }
    always
}

proptest! {
    #[test]
    fn who_comes_back_has_every_event_once_and_in_order(steps in vec(step(), 0..200)) {
        prop_assert!(run(roomy(), &steps));
    }

    #[test]
    fn with_little_memory_it_is_all_or_nothing(steps in vec(step(), 0..300)) {
        run(limits(6, 4096), &steps);
    }

    #[test]
    fn with_room_for_few_clients_it_is_all_or_nothing(steps in vec(step(), 0..200)) {
        run(config::Recovery { max_clients: 1, ..roomy() }, &steps);
    }
}
