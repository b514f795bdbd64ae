//! A Socket.IO client over HTTP long-polling, as far as being let in and leaving.

use anyhow::{Context, Result, bail, ensure};

use crate::{
    client::check_authenticated,
    http::Http,
    packet::{self, Packet},
    target::Target,
};

/// Stands between packets in one body.
const SEPARATOR: u8 = 0x1e;

/// A client that the main namespace has let in.
pub struct PollingClient {
    http: Http,
    path: String,
}

impl PollingClient {
    /// Opens a session and joins the main namespace as user `id`.
    pub async fn connect(target: &Target, id: u64, token: &str) -> Result<Self> {
        let mut client = Self {
            http: Http::connect(target.address).await?,
            path: format!("{}&transport=polling", target.endpoint()),
        };
        let opened = client.poll().await?;
        let Packet::Open(session) = Packet::parse(&opened)? else {
            bail!("no session: {}", String::from_utf8_lossy(&opened));
        };
        let session: serde_json::Value = serde_json::from_slice(session)?;
        let sid = session["sid"].as_str().context("a session without an id")?;
        client.path += &format!("&sid={sid}");
        client.post(packet::connect(Some(token)).as_bytes()).await?;
        let (mut connected, mut authenticated) = (false, false);
        while !(connected && authenticated) {
            for text in client.poll().await?.split(|byte| *byte == SEPARATOR) {
                match Packet::parse(text)? {
                    Packet::Connected { .. } => connected = true,
                    Packet::Event(arguments) => {
                        check_authenticated(arguments, Some(id))?;
                        authenticated = true;
                    }
                    Packet::Ping => client.post(packet::PONG).await?,
                    other => bail!("unexpected while connecting: {other:?}"),
                }
            }
        }
        Ok(client)
    }

    /// Polls, and answers pings, until there is an error or something else comes.
    pub async fn idle(&mut self) -> Result<()> {
        loop {
            for text in self.poll().await?.split(|byte| *byte == SEPARATOR) {
                match Packet::parse(text)? {
                    Packet::Ping => self.post(packet::PONG).await?,
                    other => bail!("unexpected: {other:?}"),
                }
            }
        }
    }

    /// Leaves the namespace and closes the session, as the stock client does.
    pub async fn close(mut self) -> Result<()> {
        let packets = [packet::DISCONNECT, packet::CLOSE].join(&SEPARATOR);
        self.post(&packets).await
    }

    async fn poll(&mut self) -> Result<Vec<u8>> {
        let response = self.http.request("GET", &self.path, "", b"").await?;
        let body = response.body;
        ensure!(
            response.status == 200,
            "{} {}",
            response.status,
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }

    async fn post(&mut self, packet: &[u8]) -> Result<()> {
        let headers = "Content-Type: text/plain;charset=UTF-8\r\n";
        let response = self
            .http
            .request("POST", &self.path, headers, packet)
            .await?;
        ensure!(
            response.status == 200,
            "{} {}",
            response.status,
            String::from_utf8_lossy(&response.body)
        );
        Ok(())
    }
}
