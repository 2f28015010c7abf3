//! How the servers look after themselves: the settings of autopilot, which are one object for the whole data center.

use std::sync::Arc;
use std::time::Duration;

use lictor_machine::Index;
use serde::{Deserialize, Serialize};

use crate::command::Key;
use crate::edit::Edit;
use crate::row::Table;

/// The longest tag in the settings, in bytes.
pub const MAX_AUTOPILOT_TAG_BYTES: usize = 128;

/// The name of the row.
pub(crate) const AUTOPILOT: &[u8] = b"autopilot";

/// What operators set. Of the last three nothing acts on anything: they are kept for those who ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopilotConfig {
    /// Remove servers that have failed once a new one has taken their place.
    pub cleanup_dead_servers: bool,
    /// A server that the leader has not heard for longer is not healthy.
    pub last_contact_threshold: Duration,
    /// A server that is further behind the leader's log, in entries, is not healthy.
    pub max_trailing_logs: u64,
    /// Never remove servers so that fewer than this many are left.
    pub min_quorum: u64,
    /// A new server is healthy for this long before it gets a vote.
    pub server_stabilization_time: Duration,
    /// At most [`MAX_AUTOPILOT_TAG_BYTES`].
    pub redundancy_zone_tag: String,
    /// No meaning here.
    pub disable_upgrade_migration: bool,
    /// At most [`MAX_AUTOPILOT_TAG_BYTES`].
    pub upgrade_version_tag: String,
}

impl Default for AutopilotConfig {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: true,
            last_contact_threshold: Duration::from_millis(200),
            max_trailing_logs: 250,
            min_quorum: 0,
            server_stabilization_time: Duration::from_secs(10),
            redundancy_zone_tag: String::new(),
            disable_upgrade_migration: false,
            upgrade_version_tag: String::new(),
        }
    }
}

impl AutopilotConfig {
    /// Whether it may be stored; the error is a text for whoever sent it.
    pub fn check(&self) -> Result<(), String> {
        for (name, tag) in [
            ("RedundancyZoneTag", &self.redundancy_zone_tag),
            ("UpgradeVersionTag", &self.upgrade_version_tag),
        ] {
            if tag.len() > MAX_AUTOPILOT_TAG_BYTES {
                return Err(format!(
                    "{name} has {} bytes, and may have {MAX_AUTOPILOT_TAG_BYTES}",
                    tag.len()
                ));
            }
        }
        Ok(())
    }
}

/// The settings as they are stored, or the defaults, with both indexes 0, while nobody has set any.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Autopilot {
    /// The settings.
    pub config: AutopilotConfig,
    /// The index that first set them.
    pub create_index: Index,
    /// The index that last changed them.
    pub modify_index: Index,
}

/// The one object. Clones are O(1).
#[derive(Clone, Debug, Default)]
pub(crate) struct AutopilotStore {
    pub(crate) stored: Option<Arc<Autopilot>>,
}

impl AutopilotStore {
    /// Sets them, if their modify index is `cas` where that is given, and tells whether they are as asked for now. On an error nothing
    /// was changed.
    pub(crate) fn set(
        &mut self,
        edit: &mut Edit,
        config: &AutopilotConfig,
        cas: Option<Index>,
    ) -> Result<bool, String> {
        config.check()?;
        let found = self
            .stored
            .as_ref()
            .map_or(Index::ZERO, |stored| stored.modify_index);
        if cas.is_some_and(|expected| expected != found) {
            return Ok(false);
        }
        if self
            .stored
            .as_ref()
            .is_some_and(|stored| stored.config == *config)
        {
            return Ok(true);
        }
        let create_index = self
            .stored
            .as_ref()
            .map_or(edit.index, |stored| stored.create_index);
        self.stored = Some(Arc::new(Autopilot {
            config: config.clone(),
            create_index,
            modify_index: edit.index,
        }));
        edit.changed(Table::Settings, Key::from_static(AUTOPILOT));
        Ok(true)
    }

    /// The settings and their index.
    pub(crate) fn get(&self) -> (Index, Arc<Autopilot>) {
        let stored = self.stored.clone().unwrap_or_default();
        (stored.modify_index, stored)
    }
}
