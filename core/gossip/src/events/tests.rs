use lictor_machine::Rng;
use proptest::prelude::*;

use super::*;

const ROUND: Duration = Duration::from_millis(200);
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// Of a member that has been in a pool since before the first event.
fn buffer() -> EventBuffer {
    let mut buffer = EventBuffer::new(ROUND, LamportTime(0));
    buffer.adopt(LamportTime(0)).unwrap();
    buffer
}

fn event(time: u64, origin: NodeId) -> UserEvent {
    UserEvent {
        time: LamportTime(time),
        origin,
        name: "deploy".to_owned(),
        payload: Bytes::from(format!("{time} of {origin:?}")),
        coalesce: false,
    }
}

fn accept(buffer: &mut EventBuffer, now: Instant, event: &UserEvent) -> Result<bool, Refusal> {
    let part = Part::UserEvent(event.clone()).encode();
    buffer
        .accept(now, event.origin, event.clone(), &part)
        .map(|part| part.is_some())
}

fn take(buffer: &mut EventBuffer) -> Vec<UserEvent> {
    core::iter::from_fn(|| buffer.poll()).collect()
}

fn times(buffer: &mut EventBuffer) -> Vec<u64> {
    take(buffer).iter().map(|event| event.time.0).collect()
}

/// Has `short` ask `long` until it has nothing to ask any more, and returns how many calls that took.
fn pull(now: Instant, short: &mut EventBuffer, long: &mut EventBuffer) -> usize {
    for calls in 0..100 {
        let Some(question) = short.ask(now) else {
            return calls;
        };
        assert_eq!(question.peer, B);
        let mut parts = question.parts.into_iter();
        let Some(Part::EventsWanted(wanted)) = parts.next() else {
            panic!("no question")
        };
        let held = parts.flat_map(|part| {
            let Part::EventsHeld(held) = part else {
                panic!("{part:?} in a question")
            };
            held.fingerprints
        });
        let found = long.answer(now, A, wanted, held.collect());
        assert!(found.events.iter().map(Bytes::len).sum::<usize>() <= MAX_ANSWER_BYTES);
        let mut new = 0;
        for part in &found.events {
            let Ok(Part::UserEvent(event)) = postcard::from_bytes(part) else {
                panic!("no event")
            };
            new += usize::from(short.accept(now, B, event, part).unwrap().is_some());
        }
        short.answered(now, Some(found.head), new);
    }
    panic!("it asks for ever");
}

#[test]
fn an_event_that_comes_alone_is_handed_out_at_once_and_once() {
    let mut buffer = buffer();
    let first = event(1, A);
    assert_eq!(accept(&mut buffer, at(0), &first), Ok(true));
    assert_eq!(buffer.poll(), Some(first.clone()));
    assert_eq!(accept(&mut buffer, at(1), &first), Ok(false));
    assert_eq!(buffer.poll(), None);
    assert_eq!(accept(&mut buffer, at(60_000), &event(2, B)), Ok(true));
    assert_eq!(times(&mut buffer), [2]);
    assert_eq!(buffer.deadline(), None);
    let counts = buffer.counts();
    assert_eq!((counts.delivered, counts.duplicates, counts.late), (2, 1, 0));
}

#[test]
fn what_is_said_here_comes_after_all_that_was_heard() {
    let mut buffer = buffer();
    accept(&mut buffer, at(0), &event(1, B)).unwrap();
    let part = buffer.fire(at(1), A, "deploy".to_owned(), Bytes::new(), false);
    let Ok(Part::UserEvent(fired)) = postcard::from_bytes(&part) else {
        panic!("no event")
    };
    assert_eq!((fired.time, fired.origin), (LamportTime(2), A));
    buffer.handle_timeout(buffer.deadline().unwrap());
    assert_eq!(times(&mut buffer), [1, 2], "the speaker hears it too");
}

/// Events of several members that speak at once come in any order, and leave in that of their times.
#[test]
fn a_storm_is_put_in_order() {
    let mut buffer = buffer();
    buffer.set_members(10);
    let mut events: Vec<UserEvent> = (1..=10)
        .flat_map(|origin| (1..=100).map(move |time| event(time, NodeId(origin))))
        .collect();
    let mut rng = Rng::new(7);
    rng.shuffle(&mut events);
    for (event, millis) in events.iter().zip(0..) {
        accept(&mut buffer, at(millis), event).unwrap();
        buffer.handle_timeout(at(millis));
    }
    let mut got = take(&mut buffer);
    assert_eq!(got, [], "they wait for those that precede them");
    while let Some(due) = buffer.deadline() {
        assert!(due <= at(1000) + 2 * 5 * ROUND, "nothing is missing any more");
        buffer.handle_timeout(due);
        got.append(&mut take(&mut buffer));
        if buffer.ask(due).is_some() {
            buffer.answered(due, None, 0);
        }
    }
    let mut keys: Vec<EventKey> = got.iter().map(UserEvent::key).collect();
    assert!(keys.is_sorted());
    keys.dedup();
    assert_eq!(keys.len(), 1000);
    assert_eq!(buffer.counts().late, 0);
}

