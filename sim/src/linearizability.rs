//! Whether what clients saw of a key can be explained by carrying out their operations one at a time, each at some moment between its
//! call and its return.
//!
//! The search is that of Wing and Gong (1993) with Lowe's memory of visited configurations (2017). An operation whose outcome is not known
//! may take effect at any moment after its call, or never. Values are unique, so a comparison of indexes is one of values.

use std::collections::{HashMap, HashSet};

/// The most operations on one key that are checked: the search keeps them in one word.
pub const OPERATIONS_MAX: usize = 128;

/// What was done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was set.
    Set(u64),
    /// It was set to `value` if it held `expected`; `done` says whether, if that is known.
    Cas {
        /// What was compared.
        expected: Option<u64>,
        /// What was set.
        value: u64,
        /// Whether it was.
        done: Option<bool>,
    },
    /// It was deleted.
    Delete,
    /// This was read.
    Get(Option<u64>),
}

/// One operation on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What was done.
    pub action: Action,
    /// When it was called. Moments are numbered; no two events share one.
    pub called: u64,
    /// When it returned; `None`: its outcome is not known.
    pub returned: Option<u64>,
}

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an explanation.
    Linearizable,
    /// There is none.
    Impossible,
    /// None was found among the first [`CONFIGURATIONS_MAX`] configurations: too much was going on at once.
    Undecided,
}

/// How many configurations are visited at most.
pub const CONFIGURATIONS_MAX: usize = 300_000;

/// Whether the operations on one key can be explained. Those beyond [`OPERATIONS_MAX`], by the time of their call, are left out, and with
/// them every read that could depend on them.
pub fn check(history: &[Operation]) -> Verdict {
    let mut operations: Vec<Operation> = history.to_vec();
    operations.sort_unstable_by_key(|operation| operation.called);
    cut(&mut operations);
    forget_unobserved(&mut operations);
    Search::new(&operations).explains()
}

/// Keeps the first operations, up to a moment at which all that are kept have begun; what returned after that moment counts as unknown.
fn cut(operations: &mut Vec<Operation>) {
    let Some(first_left_out) = operations.get(OPERATIONS_MAX).map(|operation| operation.called) else {
        return;
    };
    operations.truncate(OPERATIONS_MAX);
    operations.retain_mut(|operation| {
        if operation
            .returned
            .is_none_or(|returned| returned < first_left_out)
        {
            return true;
        }
        operation.returned = None;
        match &mut operation.action {
            Action::Get(_) => return false,
            Action::Cas { done, .. } => *done = None,
            Action::Set(_) | Action::Delete => {}
        }
        true
    });
}

/// The value of writes that nobody observed. They are all alike: something else than what anybody expects.
const UNOBSERVED: u64 = u64::MAX;

/// Makes values that nobody read or compared equal, so that the search does not tell them apart.
fn forget_unobserved(operations: &mut [Operation]) {
    let observed: HashSet<u64> = operations
        .iter()
        .filter_map(|operation| match operation.action {
            Action::Get(seen) => seen,
            Action::Cas { expected, .. } => expected,
            Action::Set(_) | Action::Delete => None,
        })
        .collect();
    for operation in operations {
        match &mut operation.action {
            Action::Set(value) | Action::Cas { value, .. } if !observed.contains(value) => {
                *value = UNOBSERVED;
            }
            Action::Set(_) | Action::Cas { .. } | Action::Delete | Action::Get(_) => {}
        }
    }
}

/// The operations that returned, in the order of their return, and those that did not, each in one word of bits.
struct Search {
    returned: Vec<Operation>,
    unknown: Vec<Operation>,
    /// For what has been done of those that returned, and what the key holds then: the sets of others that were used to get there.
    visited: HashMap<(u128, Option<u64>), Vec<u128>>,
}

