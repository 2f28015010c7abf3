//! What runs on this agent: its services, their checks, and how all of that gets into the catalog.

mod io;
mod spec;

pub use io::{
    AskId, Change, Config, Definitions, Effect, Error, Event, Input, LocalCheck, LocalService, LocalView,
    Question, RecordKey, Reply, Request, RunId, SaveId, Timer,
};
pub use spec::{
    CheckMethod, CheckSpec, MAX_SERVICE_CHECKS, MIN_DEREGISTER_AFTER, MIN_INTERVAL, PROBE_TIMEOUT, Probe,
    ProbeTls, SCRIPT_TIMEOUT, ServiceSpec, Thresholds,
};
