//! The query string, and the options that every endpoint reads from it and from the headers.

use std::borrow::Cow;
use std::time::Duration;

use lictor_catalog::quote;
use lictor_machine::{Index, Rng};
use trillium::{Headers, KnownHeaderName};

use crate::backend::{ReadMode, ReadOptions, Secret, WriteOptions};
use crate::reply::Fault;
use crate::text::{Signed, escape_query, parse_duration, parse_uint, unescape};

/// How long blocking queries wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waits {
    /// When they do not say.
    pub(crate) default: Duration,
    /// At most; longer ones are cut to this.
    pub(crate) max: Duration,
}

/// The parameters of a query string, in its order. Of several with one name, the first counts.
#[derive(Debug)]
pub(crate) struct Params<'a>(Vec<Param<'a>>);

/// A name and a value, decoded.
type Param<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

impl<'a> Params<'a> {
    /// Parses a query string: names and values, split by `&` or `;`. `None` if an escape is malformed.
    pub(crate) fn parse(query: &'a str) -> Option<Self> {
        if query.is_empty() {
            return Some(Self(Vec::new()));
        }
        query
            .split(['&', ';'])
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((unescape(name, true)?, unescape(value, true)?))
            })
            .collect::<Option<Vec<_>>>()
            .map(Self)
    }

    /// Whether the parameter is there, whatever its value: `?stale=false` *is* stale.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The parameter's value as bytes.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(key, _)| **key == *name.as_bytes())
            .map(|(_, value)| &**value)
    }

    /// All values of a parameter, in their order.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let of_name = self.0.iter().filter(move |(key, _)| **key == *name.as_bytes());
        of_name.map(|(_, value)| &**value)
    }

    /// The parameter's value as text, if it is there and not empty. What is not UTF-8 is replaced.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name)
            .filter(|value| !value.is_empty())
            .map(String::from_utf8_lossy)
    }

    /// The parameter as an unsigned number, if it is there. An empty one is an error.
    pub(crate) fn uint(&self, name: &str) -> Result<Option<u64>, Fault> {
        self.get(name)
            .map(parse_uint)
            .transpose()
            .map_err(Fault::internal)
    }

    /// Refuses two or more of parameters of which only one may be given.
    pub(crate) fn at_most_one(&self, names: &[&str]) -> Result<(), Fault> {
        if names.iter().filter(|name| self.has(name)).count() < 2 {
            return Ok(());
        }
        let mut pairs: Vec<_> = self.0.iter().collect();
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        let pairs: Vec<String> = pairs
            .into_iter()
            .map(|(name, value)| format!("{}={}", escape_query(name), escape_query(value)))
            .collect();
        Err(Fault::bad_request(format!(
            "Conflicting flags: {}",
            pairs.join("&")
        )))
    }

    /// The data center that is asked for, unless it is the agent's own.
    pub(crate) fn datacenter(&self) -> Option<String> {
        self.text("dc").map(Cow::into_owned)
    }

    /// What a read asks for. `jitter` is drawn from only if the query blocks.
    pub(crate) fn read_options(
        &self,
        headers: &Headers,
        waits: Waits,
        jitter: impl FnOnce(Duration) -> Duration,
    ) -> Result<ReadOptions, Fault> {
        let mode = self.mode(headers)?;
        let (min_index, wait) = self.index_and_wait(waits)?;
        Ok(ReadOptions {
            mode,
            min_index,
            wait: if min_index == Index::ZERO {
                Duration::ZERO
            } else {
                wait + jitter(wait)
            },
            datacenter: self.datacenter(),
            token: self.token(headers),
        })
    }

    /// What a write asks for. It takes the options of reads, ignores them, and refuses them where they are malformed.
    pub(crate) fn write_options(&self, headers: &Headers, waits: Waits) -> Result<WriteOptions, Fault> {
        let ReadOptions {
            datacenter, token, ..
        } = self.read_options(headers, waits, |_| Duration::ZERO)?;
        Ok(WriteOptions { datacenter, token })
    }

    /// Like [`Params::write_options`], but the options of reads are not even looked at.
    pub(crate) fn lenient_write_options(&self, headers: &Headers) -> WriteOptions {
        WriteOptions {
            datacenter: self.datacenter(),
            token: self.token(headers),
        }
    }

    /// What to wait for, 0 if for nothing, and how long.
    pub(crate) fn index_and_wait(&self, waits: Waits) -> Result<(Index, Duration), Fault> {
        let wait = self.wait(waits)?;
        let min_index = match self.get("index") {
            None | Some(b"") => Index::ZERO,
            Some(text) => Index(parse_uint(text).map_err(|_| Fault::bad_request("Invalid index"))?),
        };
        Ok((min_index, wait))
    }

    /// How fresh an answer must be.
    pub(crate) fn mode(&self, headers: &Headers) -> Result<ReadMode, Fault> {
        let max = match self.text("max_stale") {
            None => None,
            Some(text) => match parse_duration(&text) {
                Ok(Signed::Positive(max)) if !max.is_zero() => Some(max),
                Ok(Signed::Positive(_) | Signed::Negative) => None,
                Err(_) => {
                    let text = self.get("max_stale").unwrap_or_default();
                    return Err(Fault::bad_request(format!(
                        "Invalid max_stale value {}",
                        quote(text)
                    )));
                }
            },
        };
        let stale = self.has("stale") || max.is_some();
        let consistent = self.has("consistent");
        let cached = self.has("cached");
        if stale && consistent {
            return Err(Fault::bad_request(
                "Cannot specify ?stale with ?consistent, conflicting semantics.",
            ));
        }
        if cached && consistent {
            return Err(Fault::bad_request(
                "Cannot specify ?cached with ?consistent, conflicting semantics.",
            ));
        }
        if cached
            && headers
                .get_str(KnownHeaderName::CacheControl)
                .is_some_and(|text| !is_cache_control(text))
        {
            return Err(Fault::bad_request("Invalid Cache-Control header."));
        }
        Ok(match (stale, consistent) {
            (true, _) => ReadMode::Stale { max },
            (false, true) => ReadMode::Consistent,
            (false, false) => ReadMode::Default,
        })
    }

    fn wait(&self, waits: Waits) -> Result<Duration, Fault> {
        match self.text("wait").map(|text| parse_duration(&text)) {
            None => Ok(waits.default),
            Some(Ok(Signed::Positive(wait))) if !wait.is_zero() => Ok(wait.min(waits.max)),
            Some(Ok(Signed::Positive(_) | Signed::Negative)) => Ok(waits.default),
            Some(Err(_)) => Err(Fault::bad_request("Invalid wait time")),
        }
    }

    fn token(&self, headers: &Headers) -> Option<Secret> {
        if let Some(token) = self.text("token") {
            return Some(Secret::new(token));
        }
        if let Some(token) = headers
            .get_str("X-Consul-Token")
            .filter(|token| !token.is_empty())
        {
            return Some(Secret::new(token));
        }
        let (scheme, token) = headers.get_str(KnownHeaderName::Authorization)?.split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| Secret::new(token))
    }

    /// Refuses namespaces, which there are none of.
    pub(crate) fn no_namespace(&self, headers: &Headers) -> Result<(), Fault> {
        let place = if self.text("ns").is_some() {
            "query parameter: \"ns\""
        } else if headers
            .get_str("X-Consul-Namespace")
            .is_some_and(|name| !name.is_empty())
        {
            "header: \"X-Consul-Namespace\""
        } else {
            return Ok(());
        };
        Err(Fault::bad_request(format!(
            "Bad request: Invalid {place} - Namespaces are a Consul Enterprise feature"
        )))
    }
}

