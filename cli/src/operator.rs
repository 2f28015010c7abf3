//! `lictor operator`: tools for whoever keeps a cluster going.

mod autopilot;
mod raft;

use crate::command::{Action, Command};

pub(crate) const COMMAND: Command = Command {
    name: "operator",
    summary: "Provides cluster-level tools for operators",
    usage: "<subcommand> [options]",
    about: "
Looks into the cluster's machinery and changes it. Take care: used wrongly,
these commands can cost the cluster its quorum, and with it its service.",
    action: Action::Group(&[autopilot::COMMAND, raft::COMMAND], &["area", "usage"]),
};
