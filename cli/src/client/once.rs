//! Changes that are asked for again when their answer is lost, and made once all the same.
//!
//! A change goes out with an idempotency key where the API keeps answers under such. If its outcome is not known, because the connection broke, or the
//! agent says itself that it does not know, it is asked for again with the same key. That is safe with agents that know the key only: those say so in
//! every answer to a request that has one, if they have read it. Others, as Consul's, would make the change twice, so nothing is repeated there.

use std::thread;
use std::time::{Duration, Instant};

use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::Client;
use super::request::{CallError, Change, Lost};

/// The header that carries a key, and that agents which know it give back.
pub(super) const HEADER: &str = "Lictor-Idempotency-Key";

/// How long a change without a limit of its own is asked for again, once its first answer was lost. Longer than it takes until another server leads.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before it is.
const PAUSE: Duration = Duration::from_millis(200);

/// What an agent says if it does not know whether it made a change.
const UNKNOWN: &str = "it may have happened";

/// What it says if it has made too many changes under keys; it has not made this one.
const FULL: &str = "too many changes with idempotency keys";

/// What is said by agents that find nobody to make a change, in a moment like this.
const NOBODY: [&str; 2] = ["No cluster leader", "No known Consul servers"];

/// A change, as it is asked for.
pub(super) struct Wish<'a> {
    pub(super) method: Change,
    /// Behind `/v1/`.
    pub(super) path: &'a str,
    pub(super) query: Vec<(&'a str, &'a str)>,
    pub(super) body: Option<&'a [u8]>,
    /// For all of it, repetitions included.
    pub(super) limit: Option<Duration>,
}

/// What became of one attempt.
enum Attempt {
    /// This is the answer.
    Answered(StatusCode, Vec<u8>),
    /// Nobody has got the request.
    NotSent(CallError),
    /// It is not known whether the change was made.
    Unknown(CallError),
    /// The change was not made this time, and may be soon.
    NotNow(StatusCode, Vec<u8>),
    /// It was not made, since it came with a key.
    WithoutKey,
}

impl Client {
    /// Asks for a change until there is an answer, as long as that cannot make it twice.
    pub(super) fn wish(&self, wish: &Wish<'_>) -> Result<(StatusCode, Vec<u8>), CallError> {
        if !takes_key(wish.path) {
            return self.once(wish, None, wish.limit);
        }
        let Some(key) = draw() else {
            return self.once(wish, None, wish.limit);
        };
        let mut until = wish.limit.map(|limit| Instant::now() + limit);
        let mut lost = None;
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let attempt = self.attempt(wish, &key, left);
            let before = lost.is_some();
            match attempt {
                Attempt::Answered(status, body) => return Ok((status, body)),
                Attempt::WithoutKey => return self.once(wish, None, left),
                Attempt::NotSent(error) if !before => return Err(error),
                // Nothing was made before either: this is as good an answer as any.
                Attempt::NotNow(status, body) if !before => return Ok((status, body)),
                Attempt::Unknown(error) => drop(lost.get_or_insert(error)),
                Attempt::NotSent(_) | Attempt::NotNow(..) => {}
            }
            let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
            if !self.knows_keys(until) || !pause(until) {
                break;
            }
        }
        Err(lost.expect("only what was lost is asked for again"))
    }

    fn once(
        &self,
        wish: &Wish<'_>,
        key: Option<&str>,
        limit: Option<Duration>,
    ) -> Result<(StatusCode, Vec<u8>), CallError> {
        let (answer, called) = self.say(wish, key, limit).map_err(|lost| lost.error)?;
        self.whole(answer, &called)
    }

    fn attempt(&self, wish: &Wish<'_>, key: &str, limit: Option<Duration>) -> Attempt {
        let (answer, called) = match self.say(wish, Some(key), limit) {
            Ok(answered) => answered,
            Err(Lost { error, sent: false }) => return Attempt::NotSent(error),
            Err(Lost { error, sent: true }) => return Attempt::Unknown(error),
        };
        self.note_keys(&answer);
        let (status, body) = match self.whole(answer, &called) {
            Ok(whole) => whole,
            Err(error) => return Attempt::Unknown(error),
        };
        let says = |what: &str| String::from_utf8_lossy(&body).contains(what);
        let passing = matches!(status.as_u16(), 429 | 503);
        if status.as_u16() == 500 && says(UNKNOWN) {
            Attempt::Unknown(super::request::refused(status, &body))
        } else if status.as_u16() == 500 && says(FULL) {
            Attempt::WithoutKey
        } else if passing || (status.as_u16() == 500 && NOBODY.into_iter().any(says)) {
            Attempt::NotNow(status, body)
        } else {
            Attempt::Answered(status, body)
        }
    }

    fn say(
        &self,
        wish: &Wish<'_>,
        key: Option<&str>,
        limit: Option<Duration>,
    ) -> Result<(Response<Body>, String), Lost> {
        let (method, verb) = match wish.method {
            Change::Put => ("PUT", "Put"),
            Change::Delete => ("DELETE", "Delete"),
        };
        self.try_send(method, verb, wish.path, wish.query.clone(), wish.body, key, limit)
    }

    /// Whether the agent knows keys. If it has not said so yet it is asked, until it answers or the time is over.
    fn knows_keys(&self, until: Instant) -> bool {
        loop {
            if let Some(known) = self.keys.get() {
                return *known;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let key = Some("?");
            let asked = self.try_send("GET", "Get", "status/leader", Vec::new(), None, key, Some(left));
            if let Ok((answer, called)) = asked {
                self.note_keys(&answer);
                // To its end, so that the connection serves the next call.
                let _ = self.whole(answer, &called);
            }
            if self.keys.get().is_none() && !pause(until) {
                return false;
            }
        }
    }

    /// Takes note of what an answer shows about keys. One without the header shows that they are not known only if it is a success: whoever has no
    /// room for a connection refuses it before there are headers to be read.
    fn note_keys(&self, answer: &Response<Body>) {
        let known = answer.headers().contains_key(HEADER);
        if known || answer.status().is_success() {
            self.keys.get_or_init(|| known);
        }
    }
}

