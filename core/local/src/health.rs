//! What results mean: when they count, what follows from silence, and from being critical for too long.

use std::sync::Arc;

use lictor_catalog::{MAX_OUTPUT_BYTES, Status, Text};

use super::io::{Effect, Error, Event};
use super::spec::{CheckMethod, Thresholds};
use super::{Due, Local, folded};

/// What is said of a check that was not told in time, if it never was told anything, or before what it was told last.
const EXPIRED: &str = "TTL expired";
const EXPIRED_AFTER: &str = "TTL expired (last output before timeout follows): ";

/// How many results of the same kind came in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Streak {
    good: u32,
    bad: u32,
}

/// What one more result means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This is the status now.
    Counts(Status),
    /// So many in a row are too few; it takes that many.
    TooFew { count: u32, threshold: u32 },
}

impl Streak {
    /// Of a check that has never had a result: its first one counts, whatever it is.
    pub(super) const fn fresh() -> Self {
        Self {
            good: u32::MAX,
            bad: u32::MAX,
        }
    }

    /// Takes in one more result. A warning is as good as passing.
    pub(super) fn take(&mut self, status: Status, thresholds: Thresholds) -> Verdict {
        let Thresholds {
            success_before_passing,
            failures_before_warning,
            failures_before_critical,
        } = thresholds;
        match status {
            Status::Passing | Status::Warning => {
                self.good = self.good.saturating_add(1);
                self.bad = 0;
                if self.good >= success_before_passing {
                    return Verdict::Counts(status);
                }
                Verdict::TooFew {
                    count: self.good,
                    threshold: success_before_passing,
                }
            }
            Status::Critical => {
                self.bad = self.bad.saturating_add(1);
                self.good = 0;
                let threshold = failures_before_warning.unwrap_or(failures_before_critical);
                if self.bad >= failures_before_critical {
                    return Verdict::Counts(Status::Critical);
                }
                if self.bad >= threshold {
                    return Verdict::Counts(Status::Warning);
                }
                Verdict::TooFew {
                    count: self.bad,
                    threshold,
                }
            }
        }
    }
}

impl Local {
    /// A check was told how it is.
    pub(super) fn update_ttl(&mut self, check: &Text, status: Status, output: &str) -> Result<(), Error> {
        let id = folded(check);
        let not_ttl = || Error::NotTtl(check.to_string());
        let known = self.checks.get(&id).ok_or_else(not_ttl)?;
        let CheckMethod::Ttl(ttl) = known.shown.spec.method else {
            return Err(not_ttl());
        };
        let limit = self.output_limit(known.shown.spec.output_max);
        let output = if output.len() > limit {
            let head = head(output, limit);
            format!("{head} ... (captured {} of {} bytes)", head.len(), output.len())
        } else {
            output.to_owned()
        };
        self.set_due(&id, Due::Told, Some(self.now() + ttl));
        self.set_status(&id, status, output.into());
        Ok(())
    }

    /// A check was not told in time.
    pub(super) fn not_told(&mut self, id: &Text) {
        let Some(check) = self.checks.get(id) else { return };
        let last = &*check.shown.def.output;
        let output = if last.is_empty() || last == EXPIRED {
            EXPIRED.to_owned()
        } else {
            // After a restart it may have expired before.
            let last = last.strip_prefix(EXPIRED_AFTER).unwrap_or(last);
            let limit = self.output_limit(check.shown.spec.output_max);
            format!("{EXPIRED_AFTER}{}", head(last, limit))
        };
        self.set_status(id, Status::Critical, output.into());
    }

    /// A probe found this.
    pub(super) fn found(&mut self, id: &Text, status: Status, output: &str) {
        let Some(check) = self.checks.get_mut(id) else {
            return;
        };
        let verdict = check.streak.take(status, check.shown.spec.thresholds);
        match verdict {
            Verdict::Counts(status) => self.set_status(id, status, output.into()),
            Verdict::TooFew { count, threshold } => {
                let check = id.clone();
                self.event(Event::BelowThreshold {
                    check,
                    count,
                    threshold,
                });
            }
        }
    }

    /// A check has this status and output now.
    pub(super) fn set_status(&mut self, id: &Text, status: Status, output: Text) {
        let output = if self.config.discard_output {
            Text::default()
        } else if output.len() > MAX_OUTPUT_BYTES {
            head(&output, MAX_OUTPUT_BYTES).into()
        } else {
            output
        };
        let Some(check) = self.checks.get_mut(id) else {
            return;
        };
        let before = check.status();
        let same_output = check.shown.def.output == output;
        let is_first = !std::mem::replace(&mut check.has_result, true);
        if is_first && before == status && status != Status::Passing {
            let (check, output) = (id.clone(), output.clone());
            self.out.push_back(Effect::Event(Event::Confirmed {
                check,
                status,
                output,
            }));
        }
        if before == status && same_output {
            return;
        }
        let shown = Arc::make_mut(&mut check.shown);
        shown.def.status = status;
        shown.def.output.clone_from(&output);
        self.touched.insert(check.service());
        self.stale = true;
        self.keep_status(id, before != status);
        if before == status {
            self.sync_output(id);
            return;
        }
        self.set_due(id, Due::Output, None);
        self.sync.checks.insert(id.clone());
        let check = id.clone();
        self.event(Event::StatusChanged {
            check,
            from: before,
            to: status,
            output,
        });
        self.watch_critical(id);
    }

    /// A service that is critical is removed in time, if its check says so; the time begins again when the check recovers.
    pub(super) fn watch_critical(&mut self, id: &Text) {
        let Some(check) = self.checks.get(id) else { return };
        let after = check.shown.spec.deregister_after;
        let watched = check.status() == Status::Critical && !after.is_zero() && !check.service().is_empty();
        let at = watched.then(|| check.due[Due::Reap as usize].unwrap_or(self.now() + after));
        self.set_due(id, Due::Reap, at);
    }

    pub(super) fn reap(&mut self, id: &Text) {
        let Some(check) = self.checks.get(id) else { return };
        let event = Event::Reaped {
            service: check.shown.def.service_id.clone(),
            check: check.shown.def.id.clone(),
        };
        let service = check.service();
        self.deregister_service(&service);
        self.event(event);
    }

    /// The most bytes of output of a check that asks for this limit.
    pub(super) fn output_limit(&self, wanted: usize) -> usize {
        let limit = self.config.output_max.min(MAX_OUTPUT_BYTES / 2);
        if wanted == 0 { limit } else { wanted.min(limit) }
    }
}

/// The begin of a text, at most so many bytes.
fn head(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
