//! A server that answers as a test tells it to, to see that the tool notices what is wrong.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{client::Client, faults::Faults, meter::Meter, target::Target};

/// What is sent back for the event with this id: packets as text. None closes the connection.
type Script = Arc<dyn Fn(u64, &str) -> Option<Vec<String>> + Send + Sync>;

/// A client that is connected to such a server. Events without an ack have the id 0.
pub async fn connect(
    script: impl Fn(u64, &str) -> Option<Vec<String>> + Send + Sync + 'static,
) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target {
        name: "fake".to_owned(),
        address: listener.local_addr().unwrap(),
        pid: std::process::id(),
        secret: String::new(),
        api_key: String::new(),
    };
    let script: Script = Arc::new(script);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        serve(stream, script).await
    });
    Client::connect(&target, None).await.unwrap()
}

/// Waits until a socket has had some answers, then ends it; returns its faults. A server that
/// swallows an answer brings some sockets to a halt: they are not waited for.
pub async fn faults(socket: JoinHandle<Faults>, meter: &Meter) -> Faults {
    let enough = async {
        while meter.total() < 20 && !socket.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let _ = timeout(Duration::from_millis(300), enough).await;
    meter.stop();
    socket.await.unwrap()
}

/// Ends when the client does, or the script says so.
async fn serve(mut stream: TcpStream, script: Script) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    stream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        .await?;
    send(&mut stream, r#"0{"sid":"x"}"#).await?;
    loop {
        let text = receive(&mut stream).await?;
        let Some(event) = text.strip_prefix("42") else {
            // The request to join, or a pong.
            send(&mut stream, "40{}").await?;
            continue;
        };
        let digits = event.find('[').unwrap();
        let (id, arguments) = event.split_at(digits);
        let Some(packets) = script(id.parse().unwrap_or(0), arguments) else {
            return Ok(());
        };
        for packet in packets {
            send(&mut stream, &packet).await?;
        }
    }
}

async fn send(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    let length = u16::try_from(text.len()).unwrap();
    let mut frame = vec![0x81, 126];
    frame.extend(length.to_be_bytes());
    frame.extend(text.as_bytes());
    stream.write_all(&frame).await
}

async fn receive(stream: &mut TcpStream) -> std::io::Result<String> {
    assert_eq!(stream.read_u8().await?, 0x81);
    let length = match stream.read_u8().await? & 0x7f {
        126 => stream.read_u16().await?,
        short => u16::from(short),
    };
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).await?;
    let mut text = vec![0; usize::from(length)];
    stream.read_exact(&mut text).await?;
    for (byte, mask) in text.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(String::from_utf8(text).unwrap())
}
