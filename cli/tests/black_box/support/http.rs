//! A small blocking client of the API.

use std::time::Duration;

use ureq::http::Request;

use super::{Agent, PATIENCE, eventually, holds};

/// An answer with any status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `X-Consul-Index`.
    pub(crate) index: Option<u64>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The consistency modes of reads, as query strings.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Modes {
    Default,
    Consistent,
    Stale,
}

impl Modes {
    pub(crate) const ALL: [Self; 3] = [Self::Default, Self::Consistent, Self::Stale];

    pub(crate) const fn query(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Consistent => "&consistent",
            Self::Stale => "&stale",
        }
    }
}

impl Agent {
    /// A request that may fail: the connection, not the status.
    pub(crate) fn try_call(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer, String> {
        self.try_call_for(PATIENCE, method, path, body)
    }

    /// As [`Self::try_call`], for as long as this.
    pub(crate) fn try_call_for(
        &self,
        patience: Duration,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<Answer, String> {
        // A connection per request: none outlives an agent that is killed.
        let client = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(patience))
            .build()
            .new_agent();
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}:8500{path}", self.ip))
            .body(body)
            .unwrap();
        let mut answer = client.run(request).map_err(|error| error.to_string())?;
        let body = answer
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_vec()
            .map_err(|error| error.to_string())?;
        let index = answer.headers().get("X-Consul-Index");
        Ok(Answer {
            status: answer.status().as_u16(),
            index: index.map(|index| index.to_str().unwrap().parse().unwrap()),
            body,
        })
    }

    #[track_caller]
    pub(crate) fn call(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        match self.try_call(method, path, body) {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {path} at {}: {error}", self.name),
        }
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call("GET", path, b"")
    }

    /// Asks for `path`, which blocks, makes `change` meanwhile, and returns the answer.
    #[track_caller]
    pub(crate) fn get_during(&self, path: &str, change: impl FnOnce()) -> Answer {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| self.get(path));
            change();
            waiting.join().unwrap()
        })
    }

    /// Writes a key, which must succeed.
    #[track_caller]
    pub(crate) fn put(&self, key: &str, value: &str) {
        let answer = self.call("PUT", &format!("/v1/kv/{key}"), value.as_bytes());
        assert_eq!(
            (answer.status, answer.text().trim_end()),
            (200, "true"),
            "{key} at {}",
            self.name
        );
    }

    /// Writes a key, again and again if need be: a write that was sent to a leader which died may be answered with an error.
    pub(crate) fn put_in_the_end(&self, key: &str, value: &str) {
        eventually(&format!("{key} is written at {}", self.name), || {
            let answer = self.try_call("PUT", &format!("/v1/kv/{key}"), value.as_bytes())?;
            holds(
                answer.status == 200,
                format!("{} {}", answer.status, answer.text()),
            )
        });
    }

    /// Reads a key's value; `None` if there is no such key.
    #[track_caller]
    pub(crate) fn value(&self, key: &str, mode: Modes) -> Option<String> {
        let answer = self.get(&format!("/v1/kv/{key}?raw{}", mode.query()));
        match answer.status {
            200 => Some(answer.text().to_owned()),
            404 => None,
            status => panic!("{status} for {key} at {}: {}", self.name, answer.text()),
        }
    }
}
