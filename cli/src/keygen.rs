//! `lictor keygen`

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::command::{Action, Command};
use crate::console::{Console, Failure};
use crate::flags::Args;

pub(crate) const COMMAND: Command = Command {
    name: "keygen",
    summary: "Generates a new encryption key",
    usage: "",
    about: "
Generates a new 32-byte key for the agents of one cluster to share. Given to
every agent with -encrypt, it is all that they need to trust each other and to
encrypt what they say. Whoever has it can join the cluster: keep it secret.",
    action: Action::Run {
        flags: &[],
        not_yet: &[],
        run,
    },
};

fn run(_args: &Args, console: &mut Console<'_>) -> Result<(), Failure> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| Failure::new(format!("Error reading random data: {error}")))?;
    console.line(BASE64_STANDARD.encode(key))
}

#[cfg(test)]
mod tests {
    use crate::console::testing::run;

    #[test]
    fn keys_are_new_and_long_enough() {
        let (first, second) = (run(&["keygen"]), run(&["keygen"]));
        assert_eq!((first.code, first.err.as_str()), (0, ""));
        assert_ne!(first.out, second.out);
        assert_eq!(
            lictor_agent::config::decode_base64(first.out.as_bytes())
                .unwrap()
                .len(),
            32
        );
    }
}
