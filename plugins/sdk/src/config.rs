//! The plugin's own settings.
use serde::de::DeserializeOwned;

/// The plugin's `config` table in `mixlab.toml`.
#[derive(Debug)]
pub struct Config {
    json: String,
}

impl Config {
    /// A configuration as the host passes it: JSON text, `{}` if there is none.
    pub fn new(json: impl Into<String>) -> Self {
        Self { json: json.into() }
    }

    /// The table as `T`. The error names the key that is wrong and is fit for the admin.
    ///
    /// ```
    /// use mixlab_plugin::prelude::*;
    ///
    /// #[derive(Deserialize)]
    /// #[serde(deny_unknown_fields)]
    /// struct Settings {
    ///     seats: u32,
    /// }
    ///
    /// let config = Config::new(r#"{"seats":"many"}"#);
    /// let error = config.get::<Settings>().err().unwrap();
    /// assert_eq!(error, "config.seats: invalid type: string \"many\", expected u32");
    /// ```
    pub fn get<T: DeserializeOwned>(&self) -> Result<T, String> {
        let json = &mut serde_json::Deserializer::from_str(&self.json);
        serde_path_to_error::deserialize(json).map_err(|error| {
            let cause = error.inner().to_string();
            // The admin wrote TOML: a line and column of our JSON would mislead.
            let cause = cause
                .rsplit_once(" at line ")
                .map_or(&*cause, |(cause, _)| cause);
            match error.path().to_string().as_str() {
                "." => format!("config: {cause}"),
                key => format!("config.{key}: {cause}"),
            }
        })
    }

    /// The table as JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.json
    }
}