/// Waits a moment; false if there is no time left.
fn pause(until: Instant) -> bool {
    thread::sleep(PAUSE.min(until.saturating_duration_since(Instant::now())));
    Instant::now() < until
}

/// Whether the API keeps the answers of changes there. It refuses keys elsewhere.
fn takes_key(path: &str) -> bool {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    match first {
        "kv" | "txn" | "query" => true,
        "session" => rest == "create" || rest.starts_with("destroy/"),
        "catalog" => matches!(rest, "register" | "deregister"),
        "operator" => rest == "autopilot/configuration",
        _ => false,
    }
}

/// A key that nobody else has. `None`: the system has no randomness, so that nothing can be repeated.
fn draw() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(format!("{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::console::testing::{Ran, run_with};
    use crate::fake::{Fake, Seen};

    const LOST: (u16, &str) = (
        500,
        "leadership lost while committing log; it may have happened, or not",
    );

    /// Answers the changes in this order, and the last one for ever; questions of all kinds with success.
    fn script(answers: &'static [(u16, &'static str)]) -> impl Fn(&Seen) -> (u16, &'static str) {
        let next = AtomicUsize::new(0);
        move |seen| {
            if seen.line.starts_with("GET") {
                return (200, "\"\"");
            }
            let at = next.fetch_add(1, Ordering::SeqCst);
            answers[at.min(answers.len() - 1)]
        }
    }

    fn put(fake: &Fake) -> Ran {
        run_with(
            &["kv", "put", "a", "1"],
            b"",
            &[("CONSUL_HTTP_ADDR", &fake.address)],
        )
    }

    fn changes(fake: &Fake) -> Vec<Seen> {
        let seen = fake.seen().into_iter();
        seen.filter(|seen| !seen.line.starts_with("GET")).collect()
    }

    #[test]
    fn a_change_whose_answer_is_lost_is_asked_for_again_under_the_same_key() {
        for answers in [
            &[LOST, (200, "true")][..],
            // The connection ends without an answer.
            &[(0, ""), (200, "true")],
            // Meanwhile there is nobody to ask.
            &[
                LOST,
                (500, "No cluster leader"),
                (503, ""),
                (0, ""),
                (429, ""),
                (200, "true"),
            ],
        ] {
            let fake = Fake::keeping_answers(script(answers));
            let ran = put(&fake);
            assert_eq!(
                (ran.code, ran.out.as_str()),
                (0, "Success! Data written to: a\n"),
                "{}",
                ran.err
            );
            let changes = changes(&fake);
            assert_eq!(changes.len(), answers.len());
            let keys: BTreeSet<_> = changes
                .iter()
                .map(|seen| seen.header("lictor-idempotency-key"))
                .collect();
            assert_eq!(keys.len(), 1);
            assert!(
                keys.iter().all(|key| key.is_some_and(|key| key.len() == 32)),
                "{keys:?}"
            );
            assert!(changes.iter().all(|seen| seen.body == b"1"));
        }
        let fakes = [(); 2].map(|()| Fake::keeping_answers(script(&[(200, "true")])));
        let key = |fake: &Fake| {
            assert_eq!(put(fake).code, 0);
            changes(fake)[0]
                .header("lictor-idempotency-key")
                .map(str::to_owned)
        };
        assert_ne!(key(&fakes[0]), key(&fakes[1]));
    }

    #[test]
    fn where_nobody_knows_keys_nothing_is_asked_for_twice() {
        for answer in [LOST, (0, ""), (500, "No cluster leader")] {
            let answers: &'static [_] = Box::leak(Box::new([answer, (200, "true")]));
            let fake = Fake::start_with(crate::fake::Plain, script(answers));
            let ran = put(&fake);
            assert_eq!(ran.code, 1, "{}", ran.out);
            assert!(ran.err.contains("Error! Failed writing data"), "{}", ran.err);
            assert_eq!(changes(&fake).len(), 1, "{answer:?}");
        }
    }

    #[test]
    fn who_has_no_room_to_say_whether_it_knows_keys_is_asked_until_it_has() {
        let (puts, asked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let fake = Fake::keeping_answers(move |seen| {
            let (count, answers) = if seen.line.starts_with("GET") {
                (&asked, [(429, "Too many connections"), (200, "\"\"")])
            } else {
                (&puts, [(0, ""), (200, "true")])
            };
            answers[count.fetch_add(1, Ordering::SeqCst).min(1)]
        });
        let ran = put(&fake);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(fake.lines().len(), 4, "{:?}", fake.lines());
    }

    #[test]
    fn what_is_an_answer_is_not_asked_for_again() {
        for answer in [
            (500, "No cluster leader"),
            (500, "invalid session"),
            (429, "too busy"),
            (503, "stopping"),
            (409, "the key was used"),
        ] {
            let answers: &'static [_] = Box::leak(Box::new([answer, (200, "true")]));
            let fake = Fake::keeping_answers(script(answers));
            assert_eq!(put(&fake).code, 1);
            assert_eq!(changes(&fake).len(), 1, "{answer:?}");
        }
    }

    #[test]
    fn when_no_more_answers_can_be_kept_the_change_is_made_without_a_key() {
        let fake = Fake::keeping_answers(script(&[
            (500, "too many changes with idempotency keys in the last minutes"),
            (200, "true"),
        ]));
        assert_eq!(put(&fake).code, 0);
        let keyed: Vec<bool> = changes(&fake)
            .iter()
            .map(|seen| seen.header("lictor-idempotency-key").is_some())
            .collect();
        assert_eq!(keyed, [true, false]);
    }

    #[test]
    fn keys_go_only_where_answers_are_kept() {
        for path in [
            "kv/a/b",
            "txn",
            "query",
            "query/id",
            "session/create",
            "session/destroy/x",
            "catalog/register",
            "operator/autopilot/configuration",
        ] {
            assert!(takes_key(path), "{path}");
        }
        for path in [
            "session/renew/x",
            "event/fire/deploy",
            "agent/service/register",
            "operator/raft/peer",
            "snapshot",
            "kvx",
        ] {
            assert!(!takes_key(path), "{path}");
        }
    }
}
