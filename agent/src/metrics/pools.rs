//! The pools: who comes and goes, and what that costs.

use lictor_gossip::{MemberEvent, Stats};
use lictor_metrics::{Counter, Gauges, Labels, Registry, Sample};
use lictor_node::agent::Pool;

use super::label;
use crate::local::Local;
use crate::vitals::PoolVitals;

/// The label that tells the pools apart.
fn network(pool: Pool) -> Labels {
    label(
        "network",
        match pool {
            Pool::Lan => "lan",
            Pool::Wan => "wan",
        },
    )
}

/// One of a pool's own counts.
type Count = fn(&Stats) -> u64;

/// What happens in a pool, as its own counts tell: how much more they are than they were.
#[derive(Debug)]
pub(crate) struct PoolCounts {
    counters: Vec<(Counter, Count)>,
    intents: Sample,
    payloads: Sample,
}

impl PoolCounts {
    pub(crate) fn new(metrics: &Registry, pool: Pool) -> Self {
        let of: [(&'static str, Count); 16] = [
            ("consul.memberlist.udp.received", |stats| stats.bytes_in),
            ("consul.memberlist.udp.sent", |stats| stats.bytes_out),
            ("consul.memberlist.msg.suspect", |stats| stats.suspicions),
            ("consul.memberlist.msg.dead", |stats| stats.failures),
            ("lictor.gossip.packets.received", |stats| stats.packets_in),
            ("lictor.gossip.packets.sent", |stats| stats.packets_out),
            ("lictor.gossip.calls.received", |stats| stats.calls_in),
            ("lictor.gossip.calls.sent", |stats| stats.calls_out),
            ("lictor.gossip.calls.bytes", |stats| stats.call_bytes),
            ("lictor.gossip.probes", |stats| stats.probes),
            ("lictor.gossip.probes.failed", |stats| stats.probes_failed),
            ("lictor.gossip.probes.indirect", |stats| stats.indirect_probes),
            ("lictor.gossip.refutations", |stats| stats.refutations),
            ("lictor.gossip.syncs", |stats| stats.syncs + stats.syncs_equal),
            ("lictor.gossip.refused", |stats| stats.refused.values().sum()),
            ("consul.serf.events", |stats| stats.user_events),
        ];
        let counter = |(name, count)| (metrics.labelled_counter(name, network(pool)), count);
        Self {
            counters: of.into_iter().map(counter).collect(),
            intents: metrics.labelled_sample("consul.serf.queue.Intent", network(pool)),
            payloads: metrics.labelled_sample("consul.serf.queue.Event", network(pool)),
        }
    }

    /// Takes over what happened between two looks.
    pub(crate) fn update(&self, before: Option<&Stats>, now: &Stats) {
        for (counter, count) in &self.counters {
            let more = count(now).saturating_sub(before.map_or(0, count));
            if more > 0 {
                counter.add(more);
            }
        }
        self.intents.record(now.broadcasts_queued as f64);
        self.payloads.record(now.payload_queued as f64);
    }
}

/// Who comes and goes in a pool.
#[derive(Debug)]
pub(crate) struct MemberCounts {
    lan: [Counter; 4],
    wan: [Counter; 4],
}

impl MemberCounts {
    pub(crate) fn new(metrics: &Registry) -> Self {
        let of = |pool| {
            ["join", "update", "failed", "left"].map(|what| {
                let name = format!("consul.serf.member.{what}");
                metrics.labelled_counter(name, network(pool))
            })
        };
        Self {
            lan: of(Pool::Lan),
            wan: of(Pool::Wan),
        }
    }

    pub(crate) fn observe(&self, pool: Pool, event: &MemberEvent) {
        let [join, update, failed, left] = match pool {
            Pool::Lan => &self.lan,
            Pool::Wan => &self.wan,
        };
        match event {
            MemberEvent::Joined(_) => join.increment(),
            MemberEvent::Updated(_) => update.increment(),
            MemberEvent::Failed(_) => failed.increment(),
            MemberEvent::Left(_) => left.increment(),
            MemberEvent::Reaped(_) => {}
        }
    }
}

/// Puts who is in the pools.
pub(super) fn show(local: &Local, gauges: &mut Gauges) {
    let Some(vitals) = local.vitals.last() else { return };
    let pools = [(Pool::Lan, Some(&vitals.lan)), (Pool::Wan, vitals.wan.as_ref())];
    for (pool, vitals) in pools {
        let Some(PoolVitals {
            health,
            members,
            failed,
            left,
            stats,
            ..
        }) = vitals
        else {
            continue;
        };
        let mut put = |name: &'static str, value: f64| gauges.put_labelled(name, network(pool), value);
        put("consul.memberlist.health.score", f64::from(*health));
        put("lictor.gossip.tombstones", stats.tombstones as f64);
        let alive = members.saturating_sub(failed + left);
        for (state, count) in [("alive", alive), ("failed", *failed), ("left", *left)] {
            let mut labels = network(pool);
            labels.push(("node_state".into(), state.into()));
            gauges.put_labelled("consul.memberlist.node.instances", labels, count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pool_counts_is_counted_once() {
        let registry = Registry::new();
        let counts = PoolCounts::new(&registry, Pool::Wan);
        let mut stats = Stats {
            bytes_in: 500,
            ..Stats::default()
        };
        counts.update(None, &stats);
        let before = stats.clone();
        stats.bytes_in = 700;
        stats.probes = 3;
        counts.update(Some(&before), &stats);
        let report = registry.report();
        let total = |name: &str| {
            let found = report.counters.iter().find(|series| series.name == name).unwrap();
            assert_eq!(found.labels, network(Pool::Wan));
            (found.total.count, found.total.sum as u64)
        };
        assert_eq!(total("consul.memberlist.udp.received"), (2, 700));
        assert_eq!(total("lictor.gossip.probes"), (1, 3));
        assert_eq!(total("consul.memberlist.udp.sent"), (0, 0));
    }
}