#[test]
fn a_gap_is_waited_for_and_asked_about_but_not_for_ever() {
    let mut buffer = buffer();
    accept(&mut buffer, at(0), &event(1, A)).unwrap();
    assert_eq!(times(&mut buffer), [1]);
    accept(&mut buffer, at(10_000), &event(3, A)).unwrap();
    let asks = buffer.deadline().unwrap();
    assert_eq!(buffer.ask(asks).map(|question| question.peer), Some(A));
    buffer.answered(asks, None, 0);
    // It comes while there is still time.
    accept(&mut buffer, at(12_000), &event(2, A)).unwrap();
    buffer.handle_timeout(at(12_000));
    assert_eq!(times(&mut buffer), [2, 3], "3 has waited for long enough");

    accept(&mut buffer, at(20_000), &event(5, A)).unwrap();
    buffer.handle_timeout(at(23_000));
    assert_eq!(times(&mut buffer), [0; 0]);
    buffer.handle_timeout(at(40_000));
    assert_eq!(times(&mut buffer), [5]);
    // What comes too late to be in order is better than what never comes.
    accept(&mut buffer, at(50_000), &event(4, A)).unwrap();
    assert_eq!(times(&mut buffer), [4]);
    assert_eq!(buffer.counts().late, 1);
}

#[test]
fn of_events_that_coalesce_only_the_latest_of_a_name_is_handed_out() {
    let mut buffer = buffer();
    let coalescing = |time, name: &str| UserEvent {
        name: name.to_owned(),
        coalesce: true,
        ..event(time, A)
    };
    accept(&mut buffer, at(0), &event(1, A)).unwrap();
    for (time, name) in [(3, "a"), (2, "a"), (4, "b"), (5, "a"), (6, "b")] {
        accept(&mut buffer, at(1), &coalescing(time, name)).unwrap();
    }
    accept(&mut buffer, at(2), &event(7, A)).unwrap();
    buffer.handle_timeout(at(9000));
    assert_eq!(times(&mut buffer), [1, 5, 6, 7]);
    // They are still known, for others may need them.
    assert_eq!(buffer.digest().count, 7);
}

#[test]
fn a_steady_stream_that_coalesces_is_not_put_off_for_ever() {
    let mut buffer = buffer();
    let mut got = Vec::new();
    for time in 1..=100 {
        let event = UserEvent {
            coalesce: true,
            ..event(time, A)
        };
        accept(&mut buffer, at(time * 100), &event).unwrap();
        buffer.handle_timeout(at(time * 100));
        got.append(&mut times(&mut buffer));
    }
    assert!((4..=20).contains(&got.len()), "{got:?}");
    assert!(got.is_sorted());
}

#[test]
fn a_newcomer_does_not_get_what_was_said_before_it_came() {
    let mut old = buffer();
    for time in 1..=50 {
        accept(&mut old, at(0), &event(time, B)).unwrap();
    }
    let mut new = EventBuffer::new(ROUND, LamportTime(0));
    // One that was just said is faster than the answer to the join.
    let latest = event(51, B);
    accept(&mut old, at(0), &latest).unwrap();
    accept(&mut new, at(0), &latest).unwrap();
    new.adopt(old.time()).unwrap();
    new.compare(at(1), B, old.digest());
    assert!(pull(new.deadline().unwrap(), &mut new, &mut old) > 0);
    assert_eq!(new.digest(), old.digest(), "it keeps them for others");
    new.handle_timeout(at(60_000));
    assert_eq!(times(&mut new), [51]);
    accept(&mut new, at(70_000), &event(52, B)).unwrap();
    assert_eq!(times(&mut new), [52]);
}

#[test]
fn who_was_away_gets_what_it_missed() {
    let mut old = buffer();
    for time in 1..=50 {
        accept(&mut old, at(0), &event(time, B)).unwrap();
    }
    let mut back = EventBuffer::new(ROUND, LamportTime(40));
    back.adopt(old.time()).unwrap();
    back.compare(at(1), B, old.digest());
    assert!(pull(back.deadline().unwrap(), &mut back, &mut old) > 0);
    back.handle_timeout(at(60_000));
    assert_eq!(times(&mut back), (41..=50).collect::<Vec<u64>>());
}

#[test]
fn a_storm_is_pulled_in_bounded_answers() {
    let mut long = buffer();
    for time in 1..=1000 {
        let event = UserEvent {
            payload: Bytes::from(vec![7; 500]),
            ..event(time, B)
        };
        accept(&mut long, at(0), &event).unwrap();
    }
    let mut short = buffer();
    short.compare(at(0), B, long.digest());
    let calls = pull(short.deadline().unwrap(), &mut short, &mut long);
    assert!((2..=6).contains(&calls), "{calls} calls");
    assert_eq!(short.digest(), long.digest());
    assert_eq!(short.digest().count, 1000);
    // Nothing is asked of somebody who has the same.
    short.compare(at(90_000), B, long.digest());
    assert_eq!(short.ask(at(99_000)).map(|question| question.peer), None);
}

