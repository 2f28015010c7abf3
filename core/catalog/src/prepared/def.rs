//! What a prepared query is.

use std::fmt;
use std::time::Duration;

use lictor_machine::Index;
use serde::{Deserialize, Serialize};

use super::id::PreparedId;
use super::template::{Template, TemplateError};
use crate::discovery::{Labels, MAX_NAME_BYTES, MAX_TEXT_BYTES, Text};

/// The most tags, checks or data centers that a prepared query may name.
pub const MAX_PREPARED_LIST: usize = 256;

/// The longest regular expression of a template, in bytes.
pub const MAX_PATTERN_BYTES: usize = 4096;

/// How many labels a query may ask of nodes.
const MAX_NODE_META: usize = 64;

/// What a token is shown as to those who may not see it, so nobody has this one.
const REDACTED: &str = "<hidden>";

/// A prepared query, as whoever makes it says.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PreparedDef {
    /// Drawn at random.
    pub id: PreparedId,
    /// What it is called: no two queries have names that differ only in the letter case of ASCII. Of a template, the start of all names
    /// that it is for.
    pub name: Text,
    /// The session that it goes with, as it was spelled; empty: none.
    pub session: Text,
    /// Whose permissions it is carried out with; empty: those of whoever asks.
    pub token: PreparedToken,
    /// Whether it is a template, and which.
    pub template: TemplateDef,
    /// What it finds.
    pub service: PreparedService,
    /// How long who asked by DNS may keep the answer; `None`: as for any service.
    pub ttl: Option<Duration>,
    /// The same as whoever made it wrote it.
    pub ttl_text: Text,
}

/// A secret that is kept as it is. Debug output hides it.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PreparedToken(pub Text);

/// What makes a prepared query a template.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TemplateDef {
    /// How names are found that it is for; empty: it is none. There is one way, [`Self::NAME_PREFIX_MATCH`].
    pub kind: Text,
    /// A regular expression for names that it is for, so that parts of them can be put elsewhere; empty: none. At most
    /// [`MAX_PATTERN_BYTES`].
    pub pattern: Text,
    /// Whether to leave tags out that are empty once they are filled in.
    pub remove_empty_tags: bool,
}

impl TemplateDef {
    /// For names that begin with its own.
    pub const NAME_PREFIX_MATCH: &'static str = "name_prefix_match";
}

/// Which instances are meant. In a template every text here may have parts that are filled in; names of labels may not.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PreparedService {
    /// The service.
    pub service: Text,
    /// Where else to look if there is none here.
    pub failover: Failover,
    /// Leave those out that have a warning, too.
    pub only_passing: bool,
    /// Checks that do not count, by id; `None` is none, written otherwise. At most [`MAX_PREPARED_LIST`].
    pub ignored_checks: Option<Vec<Text>>,
    /// The node to sort by distance from, `_agent` for the one that was asked, or `_ip` for the one with the client's address; empty: in
    /// no order.
    pub near: Text,
    /// Tags that they must have, and behind a `!` those that they must not have; `None` is none, written otherwise. At most
    /// [`MAX_PREPARED_LIST`].
    pub tags: Option<Vec<Text>>,
    /// Labels that their nodes must have; `None` is none, written otherwise.
    pub node_meta: Option<Labels>,
    /// Labels that they must have themselves; `None` is none, written otherwise.
    pub service_meta: Option<Labels>,
    /// Those that take the service's callers in the mesh, instead of its own.
    pub connect: bool,
}

/// In which other data centers to look.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Failover {
    /// First in so many of the nearest.
    pub nearest: i64,
    /// Then in these; `None` is none, written otherwise. At most [`MAX_PREPARED_LIST`].
    pub datacenters: Option<Vec<Text>>,
}

/// A prepared query that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Prepared {
    /// What was said of it.
    pub def: PreparedDef,
    /// The index that made it.
    pub create_index: Index,
    /// The index that last changed it.
    pub modify_index: Index,
}

impl PreparedDef {
    /// Whether it is a template.
    pub fn is_template(&self) -> bool {
        !self.template.kind.is_empty()
    }