impl Search {
    fn new(operations: &[Operation]) -> Self {
        let (mut returned, unknown): (Vec<Operation>, Vec<Operation>) = operations
            .iter()
            .partition(|operation| operation.returned.is_some());
        returned.sort_unstable_by_key(|operation| operation.returned);
        Self {
            returned,
            unknown,
            visited: HashMap::new(),
        }
    }

    /// Depth first, with a stack of its own: histories are longer than call stacks should be deep.
    fn explains(&mut self) -> Verdict {
        let all = if self.returned.len() == OPERATIONS_MAX {
            u128::MAX
        } else {
            (1 << self.returned.len()) - 1
        };
        let mut open = vec![(0_u128, 0_u128, None)];
        let mut budget = CONFIGURATIONS_MAX;
        while let Some((done, used, held)) = open.pop() {
            if done == all {
                return Verdict::Linearizable;
            }
            if !self.is_new(done, used, held) {
                continue;
            }
            budget -= 1;
            if budget == 0 {
                return Verdict::Undecided;
            }
            // Whatever is next must have been called before any operation that is still to come returned; the first of these in the
            // list is the first to return.
            let horizon = self.returned[done.trailing_ones() as usize]
                .returned
                .unwrap_or(u64::MAX);
            let mut unobserved_tried = false;
            for (at, operation) in self.unknown.iter().enumerate() {
                if operation.called > horizon {
                    break;
                }
                // An operation without an answer that would change nothing may as well never happen.
                if used & 1 << at == 0
                    && let Some(after) = step(held, operation.action).filter(|after| *after != held)
                    && !(after == Some(UNOBSERVED) && core::mem::replace(&mut unobserved_tried, true))
                {
                    open.push((done, used | 1 << at, after));
                }
            }
            for (at, operation) in self.returned.iter().enumerate().rev() {
                if done & 1 << at == 0
                    && operation.called <= horizon
                    && let Some(after) = step(held, operation.action)
                {
                    open.push((done | 1 << at, used, after));
                }
            }
        }
        Verdict::Impossible
    }

    /// Whether nothing better is known than to be here: to have come as far with fewer of the operations that may happen at any time.
    fn is_new(&mut self, done: u128, used: u128, held: Option<u64>) -> bool {
        let ways = self.visited.entry((done, held)).or_default();
        if ways.iter().any(|way| way & !used == 0) {
            return false;
        }
        ways.push(used);
        true
    }
}

/// What the key holds after an action, or `None` if the action could not have come out as it did.
#[expect(
    clippy::option_option,
    reason = "the outer one says whether, the inner one is what the key holds"
)]
fn step(held: Option<u64>, action: Action) -> Option<Option<u64>> {
    match action {
        Action::Set(value) => Some(Some(value)),
        Action::Delete => Some(None),
        Action::Get(seen) => (seen == held).then_some(held),
        Action::Cas {
            expected,
            value,
            done,
        } => {
            let holds = held == expected;
            if done.is_some_and(|done| done != holds) {
                return None;
            }
            Some(if holds { Some(value) } else { held })
        }
    }
}

#[cfg(test)]
mod tests {
    use lictor_machine::Rng;

    use super::*;

    fn operation(action: Action, called: u64, returned: u64) -> Operation {
        Operation {
            action,
            called,
            returned: Some(returned),
        }
    }

    fn is_linearizable(history: &[Operation]) -> bool {
        match check(history) {
            Verdict::Linearizable => true,
            Verdict::Impossible => false,
            Verdict::Undecided => panic!("too hard: {history:?}"),
        }
    }

