use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use lictor_node::local::RunId;
use lictor_runtime::Runtime;

use super::*;
use crate::checks::Runners;

fn runtimes() -> [Runtime; 2] {
    [
        lictor_runtime_smol::runtime(),
        lictor_runtime_async_std::runtime(),
    ]
}

fn runners(runtime: Runtime) -> (Runners, Receiver<(RunId, Outcome)>) {
    let (sender, reports) = channel();
    let report = move |run, outcome| {
        // The test may be over.
        let _ = sender.send((run, outcome));
    };
    (Runners::new(runtime, prober(), report), reports)
}

fn script(script: &str) -> Arc<Probe> {
    Arc::new(Probe::Script {
        args: ["sh", "-c", script].map(str::to_owned).into(),
    })
}

fn running(runners: &Runners) -> bool {
    format!("{runners:?}") != "Runners { running: 0, .. }"
}

#[test]
fn each_run_reports_what_it_found() {
    for runtime in runtimes() {
        let (runners, reports) = runners(runtime);
        for run in 0..20 {
            runners.start(RunId(run), script(&format!("printf {run}")), PATIENCE, 4096);
        }
        let mut found: Vec<_> = (0..20).map(|_| reports.recv_timeout(PATIENCE).unwrap()).collect();
        found.sort_by_key(|(run, _)| *run);
        let expected: Vec<_> = (0..20)
            .map(|run| (RunId(run), passing(run.to_string())))
            .collect();
        assert_eq!(found, expected);
        assert!(!running(&runners));
    }
}

#[test]
fn a_run_that_is_stopped_reports_nothing_and_ends() {
    for runtime in runtimes() {
        let (runners, reports) = runners(runtime);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let probe = Arc::new(Probe::H2Ping {
            address: listener.local_addr().unwrap().to_string(),
            tls: None,
        });
        runners.start(RunId(1), probe, PATIENCE, 4096);
        let (mut connection, _) = listener.accept().unwrap();
        runners.stop(RunId(1));
        runners.stop(RunId(2));
        assert!(!running(&runners));
        // The connection ends, long before the probe would.
        let begun = Instant::now();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut said = Vec::new();
        let ended = connection.read_to_end(&mut said);
        assert!(
            ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        );
        assert!(begun.elapsed() < PATIENCE);
        drop(runners);
        assert_eq!(reports.try_recv().ok(), None);
    }
}

#[test]
fn all_runs_end_with_those_who_run_them() {
    for runtime in runtimes() {
        let (runners, reports) = runners(runtime);
        runners.start(RunId(1), script("sleep 1000"), PATIENCE, 4096);
        drop(runners);
        // The last one who could report is gone, and so the channel is closed.
        assert!(
            reports
                .recv_timeout(PATIENCE)
                .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Disconnected)
        );
    }
}