/// An old event is missing, and all later ones are here: the difference is not among those that a question names.
#[test]
fn what_is_missing_far_below_is_found() {
    let (mut long, mut short) = (buffer(), buffer());
    for time in 1..=500 {
        accept(&mut long, at(0), &event(time, B)).unwrap();
        if time != 17 {
            accept(&mut short, at(0), &event(time, B)).unwrap();
        }
    }
    short.handle_timeout(at(90_000));
    short.compare(at(99_000), B, long.digest());
    assert_eq!(pull(at(120_000), &mut short, &mut long), 2);
    assert_eq!(short.digest(), long.digest());
    assert_eq!(times(&mut short).len(), 500);
}

#[test]
fn who_is_asked_learns_what_it_lacks_itself() {
    let (mut a, mut b) = (buffer(), buffer());
    for time in 1..=3 {
        accept(&mut a, at(0), &event(time, A)).unwrap();
        accept(&mut b, at(0), &event(time, B)).unwrap();
    }
    a.compare(at(0), B, b.digest());
    assert_eq!(pull(at(9000), &mut a, &mut b), 1);
    assert_eq!(b.digest().count, 3);
    // In its turn it asks who asked it.
    let question = b.ask(at(20_000)).unwrap();
    assert_eq!(question.peer, A);
}

#[test]
fn questions_that_bring_nothing_become_rare() {
    let mut buffer = buffer();
    let theirs = EventDigest {
        newest: LamportTime(9),
        count: 9,
        fingerprint: 9,
    };
    let mut questions = 0;
    for second in 0..3600 {
        let now = at(second * 1000);
        buffer.compare(now, B, theirs);
        if buffer.ask(now).is_some() {
            questions += 1;
            assert!(buffer.ask(now).is_none(), "one at a time");
            buffer.answered(now, None, 0);
        }
    }
    assert!((50..=100).contains(&questions), "{questions}");
}

#[test]
fn the_past_is_bounded_and_what_had_to_go_stays_away() {
    let mut buffer = buffer();
    let many = MAX_EVENTS as u64 + 100;
    for time in 1..=many {
        accept(&mut buffer, at(time), &event(time, A)).unwrap();
    }
    assert_eq!(buffer.digest().count as usize, MAX_EVENTS);
    assert_eq!(accept(&mut buffer, at(many), &event(100, A)), Ok(false));
    assert_eq!(accept(&mut buffer, at(many), &event(50, B)), Ok(false));
    assert_eq!(buffer.counts().too_old, 2);
    buffer.handle_timeout(at(10 * many));
    assert_eq!(
        times(&mut buffer).len() as u64,
        many,
        "each was handed out before it went"
    );
}

#[test]
fn a_time_that_cannot_be_true_changes_nothing() {
    let mut buffer = buffer();
    accept(&mut buffer, at(0), &event(1, A)).unwrap();
    let before = (buffer.digest(), buffer.time());
    let far = event(2 + crate::lamport::MAX_JUMP, B);
    assert_eq!(accept(&mut buffer, at(1), &far), Err(Refusal::Jump));
    assert_eq!(buffer.adopt(far.time), Err(Refusal::Jump));
    assert_eq!((buffer.digest(), buffer.time()), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever order events come in, and whichever of them had to make room: members that have been told the same have the same.
    #[test]
    fn buffers_agree_when_all_is_told(seed in any::<u64>()) {
        let mut rng = Rng::new(seed);
        let count = MAX_EVENTS as u64 + rng.below(500);
        let mut events: Vec<UserEvent> = (0..count)
            .map(|n| event(1 + n / 3, NodeId(u128::from(1 + n % 3))))
            .collect();
        let mut digests = Vec::new();
        for _ in 0..2 {
            rng.shuffle(&mut events);
            let mut buffer = buffer();
            for event in &events {
                accept(&mut buffer, at(0), event).unwrap();
            }
            prop_assert_eq!(buffer.digest().count as usize, MAX_EVENTS);
            digests.push(buffer.digest());
        }
        prop_assert_eq!(digests[0], digests[1]);
    }

    /// Each event that is taken in is handed out once, whatever comes when.
    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(
        arrivals in prop::collection::vec((1_u64..60, 1_u128..4, 0_u64..3000), 1..200)
    ) {
        let mut buffer = buffer();
        let mut now = 0;
        let (mut taken, mut got) = (BTreeSet::new(), Vec::new());
        for (time, origin, pause) in arrivals {
            now += pause;
            buffer.handle_timeout(at(now));
            let event = event(time, NodeId(origin));
            prop_assert_eq!(accept(&mut buffer, at(now), &event), Ok(taken.insert(event.key())));
            got.append(&mut take(&mut buffer));
        }
        buffer.handle_timeout(at(now + 60_000));
        got.append(&mut take(&mut buffer));
        let keys: BTreeSet<EventKey> = got.iter().map(UserEvent::key).collect();
        prop_assert_eq!(keys.len(), got.len());
        prop_assert_eq!(keys, taken);
    }
}