    #[test]
    fn a_read_may_see_any_concurrent_write_and_no_overwritten_one() {
        let writes = [operation(Action::Set(1), 0, 10), operation(Action::Set(2), 5, 15)];
        for (seen, called, fine) in [
            (Some(1), 12, true),
            (Some(2), 12, true),
            (Some(1), 20, true),
            (Some(2), 20, true),
            (None, 20, false),
            (None, 2, true),
        ] {
            let mut history = writes.to_vec();
            history.push(operation(Action::Get(seen), called, called + 1));
            assert_eq!(is_linearizable(&history), fine, "{seen:?} at {called}");
        }
        let flips = [
            operation(Action::Set(1), 0, 10),
            operation(Action::Set(2), 5, 15),
            operation(Action::Get(Some(1)), 20, 21),
            operation(Action::Get(Some(2)), 22, 23),
        ];
        assert!(
            !is_linearizable(&flips),
            "the key cannot change after both writes returned"
        );
    }

    #[test]
    fn a_write_without_a_known_outcome_happens_late_or_never_but_not_early() {
        let lost = Operation {
            action: Action::Set(7),
            called: 10,
            returned: None,
        };
        let get = |seen, called| operation(Action::Get(seen), called, called + 1);
        assert!(is_linearizable(&[lost, get(None, 20), get(Some(7), 30)]), "late");
        assert!(is_linearizable(&[lost, get(None, 20), get(None, 30)]), "never");
        assert!(
            !is_linearizable(&[lost, get(Some(7), 20), get(None, 30)]),
            "not undone"
        );
        assert!(
            !is_linearizable(&[lost, get(Some(7), 5)]),
            "not before it was called"
        );
    }

    #[test]
    fn a_comparison_that_came_out_wrong_is_seen() {
        let cas = |expected, value, done, called| {
            operation(
                Action::Cas {
                    expected,
                    value,
                    done: Some(done),
                },
                called,
                called + 1,
            )
        };
        assert!(is_linearizable(&[
            cas(None, 1, true, 0),
            cas(None, 2, false, 2),
            cas(Some(1), 3, true, 4)
        ]));
        assert!(!is_linearizable(&[cas(None, 1, true, 0), cas(None, 2, true, 2)]));
        let unknown = Operation {
            action: Action::Cas {
                expected: Some(1),
                value: 9,
                done: None,
            },
            called: 1,
            returned: None,
        };
        assert!(is_linearizable(&[
            cas(None, 1, true, 2),
            unknown,
            operation(Action::Get(Some(9)), 6, 7)
        ]));
        assert!(!is_linearizable(&[
            cas(None, 2, true, 2),
            unknown,
            operation(Action::Get(Some(9)), 6, 7)
        ]));
    }

    /// A register that really works, with operations of random length, is always explained; one that returns the value before
    /// the last is found out.
    #[test]
    fn honest_histories_pass_and_forged_ones_fail() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let (mut history, mut held, mut before) = (Vec::new(), None, None);
            let mut moment = 0;
            for value in 0..60_u64 {
                let called = moment + rng.below(3);
                moment += 4;
                // The effect is at `moment`, between call and return.
                let returned = if rng.chance(1, 10) {
                    None
                } else {
                    Some(moment + 1 + rng.below(12))
                };
                let action = if rng.chance(1, 2) {
                    before = held;
                    held = Some(value);
                    Action::Set(value)
                } else {
                    Action::Get(held)
                };
                if returned.is_some() || matches!(action, Action::Set(_)) {
                    history.push(Operation {
                        action,
                        called,
                        returned,
                    });
                }
            }
            assert!(is_linearizable(&history), "seed {seed}");
            if before != held {
                let end = 10_000;
                history.push(operation(Action::Get(held), end, end + 1));
                history.push(operation(Action::Get(Some(99_999)), end + 2, end + 3));
                assert!(!is_linearizable(&history), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_history_that_is_too_long_is_cut_without_false_alarm() {
        let mut history = Vec::new();
        for n in 0..300_u64 {
            history.push(operation(Action::Set(n), n * 10, n * 10 + 15));
            history.push(operation(Action::Get(Some(n)), n * 10 + 1, n * 10 + 9));
        }
        assert!(is_linearizable(&history));
        history[3] = operation(Action::Get(Some(250)), 11, 19);
        assert!(!is_linearizable(&history));
    }
}
