use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::member::Tags;

const STATES: [MemberState; 5] = [
    MemberState::Alive,
    MemberState::Suspect,
    MemberState::Leaving,
    MemberState::Left,
    MemberState::Failed,
];

fn member(id: u128, name: u64, incarnation: u64, state: MemberState) -> Arc<Member> {
    Arc::new(Member {
        id: NodeId(id),
        name: format!("member-{name}"),
        address: ([10, 0, 0, 1], 8301).into(),
        tags: Tags::new(),
        incarnation: Incarnation(incarnation),
        state,
    })
}

fn table(rng: &mut Rng) -> Table {
    Table::new(member(0, 1 << 40, 1, MemberState::Alive), 7, rng)
}

/// The table does what a plain map does, and all that it counts along the way is right.
#[test]
fn it_agrees_with_a_plain_map_whatever_happens() {
    let mut rng = Rng::new(11);
    let mut table = table(&mut rng);
    let mut model: BTreeMap<u128, Arc<Member>> = BTreeMap::new();
    for step in 0..20_000_u64 {
        let id = 1 + u128::from(rng.below(40));
        let state = STATES[rng.below(5) as usize];
        match (rng.below(4), table.find(NodeId(id))) {
            (0, Some(slot)) => {
                assert_eq!(Some(table.remove(slot)), model.remove(&id));
            }
            (_, Some(slot)) => {
                // Sometimes under another name.
                let name = if rng.chance(1, 4) {
                    step
                } else {
                    1 << 50 | id as u64
                };
                let new = member(id, name, step, state);
                if table.find_name(&new.name).is_none_or(|holder| holder == slot) {
                    table.replace(slot, Arc::clone(&new), &mut rng);
                    if is_gone(state) {
                        table.forget_at(slot, Instant::from_millis(step));
                    }
                    model.insert(id, new);
                }
            }
            (_, None) => {
                let new = member(id, step, step, state);
                let slot = table.insert(Arc::clone(&new), LamportTime(step), &mut rng);
                assert_eq!(table.time(slot), LamportTime(step));
                model.insert(id, new);
            }
        }
        if rng.chance(1, 8) {
            table.next_to_probe(&mut rng);
        }
        let count = |wanted: &[MemberState]| {
            model
                .values()
                .filter(|member| wanted.contains(&member.state))
                .count()
        };
        assert_eq!(table.len(), model.len() + 1);
        assert_eq!(table.well(), count(&STATES[..2]) + 1);
        assert_eq!(table.here(), count(&STATES[..3]));
        assert_eq!(table.failed(), count(&STATES[4..]));
    }
    for (id, member) in &model {
        let slot = table.find(NodeId(*id)).unwrap();
        assert_eq!(table.member(slot), member);
        assert_eq!(table.find_name(&member.name), Some(slot));
    }
    assert_eq!(table.iter().count(), model.len() + 1);
    let forgotten: BTreeSet<_> = table.reaping.iter().map(|(_, slot)| *slot).collect();
    assert_eq!(forgotten, table.gone.keys().copied().collect());
    assert!(
        forgotten
            .iter()
            .all(|slot| is_gone(table.member(Slot(*slot)).state))
    );
}

/// Two tables that hold the same have the same fingerprints, in whatever order they came to it; and a difference shows in its group only.
#[test]
fn fingerprints_show_what_differs_and_nothing_else() {
    let mut rng = Rng::new(12);
    let (mut one, mut other) = (table(&mut rng), table(&mut rng));
    for id in 1..200 {
        one.insert(
            member(id, id as u64, 3, MemberState::Alive),
            LamportTime(0),
            &mut rng,
        );
    }
    for id in (1..200).rev() {
        let slot = other.insert(
            member(id, id as u64, 1, MemberState::Failed),
            LamportTime(0),
            &mut rng,
        );
        other.replace(slot, member(id, id as u64, 3, MemberState::Suspect), &mut rng);
    }
    assert_eq!(one.buckets(), other.buckets(), "a suspicion passes by itself");
    for state in [MemberState::Leaving, MemberState::Left, MemberState::Failed] {
        let slot = other.find(NodeId(77)).unwrap();
        other.replace(slot, member(77, 77, 3, state), &mut rng);
        let differ = |bucket: &usize| one.buckets()[*bucket] != other.buckets()[*bucket];
        let differing: Vec<usize> = (0..BUCKETS).filter(differ).collect();
        assert_eq!(differing, [bucket_of(NodeId(77))], "{state:?}");
    }
}

/// SWIM §4.3: whoever is there during a whole round is probed in it once, whoever comes and goes meanwhile.
#[test]
fn each_round_probes_everybody_once() {
    let mut rng = Rng::new(13);
    let mut table = table(&mut rng);
    for id in 1..=20 {
        table.insert(
            member(id, id as u64, 1, MemberState::Alive),
            LamportTime(0),
            &mut rng,
        );
    }
    let mut next_id = 100;
    for _ in 0..200 {
        table.cursor = table.ring.len();
        let mut probed: BTreeMap<NodeId, u32> = BTreeMap::new();
        loop {
            let slot = table.next_to_probe(&mut rng).unwrap();
            *probed.entry(table.member(slot).id).or_default() += 1;
            match rng.below(4) {
                0 if table.here() < 30 => {
                    let new = member(next_id, next_id as u64, 1, MemberState::Alive);
                    table.insert(new, LamportTime(0), &mut rng);
                    next_id += 1;
                }
                1 => {
                    let guest = table.iter().find(|(_, member)| member.id.0 >= 100);
                    if let Some(slot) = guest.map(|(slot, _)| slot) {
                        table.remove(slot);
                    }
                }
                _ => {}
            }
            if table.cursor >= table.ring.len() {
                break;
            }
        }
        assert!(probed.values().all(|times| *times == 1), "{probed:?}");
        assert!((1..=20).all(|id| probed.contains_key(&NodeId(id))), "{probed:?}");
    }
}

/// G-15: a sample has different members, none that is not wanted, and all that are there if it must.
#[test]
fn g15_a_sample_is_of_different_members_that_are_wanted() {
    let mut rng = Rng::new(14);
    for size in [0, 1, 2, 3, 5, 60] {
        let mut table = table(&mut rng);
        for id in 1..=size {
            table.insert(
                member(id, id as u64, 1, MemberState::Alive),
                LamportTime(0),
                &mut rng,
            );
        }
        let mut seen = BTreeSet::new();
        for _ in 0..500 {
            let sample = table.sample(3, &mut rng, |member| member.id != NodeId(1));
            let ids: BTreeSet<NodeId> = sample.iter().map(|slot| table.member(*slot).id).collect();
            assert_eq!(ids.len(), sample.len());
            assert_eq!(ids.len() as u128, size.saturating_sub(1).min(3));
            assert!(!ids.contains(&NodeId(1)) && !ids.contains(&NodeId(0)));
            seen.extend(ids);
        }
        assert_eq!(
            seen.len() as u128,
            size.saturating_sub(1),
            "everybody has its turn"
        );
    }
}
