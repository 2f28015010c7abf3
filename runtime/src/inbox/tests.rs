use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::thread;

use futures_lite::future::{block_on, poll_once};

use super::*;

fn take_now<I>(receiver: &mut Receiver<I>, limit: usize) -> Option<(Taken, Vec<I>)> {
    let mut into = Vec::new();
    let taken = block_on(poll_once(receiver.take(&mut into, limit)))?;
    Some((taken, into))
}

#[test]
fn completions_overtake_requests_and_each_kind_keeps_its_order() {
    let (inbox, completions, mut receiver) = channel(8);
    for request in [1, 2, 3] {
        inbox.try_send(request).unwrap();
    }
    for completion in [10, 11] {
        completions.push(completion).unwrap();
    }
    assert_eq!(take_now(&mut receiver, 3), Some((Taken::Inputs, vec![10, 11, 1])));
    assert_eq!(take_now(&mut receiver, 3), Some((Taken::Inputs, vec![2, 3])));
    assert_eq!(take_now(&mut receiver, 3), None);
}

#[test]
fn a_full_queue_refuses_requests_and_takes_completions() {
    let (inbox, completions, mut receiver) = channel(2);
    inbox.try_send(1).unwrap();
    inbox.try_send(2).unwrap();
    assert_eq!(inbox.try_send(3), Err(TrySendError::Full(3)));
    for completion in 0..1000 {
        completions.push(completion).unwrap();
    }
    assert_eq!((inbox.len(), inbox.capacity()), (2, 2));
    assert_eq!(take_now(&mut receiver, 10_000).unwrap().1.len(), 1002);
    inbox.try_send(3).unwrap();
}

#[test]
fn a_waiting_sender_gets_the_room_that_is_freed() {
    let (inbox, _completions, mut receiver) = channel(1);
    inbox.try_send(1).unwrap();
    block_on(async {
        let mut waiting = Box::pin(inbox.send(2));
        assert!(poll_once(&mut waiting).await.is_none());
        let mut abandoned = Box::pin(inbox.send(3));
        assert!(poll_once(&mut abandoned).await.is_none());
        assert_eq!(take_now(&mut receiver, 1).unwrap().1, [1]);
        waiting.await.unwrap();
        assert!(poll_once(&mut abandoned).await.is_none());
        drop(abandoned);
        assert_eq!(
            take_now(&mut receiver, 9).unwrap().1,
            [2],
            "what was not sent is not received"
        );
    });
}

#[test]
fn room_offered_to_a_sender_that_gave_up_goes_to_the_next() {
    let (inbox, _completions, mut receiver) = channel(1);
    inbox.try_send(1).unwrap();
    block_on(async {
        let mut first = Box::pin(inbox.send(2));
        assert!(poll_once(&mut first).await.is_none());
        let woken = Arc::new(CountWakes::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut second = Box::pin(inbox.send(3));
        assert!(
            second
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        assert_eq!(take_now(&mut receiver, 1).unwrap().1, [1]);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        drop(first);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        second.await.unwrap();
    });
    assert_eq!(take_now(&mut receiver, 1).unwrap().1, [3]);
}

#[test]
fn one_wake_serves_many_inputs() {
    let (inbox, completions, mut receiver) = channel(64);
    let woken = Arc::new(CountWakes::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut into = Vec::new();
    assert!(
        receiver
            .poll_take(&mut Context::from_waker(&waker), &mut into, 64)
            .is_pending()
    );
    for request in 0..20 {
        inbox.try_send(request).unwrap();
        completions.push(request).unwrap();
    }
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
}

#[test]
fn closing_hands_out_what_is_queued_and_takes_no_more() {
    let (inbox, completions, mut receiver) = channel(8);
    inbox.try_send(1).unwrap();
    inbox.close();
    assert!(inbox.is_closed());
    assert_eq!(inbox.try_send(2), Err(TrySendError::Closed(2)));
    completions.push(3).unwrap();
    assert_eq!(take_now(&mut receiver, 1), Some((Taken::Inputs, vec![3])));
    assert_eq!(take_now(&mut receiver, 1), Some((Taken::Inputs, vec![1])));
    assert_eq!(take_now(&mut receiver, 1), Some((Taken::Closed, vec![])));
}

#[test]
fn the_last_inbox_closes_and_completions_do_not_hold_it_open() {
    let (inbox, completions, mut receiver) = channel::<u8>(8);
    let second = inbox.clone();
    drop(inbox);
    assert_eq!(take_now(&mut receiver, 1), None);
    drop(second);
    assert_eq!(take_now(&mut receiver, 1), Some((Taken::Closed, vec![])));
    drop(receiver);
    assert_eq!(completions.push(1), Err(Closed(1)));
}

#[test]
fn a_stop_drops_what_is_queued_and_frees_who_waits() {
    let (inbox, completions, mut receiver) = channel(1);
    inbox.try_send(1).unwrap();
    completions.push(2).unwrap();
    let sender = inbox.clone();
    let waiting = thread::spawn(move || sender.send_blocking(3));
    inbox.stop();
    assert_eq!(waiting.join().unwrap(), Err(Closed(3)));
    assert_eq!(completions.push(4), Err(Closed(4)));
    assert_eq!(take_now(&mut receiver, 8), Some((Taken::Stopped, vec![])));
    inbox.close();
    assert_eq!(
        take_now(&mut receiver, 8),
        Some((Taken::Stopped, vec![])),
        "a stop is not taken back"
    );
}

#[test]
fn inputs_that_own_a_sender_of_their_own_channel_are_dropped_cleanly() {
    struct Owns(#[expect(dead_code, reason = "held for its drop")] Inbox<Owns>);
    let (inbox, _completions, receiver) = channel(2);
    inbox.try_send(Owns(inbox.clone())).unwrap();
    drop(receiver);
    assert!(inbox.is_closed());
}

#[test]
fn threads_lose_nothing_through_a_queue_of_one() {
    const EACH: usize = 2_000;
    let (inbox, completions, mut receiver) = channel(1);
    let senders: Vec<_> = (0..3)
        .map(|sender: usize| {
            let (inbox, completions) = (inbox.clone(), completions.clone());
            thread::spawn(move || {
                for number in 0..EACH {
                    match number % 3 {
                        0 => inbox.send_blocking((sender, number)).unwrap(),
                        1 => block_on(inbox.send((sender, number))).unwrap(),
                        _ => completions.push((sender + 3, number)).unwrap(),
                    }
                }
            })
        })
        .collect();
    drop(inbox);
    let mut received = Vec::new();
    while block_on(receiver.take(&mut received, 7)) == Taken::Inputs {}
    for sender in senders {
        sender.join().unwrap();
    }
    assert_eq!(received.len(), 3 * EACH);
    for source in 0..6 {
        let numbers: Vec<_> = received
            .iter()
            .filter(|(s, _)| *s == source)
            .map(|(_, n)| *n)
            .collect();
        assert!(numbers.is_sorted());
    }
}

#[derive(Default)]
struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
