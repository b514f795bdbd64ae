use std::{
    io::Read,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::mpsc,
};

use super::*;
use crate::transport::{
    frame,
    introduction::Introduction,
    outbox::{Capacity, Pushed},
    receivers::Receiver,
    session::Sessions,
};

const CAPACITY: Capacity = Capacity {
    packets: 1000,
    bytes: 1_000_000,
};

const MASK: [u8; 4] = [7, 99, 0, 255];
const MAX_MESSAGE: u64 = 1000;

fn session() -> Arc<Session> {
    Arc::new(Sessions::new(CAPACITY)).begin(None)
}

fn from_client(first: u8, payload: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::push_masked(&mut frame, first, payload.as_bytes());
    let start = frame.len() - payload.len();
    frame[start - 4..start].copy_from_slice(&MASK);
    for (byte, mask) in frame[start..].iter_mut().zip(MASK.into_iter().cycle()) {
        *byte ^= mask;
    }
    frame
}

fn from_server(first: u8, payload: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::push(&mut frame, first, payload.as_bytes());
    frame
}

/// The texts of whole frames.
fn payloads(mut frames: &[u8]) -> Vec<String> {
    let mut payloads = Vec::new();
    while !frames.is_empty() {
        let header = Header::parse(frames).unwrap();
        let length = header.frame_length() as usize;
        let payload = header.unmask(&frames[header.size..length]).collect();
        payloads.push(String::from_utf8(payload).unwrap());
        frames = &frames[length..];
    }
    payloads
}

/// A client, and both halves of the server's side.
async fn connected() -> (TcpStream, OwnedReadHalf, OwnedWriteHalf) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let (reader, writer) = accepted.unwrap().0.into_split();
    let client = client.unwrap();
    client.set_nodelay(true).unwrap();
    (client, reader, writer)
}

/// A client, and the stream of its session with a websocket.
async fn open(session: Arc<Session>) -> (TcpStream, Stream) {
    let (client, reader, writer) = connected().await;
    session.open_websocket(writer, Duration::from_secs(5), |_| Bytes::new());
    (client, Stream::new(reader, session, MAX_MESSAGE, &[]))
}

/// What socketioxide reads when `bytes` come from the network in pieces of `size`.
async fn read(bytes: Vec<u8>, size: usize) -> Vec<u8> {
    read_from(session(), bytes, size).await
}

async fn read_from(session: Arc<Session>, bytes: Vec<u8>, size: usize) -> Vec<u8> {
    let (mut client, mut stream) = open(session).await;
    let writing = tokio::spawn(async move {
        for piece in bytes.chunks(size) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.shutdown().await.unwrap();
    });
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.unwrap();
    writing.await.unwrap();
    read
}