    /// Whether it may be stored, as far as that can be told without the catalog; the error is a text for whoever sent it.
    pub fn check(&self) -> Result<(), String> {
        let invalid = |why: String| format!("Invalid prepared query: {why}");
        self.check_sense().map_err(invalid)?;
        self.check_bounds().map_err(invalid)
    }

    /// Whether it can be filled in, if it is a template. Everybody comes to the same result only with the same version of the program, so
    /// this is for whoever asks for the change: [`crate::State::apply`] takes any.
    pub fn check_template(&self) -> Result<(), TemplateError> {
        if self.is_template() {
            Template::compile(self)?;
        }
        Ok(())
    }

    /// In the order in which the API looks.
    fn check_sense(&self) -> Result<(), String> {
        if self.name.is_empty() && !self.is_template() && self.session.is_empty() {
            return Err("Must be bound to a session".to_owned());
        }
        if *self.token.0 == *REDACTED {
            return Err(format!(
                "Bad Token '{REDACTED}', it looks like a query definition with a redacted token was submitted"
            ));
        }
        let service = &self.service;
        if service.service.is_empty() {
            return Err("Must provide a Service name to query".to_owned());
        }
        let nearest = service.failover.nearest;
        if nearest < 0 {
            return Err(format!("Bad NearestN '{nearest}', must be >= 0"));
        }
        let Some(node_meta) = &service.node_meta else {
            return Ok(());
        };
        if node_meta.len() > MAX_NODE_META {
            return Err(format!(
                "Node metadata cannot contain more than {MAX_NODE_META} key/value pairs"
            ));
        }
        node_meta.iter().try_for_each(|(name, value)| {
            let bad = |why| format!("Couldn't load metadata pair ('{name}', '{value}'): {why}");
            label(name, value).map_err(bad)
        })
    }

    fn check_bounds(&self) -> Result<(), String> {
        let Self {
            id: _,
            name,
            session,
            token,
            template,
            service,
            ttl: _,
            ttl_text,
        } = self;
        for (what, text, limit) in [
            ("name", name, MAX_NAME_BYTES),
            ("session", session, MAX_NAME_BYTES),
            ("token", &token.0, MAX_NAME_BYTES),
            ("template's type", &template.kind, MAX_NAME_BYTES),
            (
                "template's regular expression",
                &template.pattern,
                MAX_PATTERN_BYTES,
            ),
            ("service", &service.service, MAX_NAME_BYTES),
            ("near", &service.near, MAX_NAME_BYTES),
            ("TTL", ttl_text, MAX_NAME_BYTES),
        ] {
            bytes(what, text, limit)?;
        }
        for (what, list) in [
            ("tags", &service.tags),
            ("checks to ignore", &service.ignored_checks),
            ("data centers", &service.failover.datacenters),
        ] {
            let list = list.as_deref().unwrap_or_default();
            if list.len() > MAX_PREPARED_LIST {
                let count = list.len();
                return Err(format!("it has {count} {what}, and may have {MAX_PREPARED_LIST}"));
            }
            list.iter()
                .try_for_each(|text| bytes(&format!("one of its {what}"), text, MAX_NAME_BYTES))?;
        }
        let labels = service.node_meta.iter().chain(&service.service_meta);
        labels.flat_map(Labels::iter).try_for_each(|(name, value)| {
            bytes("the name of a label", name, MAX_TEXT_BYTES)?;
            bytes("the value of a label", value, MAX_TEXT_BYTES)
        })
    }
}

fn bytes(what: &str, text: &str, limit: usize) -> Result<(), String> {
    if text.len() > limit {
        let len = text.len();
        return Err(format!("its {what} has {len} bytes, and may have {limit}"));
    }
    Ok(())
}

/// Whether a node could have this label. The error is in the API's words.
fn label(name: &str, value: &str) -> Result<(), &'static str> {
    const MAX_LABEL_NAME: usize = 128;
    const MAX_LABEL_VALUE: usize = 512;
    if name.is_empty() {
        return Err("Key cannot be blank");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.bytes().all(plain) {
        return Err("Key contains invalid characters");
    }
    if name.len() > MAX_LABEL_NAME {
        return Err("Key is too long (limit: 128 characters)");
    }
    if value.len() > MAX_LABEL_VALUE {
        return Err("Value is too long (limit: 512 characters)");
    }
    Ok(())
}

impl fmt::Debug for PreparedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}
