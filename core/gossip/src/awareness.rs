//! How well this member itself does (Lifeguard §IV-A): who is slow to read its own answers should take its time with others.

use core::time::Duration;

/// The local health multiplier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awareness {
    score: u32,
    max: u32,
}

impl Awareness {
    pub(crate) const fn new(max: u32) -> Self {
        Self { score: 0, max }
    }

    /// 0 is best.
    pub(crate) const fn score(self) -> u32 {
        self.score
    }

    pub(crate) fn worse(&mut self, by: u32) {
        self.score = self.score.saturating_add(by).min(self.max);
    }

    pub(crate) const fn better(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// An interval or a timeout, stretched as this member's health asks for.
    pub(crate) fn scale(self, duration: Duration) -> Duration {
        duration.saturating_mul(self.score + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_stays_within_its_bounds() {
        let mut awareness = Awareness::new(8);
        awareness.better();
        assert_eq!(awareness.scale(Duration::from_secs(1)), Duration::from_secs(1));
        awareness.worse(3);
        assert_eq!(awareness.scale(Duration::from_secs(1)), Duration::from_secs(4));
        awareness.worse(u32::MAX);
        assert_eq!(awareness.score(), 8);
        awareness.better();
        assert_eq!(awareness.score(), 7);
    }
}
