//! How long a suspect has to prove that it lives (SWIM §4.2), and how that time shrinks as others confirm (Lifeguard §IV-B).

use core::time::Duration;

use lictor_machine::{Instant, NodeId};

use crate::config::Config;
use crate::member::Incarnation;

/// So many independent confirmations bring the time down to its minimum (Lifeguard's K).
const CONFIRMATIONS: usize = 3;

/// One suspicion.
#[derive(Clone, Debug)]
pub(crate) struct Suspicion {
    incarnation: Incarnation,
    since: Instant,
    min: Duration,
    max: Duration,
    needed: usize,
    /// Who suspects it: the first, and those who confirmed.
    accusers: Vec<NodeId>,
}

impl Suspicion {
    /// Begun by `from`, in a pool in which `well` members are well, this one and the suspect among them.
    pub(crate) fn new(
        incarnation: Incarnation,
        from: NodeId,
        now: Instant,
        well: usize,
        config: &Config,
    ) -> Self {
        let (min, max) = timeouts(well, config);
        Self {
            incarnation,
            since: now,
            min,
            max,
            // Others than the suspect and the accuser.
            needed: well.saturating_sub(2).min(CONFIRMATIONS),
            accusers: vec![from],
        }
    }

    /// The incarnation that is suspected.
    pub(crate) const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Somebody else suspects it too. False if that changes nothing: it is known already, or enough others do.
    pub(crate) fn confirm(&mut self, from: NodeId) -> bool {
        if self.accusers.len() > self.needed || self.accusers.contains(&from) {
            return false;
        }
        self.accusers.push(from);
        true
    }

    /// When the suspect is taken for dead.
    pub(crate) fn deadline(&self) -> Instant {
        let confirmed = self.accusers.len() - 1;
        if confirmed >= self.needed {
            return self.since + self.min;
        }
        let share = ((confirmed + 1) as f64).ln() / ((self.needed + 1) as f64).ln();
        let shrunk = self
            .max
            .saturating_sub(self.max.saturating_sub(self.min).mul_f64(share));
        self.since + shrunk.max(self.min)
    }
}

/// The least and the most time that a suspect has in a pool of this size. The least is computed in nanoseconds, so that no small
/// interval becomes nothing.
pub(crate) fn timeouts(well: usize, config: &Config) -> (Duration, Duration) {
    let scale = (well.max(1) as f64).log10().max(1.0);
    let base = config.probe_interval.saturating_mul(config.suspicion_mult);
    let min = base.mul_f64(scale).max(config.suspicion_min);
    (min, min.saturating_mul(config.suspicion_max_timeout_mult))
}

#[cfg(test)]
mod tests {
    use lictor_machine::NodeId;

    use super::*;

    fn config() -> Config {
        let mut config = Config::lan(NodeId(1), "a", ([127, 0, 0, 1], 1).into(), 1);
        config.probe_interval = Duration::from_secs(1);
        config.suspicion_mult = 4;
        config.suspicion_min = Duration::ZERO;
        config
    }

    /// Lifeguard's formula: max - (max - min) * ln(C + 1) / ln(K + 1).
    #[test]
    fn each_confirmation_shortens_the_time_and_the_first_ones_most() {
        let mut suspicion = Suspicion::new(Incarnation(1), NodeId(9), Instant::ZERO, 100, &config());
        let millis = |suspicion: &Suspicion| suspicion.deadline().as_nanos() / 1_000_000;
        assert_eq!(millis(&suspicion), 48_000);
        assert!(!suspicion.confirm(NodeId(9)), "the accuser cannot confirm itself");
        assert_eq!(millis(&suspicion), 48_000);
        assert!(suspicion.confirm(NodeId(2)));
        assert_eq!(millis(&suspicion), 28_000);
        assert!(suspicion.confirm(NodeId(3)));
        assert!(
            (16_000..17_000).contains(&millis(&suspicion)),
            "{}",
            millis(&suspicion)
        );
        assert!(suspicion.confirm(NodeId(4)));
        assert_eq!(millis(&suspicion), 8_000);
        assert!(!suspicion.confirm(NodeId(5)), "more than enough");
        assert_eq!(millis(&suspicion), 8_000);
    }

    #[test]
    fn with_nobody_left_to_confirm_the_time_is_the_least() {
        for (well, seconds) in [(1, 4), (2, 4)] {
            let suspicion = Suspicion::new(Incarnation(1), NodeId(9), Instant::ZERO, well, &config());
            assert_eq!(suspicion.deadline(), Instant::from_millis(seconds * 1000));
        }
        let suspicion = Suspicion::new(Incarnation(1), NodeId(9), Instant::ZERO, 3, &config());
        assert_eq!(suspicion.deadline(), Instant::from_millis(24_000), "one more can");
    }

    /// G-13: an integer division once made the time of small intervals nothing, and it wrapped on small machines.
    #[test]
    fn g13_small_and_large_intervals_give_sensible_times() {
        let mut config = config();
        config.probe_interval = Duration::from_nanos(300);
        assert_eq!(timeouts(3, &config).0, Duration::from_nanos(1200));
        assert_eq!(timeouts(1000, &config).0, Duration::from_nanos(3600));
        config.probe_interval = Duration::from_hours(1000);
        let (min, max) = timeouts(1 << 20, &config);
        assert!(min > config.probe_interval && max > min);
        config.suspicion_min = Duration::from_hours(1 << 20);
        assert_eq!(timeouts(3, &config).0, config.suspicion_min);
    }
}
