//! What was seen of a watch so far.

use std::sync::Arc;
use std::time::Duration;

use crate::news::News;

/// How long to wait after the first of several failures.
const PAUSE: Duration = Duration::from_secs(5);

/// How long to wait at most.
const PAUSE_MAX: Duration = Duration::from_mins(3);

/// A version of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// The one with this number.
    Index(u64),
    /// The one with this hash.
    Hash(String),
}

impl Version {
    /// The number that those who are told of it know it by: 0 if it has none.
    pub const fn index(&self) -> u64 {
        match self {
            Self::Index(index) => *index,
            Self::Hash(_) => 0,
        }
    }

    /// Name and value in a question that waits for another version.
    pub fn parameter(&self) -> (&'static str, String) {
        match self {
            Self::Index(index) => ("index", index.to_string()),
            Self::Hash(hash) => ("hash", hash.clone()),
        }
    }
}

/// What was seen of a watch so far.
#[derive(Debug, Default)]
pub struct Progress {
    version: Option<Version>,
    last: Option<Arc<News>>,
    failures: u32,
}

impl Progress {
    /// The version to wait on; `None`: ask for what there is, without waiting.
    pub const fn seen(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// What is new in an answer of this version. `None`: nothing.
    pub fn take(&mut self, version: Version, found: News) -> Option<Arc<News>> {
        self.failures = 0;
        self.version = next(self.version.take(), version);
        let found = Arc::new(found);
        let news = match &self.last {
            None => Some(Arc::clone(&found)),
            Some(last) => found.since(last).map(Arc::new),
        };
        self.last = Some(found);
        news
    }

    /// Notes a failure, and says how long to wait before the next question, which is asked for what there is then. What was told is not
    /// told again if it is still so.
    pub fn fail(&mut self) -> Duration {
        self.version = None;
        self.failures = self.failures.saturating_add(1);
        PAUSE
            .saturating_mul(self.failures.saturating_mul(self.failures))
            .min(PAUSE_MAX)
    }
}

/// What to wait on after an answer of version `now`.
fn next(before: Option<Version>, now: Version) -> Option<Version> {
    match (before, now) {
        // A number that goes back is that of another state: whatever comes next is new.
        (Some(Version::Index(before)), Version::Index(now)) if now < before => None,
        // Who waits on 0 does not wait.
        (_, Version::Index(now)) => Some(Version::Index(now.max(1))),
        (_, hash @ Version::Hash(_)) => Some(hash),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn data(text: &str) -> News {
        News::data(Value::from(text))
    }

    fn take(progress: &mut Progress, index: u64, found: News) -> Option<News> {
        let news = progress.take(Version::Index(index), found)?;
        Some((*news).clone())
    }

    #[test]
    fn only_what_is_new_is_told() {
        let mut progress = Progress::default();
        assert_eq!(progress.seen(), None, "the first question does not wait");
        assert_eq!(take(&mut progress, 5, data("a")), Some(data("a")));
        assert_eq!(progress.seen(), Some(&Version::Index(5)));
        assert_eq!(
            take(&mut progress, 6, data("a")),
            None,
            "another version of the same"
        );
        assert_eq!(take(&mut progress, 7, data("b")), Some(data("b")));
        assert_eq!(take(&mut progress, 3, data("c")), Some(data("c")));
        assert_eq!(progress.seen(), None, "the number has gone back");
        assert_eq!(take(&mut progress, 0, data("c")), None);
        assert_eq!(
            progress.seen(),
            Some(&Version::Index(1)),
            "an agent without versions is not asked in a hurry"
        );
    }

    #[test]
    fn each_event_is_told_once() {
        let events = |ids: &[&str]| News::events(ids.iter().map(|id| json!({"ID": id})).collect());
        let mut progress = Progress::default();
        for (now, told, why) in [
            (&[][..], Some(&[][..]), "the first answer always is"),
            (&["a", "b"], Some(&["a", "b"]), "both"),
            (&["a", "b", "c"], Some(&["c"]), "the new one"),
            (&["b", "c"], None, "the oldest is forgotten"),
            (&["x"], Some(&["x"]), "of another agent"),
        ] {
            assert_eq!(take(&mut progress, 1, events(now)), told.map(events), "{why}");
        }
    }

    #[test]
    fn hashes_are_waited_on_as_they_are() {
        let hash = |text: &str| Version::Hash(text.to_owned());
        let mut progress = Progress::default();
        assert!(progress.take(hash("b"), data("1")).is_some());
        assert!(progress.take(hash("a"), data("2")).is_some());
        assert_eq!(progress.seen(), Some(&hash("a")));
        assert_eq!(hash("a").parameter(), ("hash", "a".to_owned()));
        assert_eq!(
            (hash("a").index(), Version::Index(7).parameter()),
            (0, ("index", "7".to_owned()))
        );
    }

    #[test]
    fn failures_in_a_row_are_waited_for_longer_and_longer() {
        let mut progress = Progress::default();
        assert_eq!(take(&mut progress, 5, data("a")), Some(data("a")));
        let waits: Vec<_> = (0..7).map(|_| progress.fail().as_secs()).collect();
        assert_eq!(waits, [5, 20, 45, 80, 125, 180, 180]);
        assert_eq!(progress.seen(), None, "what there is then");
        assert_eq!(take(&mut progress, 9, data("a")), None, "it is still so");
        assert_eq!(progress.fail().as_secs(), 5);
    }
}