#[tokio::test]
async fn only_frames_with_escaped_names_are_changed_however_they_arrive() {
    let long = format!("42[\"long\",\"{}\"]", "x".repeat(300));
    let huge = format!("42[\"\\n\",\"{}\"]", "x".repeat(2000));
    let sent = [
        (frame::TEXT, "40"),
        (frame::TEXT, r#"42["a\"b",1]"#),
        (frame::PING, ""),
        (frame::TEXT, &long),
        (frame::BINARY, r#"42["\\"]"#),
        (frame::FIRST_TEXT, r#"42["\n","#),
        (0x80, r#""\\"]"#),
        (frame::TEXT, &huge),
        (frame::TEXT, r#"42["na"#),
    ];
    let mut expected: Vec<&str> = sent.iter().map(|(_, payload)| *payload).collect();
    expected[1] = r#"42["mixlab:escaped","a\"b",1]"#;
    expected.splice(5..7, [r#"42["mixlab:escaped","\n","\\"]"#]);
    let bytes: Vec<u8> = sent
        .iter()
        .flat_map(|(first, payload)| from_client(*first, payload))
        .collect();
    for size in [1, 2, 3, 7, 64, 10_000] {
        let read = read(bytes.clone(), size).await;
        assert_eq!(payloads(&read), expected, "in pieces of {size}");
    }
}

#[tokio::test]
async fn a_namespace_is_asked_for_before_the_packet_is_passed_on() {
    let sessions = Arc::new(Sessions::new(CAPACITY));
    let (asked, mut paths) = mpsc::unbounded_channel();
    sessions.ask_before_connect(Box::new(move |path| asked.send(path.to_owned()).is_ok()));
    let (mut client, mut stream) = open(sessions.begin(None)).await;
    for (packet, path) in [
        ("40/room-7,{}", Some("/room-7")),
        ("40/é", Some("/é")),
        ("40", None),
        ("41/room-7,", None),
        (r#"42/room-7,["a"]"#, None),
    ] {
        let frame = from_client(frame::TEXT, packet);
        client.write_all(&frame).await.unwrap();
        let mut read = vec![0; frame.len()];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(payloads(&read), [packet]);
        assert_eq!(paths.try_recv().ok().as_deref(), path, "{packet}");
    }
}

#[tokio::test]
async fn what_ends_in_a_frame_is_passed_on_as_far_as_it_goes() {
    let bytes = from_client(frame::TEXT, r#"42["a\"b",1]"#);
    for length in 0..bytes.len() {
        let read = read(bytes[..length].to_vec(), 5).await;
        assert_eq!(read, bytes[..length]);
    }
}

#[tokio::test]
async fn clients_are_introduced_and_the_first_ping_is_answered_for_them() {
    let packets = [
        "0{}",
        "2",
        "40{\"sid\":\"secret\"}",
        "42[\"a\"]",
        "40/b,{\"sid\":\"secret\"}",
        "2",
    ];
    let bytes: Vec<u8> = packets
        .iter()
        .flat_map(|packet| from_server(frame::TEXT, packet))
        .collect();
    for size in [1, 2, 3, 7, 10_000] {
        let session = session();
        for namespace in ["/", "/b"] {
            session.announce(Introduction {
                namespace: namespace.to_owned(),
                sid: "public".to_owned(),
                pid: None,
            });
            session.introduce(namespace);
        }
        let (mut client, mut stream) = open(session).await;
        for piece in bytes.chunks(size) {
            stream.write_all(piece).await.unwrap();
        }
        stream.flush().await.unwrap();
        let mut pong = [0; 7];
        stream.read_exact(&mut pong).await.unwrap();
        assert_eq!(payloads(&pong), ["3"]);
        drop(stream);
        let mut written = Vec::new();
        client.read_to_end(&mut written).await.unwrap();
        assert_eq!(
            payloads(&written),
            [
                "0{}",
                "40{\"sid\":\"public\"}",
                "42[\"a\"]",
                "40/b,{\"sid\":\"public\"}",
                "2"
            ],
            "in pieces of {size}"
        );
    }
}

#[tokio::test]
async fn a_client_is_introduced_when_its_connection_is_ready() {
    for answered_first in [true, false] {
        let session = session();
        let (mut client, mut stream) = open(session.clone()).await;
        session.announce(Introduction {
            namespace: "/".to_owned(),
            sid: "public".to_owned(),
            pid: None,
        });
        let answer = from_server(frame::TEXT, "40{\"sid\":\"secret\"}");
        if answered_first {
            stream.write_all(&answer).await.unwrap();
            stream.flush().await.unwrap();
            assert!(client.try_read(&mut [0; 8]).is_err());
        }
        session.introduce("/");
        if !answered_first {
            stream.write_all(&answer).await.unwrap();
        }
        assert!(session.introductions().is_empty());
        stream
            .write_all(&from_server(frame::TEXT, "2"))
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
        let mut written = Vec::new();
        client.read_to_end(&mut written).await.unwrap();
        assert_eq!(payloads(&written)[0], "40{\"sid\":\"public\"}");
    }
}

/// What the client can read at once.
fn arrived(client: &mut std::net::TcpStream) -> Vec<String> {
    let mut frames = [0; 100];
    match client.read(&mut frames) {
        Ok(length) => payloads(&frames[..length]),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            Vec::new()
        }
    }
}

#[tokio::test]
async fn what_follows_an_introduction_stays_behind_it() {
    let session = session();
    let (client, mut stream) = open(session.clone()).await;
    let mut client = client.into_std().unwrap();
    session.announce(Introduction {
        namespace: "/".to_owned(),
        sid: "public".to_owned(),
        pid: None,
    });
    // The pause does not end before this test waits for something.
    session.introduce("/");
    assert_eq!(arrived(&mut client), ["40{\"sid\":\"public\"}"]);
    session
        .outbox
        .push(&from_server(frame::TEXT, "42[]").into(), false);
    session.flush();
    assert!(arrived(&mut client).is_empty());
    // socketioxide's first ping is answered in the client's place, who has said nothing.
    let ping = from_server(frame::TEXT, "2");
    let written = stream.write_all(&ping).now_or_never();
    written.expect("nothing to wait for").unwrap();
    let read = stream.read_exact(&mut [0; 7]).now_or_never();
    read.expect("nothing to wait for").unwrap();
    assert!(stream.read(&mut [0; 7]).now_or_never().is_none());
    assert!(arrived(&mut client).is_empty());

    let mut client = TcpStream::from_std(client).unwrap();
    let mut event = [0; 6];
    client.read_exact(&mut event).await.unwrap();
    assert_eq!(payloads(&event), ["42[]"]);
}

#[tokio::test]
async fn after_an_upgrade_waiting_packets_go_out_first_and_the_probe_stays_inside() {
    let (mut client, reader, writer) = connected().await;
    let early = from_client(frame::TEXT, "42[\"early\"]");
    let waiting = from_server(frame::TEXT, "42[\"waiting\"]");
    let session = session();
    session.open_websocket(writer, Duration::from_secs(5), |_| waiting.into());
    let mut stream = Stream::upgraded(reader, session, MAX_MESSAGE, &early);
    let mut read = vec![0; 12 + 7 + early.len()];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(payloads(&read), ["2probe", "5", "42[\"early\"]"]);
    for packet in ["3probe", "42[\"new\"]", "2"] {
        stream
            .write_all(&from_server(frame::TEXT, packet))
            .await
            .unwrap();
    }
    stream.shutdown().await.unwrap();
    let mut written = Vec::new();
    client.read_to_end(&mut written).await.unwrap();
    assert_eq!(payloads(&written), ["42[\"waiting\"]", "42[\"new\"]", "2"]);
}

#[tokio::test]
async fn answers_wait_for_the_reader_and_leave_together() {
    let session = session();
    let (mut client, mut stream) = open(session.clone()).await;
    client
        .write_all(&from_client(frame::TEXT, "42[]"))
        .await
        .unwrap();
    let mut read = [0; 10];
    stream.read_exact(&mut read).await.unwrap();
    let push = |packet: &str| {
        let frame = from_server(frame::TEXT, packet);
        session.outbox.push(&frame.into(), false)
    };
    // The reader is busy with the event.
    assert_eq!([push("one"), push("two")], [Pushed::Taken, Pushed::Taken]);
    let mut written = [0; 10];
    assert!(client.try_read(&mut written).is_err());
    assert!(stream.read(&mut read).now_or_never().is_none());
    client.read_exact(&mut written).await.unwrap();
    assert_eq!(payloads(&written), ["one", "two"]);
    // Now it waits, and whoever sends writes.
    assert_eq!(push("three"), Pushed::Waiting);
    session.flush();
    client.read_exact(&mut written[..7]).await.unwrap();
    assert_eq!(payloads(&written[..7]), ["three"]);
}

#[tokio::test]
async fn a_client_that_reads_again_gets_what_waited_and_one_that_does_not_is_let_go() {
    for reads_again in [true, false] {
        let session = session();
        let (mut client, reader, writer) = connected().await;
        session.open_websocket(writer, Duration::from_millis(300), |_| Bytes::new());
        let mut stream = Stream::new(reader, session.clone(), MAX_MESSAGE, &[]);
        let reading = tokio::spawn(async move { stream.read(&mut [0; 10]).await });
        let packet = Bytes::from(from_server(frame::TEXT, &"x".repeat(60_000)));
        let mut sent = 0;
        while !session.outbox.is_blocked() {
            assert_eq!(session.outbox.push(&packet, false), Pushed::Waiting);
            session.flush();
            sent += packet.len();
        }
        assert_eq!(session.outbox.push(&packet, true), Pushed::Skipped);
        while session.outbox.push(&packet, false) == Pushed::Waiting {
            sent += packet.len();
        }
        assert_eq!(session.outbox.push(&packet, false), Pushed::Full);
        if reads_again {
            let mut received = vec![0; sent];
            client.read_exact(&mut received).await.unwrap();
            assert_eq!(payloads(&received).len(), sent / packet.len());
            reading.abort();
        } else {
            let error = reading.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(session.is_ended());
            assert_eq!(session.outbox.push(&packet, false), Pushed::Closed);
        }
    }
}

/// Notes the events that it gets.
#[derive(Default)]
struct Noting(Mutex<Vec<String>>);

impl Receiver for Noting {
    fn receive(&self, array: &str, ack: Option<i64>) -> bool {
        let is_readable = array.ends_with(']');
        if is_readable {
            self.0.lock().unwrap().push(format!("{ack:?} {array}"));
        }
        is_readable
    }
}

#[tokio::test]
async fn events_go_to_their_receivers_and_the_rest_to_socketioxide_in_order() {
    let large = format!("42[\"{}\"]", "x".repeat(2000));
    let sent = [
        (frame::TEXT, r#"42["a"]"#),
        (frame::TEXT, r#"42/n,7["b","\"\\"]"#),
        (frame::TEXT, "3"),
        (frame::TEXT, r#"42["after a pong"]"#),
        (frame::TEXT, r#"42/other,["c"]"#),
        (frame::TEXT, r#"42["cut"#),
        (frame::TEXT, r#"42x["d"]"#),
        (frame::TEXT, r#"452-["e",{"_placeholder":true,"num":0}]"#),
        (frame::BINARY, "one"),
        (frame::TEXT, r#"42["between attachments"]"#),
        (frame::BINARY, "two"),
        (frame::TEXT, r#"42["after attachments"]"#),
        (frame::FIRST_TEXT, r#"42["#),
        (frame::PING, ""),
        (0x80, r#""in parts"]"#),
        (frame::TEXT, r#"42["after parts"]"#),
        (frame::TEXT, &large),
        (frame::TEXT, r#"42["after a large one"]"#),
    ];
    let bytes: Vec<u8> = sent
        .iter()
        .flat_map(|(first, payload)| from_client(*first, payload))
        .collect();
    for size in [1, 2, 3, 7, 64, 10_000] {
        let session = session();
        let (main, other) = (Arc::new(Noting::default()), Arc::new(Noting::default()));
        session.receivers.add("/", main.clone());
        session.receivers.add("/n", other.clone());
        let passed = read_from(session, bytes.clone(), size).await;
        let expected = [2, 4, 5, 6, 7, 8, 9, 10, 13, 16].map(|index: usize| sent[index].1);
        assert_eq!(payloads(&passed), expected, "in pieces of {size}");
        assert_eq!(
            *main.0.lock().unwrap(),
            [
                r#"None ["a"]"#,
                r#"None ["after a pong"]"#,
                r#"None ["after attachments"]"#,
                r#"None ["in parts"]"#,
                r#"None ["after parts"]"#,
                r#"None ["after a large one"]"#,
            ],
            "in pieces of {size}"
        );
        assert_eq!(*other.0.lock().unwrap(), [r#"Some(7) ["b","\"\\"]"#]);
    }
}

#[tokio::test]
async fn what_comes_for_a_namespace_that_the_client_has_left_is_dropped_however_it_arrives() {
    let large = "x".repeat(2000);
    let sent = [
        (frame::TEXT, "41/left,", false),
        (frame::TEXT, r#"42/left,["a"]"#, false),
        (frame::TEXT, r#"42/leftover,["a"]"#, true),
        (frame::TEXT, r#"43/left,1[]"#, false),
        (frame::TEXT, r#"452-/left,["a"]"#, false),
        (frame::BINARY, &large, false),
        (frame::PING, "", true),
        (0x02, "an attachment ", false),
        (frame::PING, "", true),
        (0x80, "in parts", false),
        (frame::TEXT, r#"461-/left,1[]"#, false),
        (frame::BINARY, "42/leftover,[]", false),
        (frame::TEXT, r#"451-/leftover,["a"]"#, true),
        (frame::BINARY, "one of another", true),
        (frame::BINARY, "one of none", true),
        (frame::TEXT, r#"450-/left,["a"]"#, false),
        (frame::TEXT, "40/other,", true),
        (frame::TEXT, "41/left", false),
        (frame::TEXT, "40/left,", true),
        (frame::TEXT, r#"42/left,["a"]"#, true),
        (frame::TEXT, "41", true),
    ];
    let bytes: Vec<u8> = sent
        .iter()
        .flat_map(|(first, payload, _)| from_client(*first, payload))
        .collect();
    let passing = sent.iter().filter(|(_, _, passes)| *passes);
    let expected: Vec<&str> = passing.map(|(_, payload, _)| *payload).collect();
    for size in [1, 2, 3, 7, 64, 10_000] {
        let session = session();
        session.receivers.leave("/left");
        let passed = read_from(session, bytes.clone(), size).await;
        assert_eq!(payloads(&passed), expected, "in pieces of {size}");
    }
}

#[tokio::test]
async fn a_socket_that_has_ended_stays_until_the_packet_under_way_has_been_read() {
    for (first, then) in [
        ((frame::TEXT, "43/n,1[]"), None),
        ((frame::TEXT, "451-/n,[]"), Some((frame::BINARY, "all"))),
        ((frame::TEXT, "451-/n,[]"), Some((0x02, "a part"))),
    ] {
        let session = session();
        let (mut client, mut stream) = open(session.clone()).await;
        let removed = Arc::new(AtomicBool::new(false));
        let remove = || {
            let removed = removed.clone();
            Box::new(move || removed.store(true, Ordering::Relaxed))
        };
        let is_removed = || removed.swap(false, Ordering::Relaxed);
        session.reading.when_read(remove());
        assert!(is_removed(), "nothing is read");
        let mut pass = async |(first, payload)| {
            let frame = from_client(first, payload);
            client.write_all(&frame).await.unwrap();
            stream.read_exact(&mut vec![0; frame.len()]).await.unwrap();
            session.reading.when_read(remove());
            assert!(!is_removed(), "{payload} is being read");
            assert!(stream.read(&mut [0]).now_or_never().is_none());
            is_removed()
        };
        let Some(then) = then else {
            assert!(pass(first).await);
            continue;
        };
        assert!(!pass(first).await);
        let is_whole = then.0 == frame::BINARY;
        assert_eq!(pass(then).await, is_whole);
        if !is_whole {
            assert!(pass((0x80, "and the rest")).await);
        }
    }
}

#[tokio::test]
async fn an_event_waits_until_socketioxide_has_dealt_with_what_came_before() {
    let session = session();
    let receiver = Arc::new(Noting::default());
    session.receivers.add("/", receiver.clone());
    let (mut client, mut stream) = open(session).await;
    let packets = ["41", r#"42["a"]"#].map(|packet| from_client(frame::TEXT, packet));
    client.write_all(&packets.concat()).await.unwrap();
    let mut passed = [0; 8];
    stream.read_exact(&mut passed).await.unwrap();
    assert_eq!(payloads(&passed), ["41"]);
    assert!(receiver.0.lock().unwrap().is_empty());
    assert!(stream.read(&mut passed).now_or_never().is_none());
    assert_eq!(*receiver.0.lock().unwrap(), [r#"None ["a"]"#]);
}
