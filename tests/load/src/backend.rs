//! What a backend asks of the server, over HTTP.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{http::Http, target::Target};

/// A connection with the API key.
pub struct Backend {
    http: Http,
    headers: String,
}

/// How a plugin stands.
pub struct PluginState {
    /// How often a version of it was put into service.
    pub generation: u64,
    /// Why the file that is there does not serve.
    pub refusal: Option<String>,
}

impl Backend {
    /// Connects.
    pub async fn connect(target: &Target) -> Result<Self> {
        let headers = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
            target.api_key
        );
        Ok(Self {
            http: Http::connect(target.address).await?,
            headers,
        })
    }

    /// Pushes a payment update; returns how many sockets it went to. A server of a cluster does not know.
    pub async fn push_payment(&mut self, data: &[u8]) -> Result<Option<u64>> {
        let answer = self.call("POST", "/api/v1/payments/updates", data).await?;
        Ok(answer["delivered"].as_u64())
    }

    /// How many clients are connected.
    pub async fn clients(&mut self) -> Result<u64> {
        let answer = self.call("GET", "/api/v1/clients/count", b"").await?;
        answer["count"].as_u64().context("no count in the answer")
    }

    /// Emits an event to everybody: its name, and its arguments as JSON. Returns the status of the answer.
    pub async fn emit(&mut self, event: &str, arguments: &str) -> Result<u16> {
        let body = format!("{{\"everyone\":true,\"event\":\"{event}\",\"arguments\":{arguments}}}");
        let body = body.as_bytes();
        let response = self
            .http
            .request("POST", "/api/v1/emit", &self.headers, body)
            .await?;
        Ok(response.status)
    }

    /// Whether the server says that it is ready. Of MixLab only.
    pub async fn is_ready(&mut self) -> Result<bool> {
        let response = self.http.request("GET", "/readyz", "", b"").await?;
        Ok(response.status == 200)
    }

    /// How a plugin stands. Of MixLab only.
    pub async fn plugin(&mut self, name: &str) -> Result<PluginState> {
        let answer = self.call("GET", "/api/v1/plugins", b"").await?;
        let plugins = answer["plugins"].as_array();
        let plugin = plugins
            .and_then(|plugins| plugins.iter().find(|plugin| plugin["name"] == name))
            .with_context(|| format!("no plugin {name}"))?;
        Ok(PluginState {
            generation: plugin["generation"].as_u64().context("no generation")?,
            refusal: plugin["refusal"].as_str().map(str::to_owned),
        })
    }

    async fn call(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Value> {
        let response = self.http.request(method, path, &self.headers, body).await?;
        ensure!(
            response.status == 200,
            "{method} {path}: {} {}",
            response.status,
            String::from_utf8_lossy(&response.body)
        );
        Ok(serde_json::from_slice(&response.body)?)
    }
}
