//! Commands, as bytes and then applied to two replicas, one of which was restored from rows on the way.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lictor_catalog::{Builder, Changes, Command, Cursor, State};
use lictor_fuzz::parts;
use lictor_machine::Index;

fn restored(state: &State) -> State {
    let (export, mut rows) = (state.export(), Builder::new());
    let mut from = Some(Cursor::start());
    while let Some(cursor) = from {
        let (chunk, next) = export.chunk(&cursor, 64);
        for row in chunk {
            rows.add(row).expect("what a state exports can be imported");
        }
        from = next;
    }
    rows.finish(state.index()).expect("what a state exports is whole")
}

fuzz_target!(|data: &[u8]| {
    let (mut one, mut other) = (State::new(), State::new());
    for (part, index) in parts(data).into_iter().zip(1..) {
        let Ok(command) = Command::decode(part) else {
            continue;
        };
        assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command));
        let apply = |state: &mut State| state.apply(Index(index), &command, &mut Changes::default());
        assert_eq!(apply(&mut one), apply(&mut other));
        if index % 3 == 0 {
            other = restored(&other);
        }
        assert_eq!(one.digest(), other.digest());
    }
});