/// A random part of up to a sixteenth of `wait`, so that clients who began to wait together do not come back together.
pub(crate) fn jitter(rng: &mut Rng, wait: Duration) -> Duration {
    rng.between(Duration::ZERO, wait / 16)
}

/// Whether the numbers in a `Cache-Control` header are ones.
fn is_cache_control(text: &str) -> bool {
    text.split(',').all(|directive| {
        let (name, value) = directive
            .trim()
            .split_once('=')
            .unwrap_or((directive.trim(), "0"));
        let counts = name.eq_ignore_ascii_case("max-age") || name.eq_ignore_ascii_case("stale-if-error");
        !counts || value.trim().parse::<u32>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: Waits = Waits {
        default: Duration::from_mins(5),
        max: Duration::from_mins(10),
    };

    fn options(query: &str) -> Result<ReadOptions, String> {
        Params::parse(query)
            .unwrap()
            .read_options(&Headers::new(), WAITS, |wait| wait / 16)
            .map_err(|fault| fault.text().to_owned())
    }

    #[test]
    fn the_first_of_several_counts_and_presence_is_enough() {
        let params = Params::parse("a=1&a=2&&stale=false&b&%63=x+y;d=%2b").unwrap();
        assert_eq!(params.get("a"), Some(&b"1"[..]));
        assert!(params.has("stale") && params.has("b"));
        assert_eq!(params.get("b"), Some(&b""[..]));
        assert_eq!(params.get("c"), Some(&b"x y"[..]));
        assert_eq!(params.get("d"), Some(&b"+"[..]));
        assert!(!params.has("e"));
        assert!(Params::parse("a=%zz").is_none());
        assert!(Params::parse("%=1").is_none());
    }

    #[test]
    fn waits_are_clamped_and_jittered() {
        let wait = |query: &str| options(query).unwrap().wait;
        let with_jitter = |seconds| Duration::from_secs(seconds) + Duration::from_secs(seconds) / 16;
        assert_eq!(wait("wait=10s"), Duration::ZERO, "no index, no waiting");
        assert_eq!(wait("index=0&wait=10s"), Duration::ZERO);
        assert_eq!(wait("index=1&wait=10s"), with_jitter(10));
        for default in ["index=1", "index=1&wait=", "index=1&wait=0s", "index=1&wait=-5s"] {
            assert_eq!(wait(default), with_jitter(300), "{default}");
        }
        assert_eq!(wait("index=1&wait=20m"), with_jitter(600));
        assert_eq!(
            options("index=18446744073709551615").unwrap().min_index,
            Index(u64::MAX)
        );
        let mut rng = Rng::new(1);
        for _ in 0..100 {
            assert!(jitter(&mut rng, Duration::from_secs(16)) < Duration::from_secs(1));
        }
    }

    #[test]
    fn malformed_options_are_named_in_the_order_they_are_looked_at() {
        for (query, expected) in [
            ("index=zz&wait=zz", "Invalid wait time"),
            ("index=-1", "Invalid index"),
            ("index=+5", "Invalid index"),
            ("index=5.5", "Invalid index"),
            ("index=18446744073709551616", "Invalid index"),
            ("max_stale=z%22%0az", "Invalid max_stale value \"z\\\"\\nz\""),
            (
                "stale&consistent&wait=zz",
                "Cannot specify ?stale with ?consistent, conflicting semantics.",
            ),
            (
                "max_stale=5s&consistent",
                "Cannot specify ?stale with ?consistent, conflicting semantics.",
            ),
            (
                "cached&consistent",
                "Cannot specify ?cached with ?consistent, conflicting semantics.",
            ),
        ] {
            assert_eq!(options(query), Err(expected.to_owned()), "{query}");
        }
    }

    #[test]
    fn modes() {
        let mode = |query: &str| options(query).unwrap().mode;
        assert_eq!(mode(""), ReadMode::Default);
        assert_eq!(mode("consistent="), ReadMode::Consistent);
        assert_eq!(mode("stale=false"), ReadMode::Stale { max: None });
        assert_eq!(
            mode("stale&max_stale=2s"),
            ReadMode::Stale {
                max: Some(Duration::from_secs(2))
            }
        );
        assert_eq!(mode("max_stale=0s"), ReadMode::Default);
    }

    #[test]
    fn tokens_by_precedence() {
        let token = |query: &str, headers: &[(&'static str, &'static str)]| {
            let headers: Headers = headers.iter().copied().collect();
            Params::parse(query)
                .unwrap()
                .token(&headers)
                .map(|token| token.expose().to_owned())
        };
        let all = [("X-Consul-Token", "header"), ("Authorization", "bEaReR third")];
        assert_eq!(token("token=first", &all).as_deref(), Some("first"));
        assert_eq!(token("token=", &all).as_deref(), Some("header"));
        assert_eq!(token("", &all[1..]).as_deref(), Some("third"));
        assert_eq!(token("", &[("Authorization", "Basic Og==")]), None);
        assert_eq!(token("", &[]), None);
        assert_eq!(format!("{:?}", Secret::new("s")), "<hidden>");
    }

    #[test]
    fn cache_control_numbers() {
        for good in [
            "no-cache",
            "max-age=5",
            "max-age=0, stale-if-error=7",
            "must-revalidate",
            "x=y",
        ] {
            assert!(is_cache_control(good), "{good}");
        }
        for bad in ["max-age=zz", "no-cache, max-age=-1", "stale-if-error="] {
            assert!(!is_cache_control(bad), "{bad}");
        }
    }
}
