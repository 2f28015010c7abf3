//! Requests: each is answered exactly once, by the server that was asked, unless that server is no more.

use std::collections::BTreeMap;

use lictor_machine::Token;

use super::{Check, ensure};

const PROPERTY: &str = "every request is answered once";

#[derive(Debug, Default)]
pub(super) struct Requests {
    open: BTreeMap<Token, usize>,
}

impl Requests {
    pub(super) fn asked(&mut self, at: usize, token: Token) {
        self.open.insert(token, at);
    }

    pub(super) fn answered(&mut self, at: usize, token: Token) -> Check {
        let asked = self.open.remove(&token);
        ensure(PROPERTY, asked == Some(at), || {
            format!(
                "server {} answers request {}, which is not open there",
                at + 1,
                token.0
            )
        })
    }

    pub(super) fn crashed(&mut self, at: usize) {
        self.open.retain(|_, asked| *asked != at);
    }

    pub(super) fn at_rest(&self) -> Check {
        ensure(PROPERTY, self.open.is_empty(), || {
            let open: Vec<String> = self
                .open
                .iter()
                .map(|(token, at)| format!("{} at n{}", token.0, at + 1))
                .collect();
            format!("at rest, requests are still unanswered: {}", open.join(", "))
        })
    }
}
