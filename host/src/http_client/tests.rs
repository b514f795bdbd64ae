//! The client against servers of this machine.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use super::*;

const KIB: usize = 1024;

/// A server that says the same to every request, and how many connections it had. It tells of each
/// request that it has answered, and of each connection that the client ended.
struct Upstream {
    port: u16,
    connections: Arc<AtomicUsize>,
    answered: mpsc::UnboundedReceiver<()>,
    ended: mpsc::UnboundedReceiver<()>,
}

impl Upstream {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections: Arc<AtomicUsize> = Arc::default();
        let (tell_answered, answered) = mpsc::unbounded_channel();
        let (tell_ended, ended) = mpsc::unbounded_channel();
        tokio::spawn({
            let connections = connections.clone();
            async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::Relaxed);
                    let (answered, ended) = (tell_answered.clone(), tell_ended.clone());
                    tokio::spawn(async move {
                        serve(tcp, answer, answered).await;
                        ended.send(()).ok();
                    });
                }
            }
        });
        Self {
            port,
            connections,
            answered,
            ended,
        }
    }

    fn request(&self, host: &str) -> Request<Full<Bytes>> {
        let uri = format!("http://{host}:{}/", self.port);
        Request::get(uri).body(Full::default()).unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Answers each request, which comes in one piece, until the client ends the connection.
async fn serve(mut tcp: TcpStream, answer: &str, answered: mpsc::UnboundedSender<()>) {
    let mut request = [0; 16 * KIB];
    while let Ok(1..) = tcp.read(&mut request).await {
        tcp.write_all(answer.as_bytes()).await.ok();
        answered.send(()).ok();
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: b\r\n\r\nhi";

/// A client for which every name has the address that its turn says, the last for good.
fn client(addresses: &[&str]) -> (HttpClient, Arc<AtomicUsize>) {
    let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let asked: Arc<AtomicUsize> = Arc::default();
    let lookups = Lookups::new({
        let asked = asked.clone();
        move |_| {
            let turn = asked.fetch_add(1, Ordering::Relaxed);
            Ok(vec![addresses[turn.min(addresses.len() - 1)]])
        }
    });
    (HttpClient::with_lookups(lookups), asked)
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let upstream = Upstream::start(OK).await;
    let (client, asked) = client(&["127.0.0.1"]);
    for _ in 0..3 {
        let request = upstream.request("name.example");
        let answer = client.send(request, Reach::Private, KIB).await.unwrap();
        assert_eq!((answer.status, &*answer.body), (StatusCode::OK, &b"hi"[..]));
        assert_eq!(answer.headers["x-a"], "b");
    }
    assert_eq!(
        (upstream.connections(), asked.load(Ordering::Relaxed)),
        (1, 1)
    );
}

#[tokio::test]
async fn a_name_whose_address_changes_behind_the_check_gains_nothing() {
    let upstream = Upstream::start(OK).await;
    // A second look would find another address than the one that was checked.
    let (client, asked) = client(&["127.0.0.1", "169.254.169.254"]);
    let request = || upstream.request("name.example");
    let first = client.send(request(), Reach::Private, KIB).await;
    assert!(first.is_ok(), "{first:?}");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // The next connection is looked up and checked again.
    let other = client.send(request(), Reach::Public, KIB).await;
    assert_eq!(other.unwrap_err(), NoAnswer::OutOfReach);
    assert_eq!(
        (asked.load(Ordering::Relaxed), upstream.connections()),
        (2, 1)
    );
}

#[tokio::test]
async fn a_connection_to_a_private_address_is_not_for_those_without_the_right() {
    let upstream = Upstream::start(OK).await;
    let (client, _) = client(&["127.0.0.1"]);
    let request = || upstream.request("name.example");
    assert!(client.send(request(), Reach::Private, KIB).await.is_ok());
    let other = client.send(request(), Reach::Public, KIB).await;
    assert_eq!(other.unwrap_err(), NoAnswer::OutOfReach);
}

#[tokio::test]
async fn an_answer_is_taken_within_its_bound_only() {
    const UNTOLD: &str =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    const VAST: &str = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nh";
    for (answer, bound, fits) in [
        // Names and values of headers count, too.
        (OK, 2 + 4 + 14 + 1, true),
        (OK, 2 + 4 + 14, false),
        (OK, 0, false),
        (UNTOLD, 5 + 24, true),
        (UNTOLD, 4 + 24, false),
        (VAST, KIB, false),
    ] {
        let upstream = Upstream::start(answer).await;
        let (client, _) = client(&["127.0.0.1"]);
        let sent = client
            .send(upstream.request("127.0.0.1"), Reach::Public, bound)
            .await;
        match fits {
            true => assert_eq!(sent.unwrap().bytes(), bound, "{answer:?}"),
            false => assert_eq!(sent.unwrap_err(), NoAnswer::TooLarge, "{answer:?} {bound}"),
        }
    }
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_ends_at_once() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nh"] {
        let mut upstream = Upstream::start(answer).await;
        let (client, _) = client(&["127.0.0.1"]);
        let request = upstream.request("127.0.0.1");
        tokio::select! {
            sent = client.send(request, Reach::Public, KIB) => panic!("{sent:?}"),
            _ = upstream.answered.recv() => {}
        }
        upstream.ended.recv().await.unwrap();
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn what_is_no_answer_is_told_as_such() {
    for (answer, reason) in [
        ("hello\r\n\r\n", "invalid HTTP version parsed"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi",
            "invalid content-length parsed",
        ),
    ] {
        let upstream = Upstream::start(answer).await;
        let (client, _) = client(&["127.0.0.1"]);
        let sent = client
            .send(upstream.request("127.0.0.1"), Reach::Public, KIB)
            .await;
        assert_eq!(sent.unwrap_err(), NoAnswer::Broken(reason.to_owned()));
    }
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let (client, _) = client(&["127.0.0.1"]);
    let request = Request::get(format!("http://{closed}/"))
        .body(Full::default())
        .unwrap();
    let refused = client.send(request, Reach::Public, KIB).await.unwrap_err();
    assert!(
        refused.to_string().contains("Connection refused"),
        "{refused}"
    );
}

#[tokio::test]
async fn connections_are_kept_to_so_many_servers_only() {
    let mut upstream = Upstream::start(OK).await;
    let (client, _) = client(&["127.0.0.1"]);
    let most = MAX_SERVERS;
    for number in 0..=most {
        let request = upstream.request(&format!("n{number}.example"));
        assert!(client.send(request, Reach::Private, KIB).await.is_ok());
    }
    assert_eq!(upstream.connections(), most + 1);
    for _ in 0..most {
        upstream.ended.recv().await.unwrap();
    }
}

#[tokio::test]
async fn names_that_nobody_answers_for_are_held_against_the_plugin_that_asks_for_them() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let client = HttpClient::with_lookups(Lookups::new(move |name| {
        if name != "name.example" {
            counted.fetch_add(1, Ordering::Relaxed);
            held.lock().recv().ok();
        }
        Ok(vec![[127, 0, 0, 1].into()])
    }));
    let upstream = Upstream::start(OK).await;
    let (hostile, other) = (client.of_plugin(), client.of_plugin());
    let sending: Vec<_> = (0..100)
        .map(|number| {
            let (hostile, request) = (
                hostile.clone(),
                upstream.request(&format!("n{number}.example")),
            );
            tokio::spawn(async move { hostile.send(request, Reach::Private, KIB).await })
        })
        .collect();
    while asked.load(Ordering::Relaxed) < 4 {
        tokio::task::yield_now().await;
    }
    let answer = other.send(upstream.request("name.example"), Reach::Private, KIB);
    let answer = timeout(Duration::from_secs(10), answer).await;
    // Whatever comes of it, the threads have to end.
    drop(release);
    assert!(answer.expect("others are not held up").is_ok());
    for sent in sending {
        assert!(sent.await.unwrap().is_ok());
    }
}
