//! Prepared queries that find nothing here: where else to look.

use std::future::Future;

use lictor_catalog::{Failover, Prepared, PreparedDef, PreparedToken};
use lictor_http::{Executed, Failure};

/// The data centers to ask, in this order: first the nearest, as many as are wanted, then those that are named. `others` are all that
/// are known but the own, the nearest first; nobody else is asked.
fn candidates(failover: &Failover, others: &[String]) -> Vec<String> {
    let nearest = usize::try_from(failover.nearest).unwrap_or(0);
    let mut candidates: Vec<String> = others.iter().take(nearest).cloned().collect();
    for name in failover.datacenters.iter().flatten() {
        let known = others.iter().find(|other| other.eq_ignore_ascii_case(name));
        candidates.extend(known.filter(|known| !candidates.contains(known)).cloned());
    }
    candidates
}

/// Asks other data centers one after the other, until one has something. `here` is what was found here, which is nothing. Who cannot be
/// asked is passed over.
pub(crate) async fn elsewhere<A, R>(here: Executed, others: &[String], mut ask: A) -> Executed
where
    A: FnMut(String) -> R,
    R: Future<Output = Result<Option<Executed>, Failure>>,
{
    let query = here.execution.query.clone();
    let (mut last, mut failovers) = (here, 0);
    for datacenter in candidates(&query.def.service.failover, others) {
        failovers += 1;
        match ask(datacenter.clone()).await {
            Ok(Some(found)) => {
                let is_something = !found.execution.instances.is_empty();
                last = found;
                if is_something {
                    break;
                }
            }
            Ok(None) => {}
            Err(failure) => {
                let query = &query.def.name;
                tracing::warn!(%query, %datacenter, %failure, "a prepared query could not be carried out elsewhere");
            }
        }
    }
    last.failovers = failovers;
    // There its token was left out.
    last.execution.query = query;
    last
}

/// A query as other data centers need it.
pub(crate) fn for_others(query: &Prepared) -> Prepared {
    Prepared {
        def: PreparedDef {
            token: PreparedToken::default(),
            ..query.def.clone()
        },
        ..*query
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_lite::future::block_on;
    use lictor_catalog::{Execution, Instance, NodeRecord, ServiceRecord};
    use lictor_machine::Index;

    use super::*;

    fn executed(datacenter: &str, failover: Failover, instances: usize) -> Executed {
        let mut query = Prepared::default();
        query.def.service.failover = failover;
        query.def.token = PreparedToken("secret".into());
        let instance = Instance {
            node: Arc::new(NodeRecord {
                def: lictor_catalog::NodeDef::default(),
                create_index: Index(1),
                modify_index: Index(1),
            }),
            service: Arc::new(ServiceRecord {
                node: lictor_catalog::Text::default(),
                def: lictor_catalog::ServiceDef::default(),
                create_index: Index(1),
                modify_index: Index(1),
            }),
            checks: vec![],
        };
        Executed {
            datacenter: datacenter.to_owned(),
            failovers: 0,
            execution: Execution {
                query: Arc::new(query),
                instances: vec![instance; instances],
                ordered: false,
            },
        }
    }

    fn failover(nearest: i64, datacenters: &[&str]) -> Failover {
        Failover {
            nearest,
            datacenters: Some(datacenters.iter().map(|name| (*name).into()).collect()),
        }
    }

    fn others() -> Vec<String> {
        ["near", "far", "farther"].map(str::to_owned).into()
    }

    #[test]
    fn the_nearest_come_first_and_then_who_is_named() {
        for (failover, expected) in [
            (failover(0, &[]), &[][..]),
            (failover(2, &[]), &["near", "far"]),
            (failover(9, &[]), &["near", "far", "farther"]),
            (failover(0, &["farther", "mars", "NEAR"]), &["farther", "near"]),
            (failover(1, &["far", "near", "far"]), &["near", "far"]),
        ] {
            assert_eq!(candidates(&failover, &others()), expected);
        }
        assert_eq!(candidates(&Failover::default(), &others()), [""; 0]);
    }

    /// Which data centers are asked, and what comes of it, if each of them answers so.
    fn look(failover: Failover, answers: &[Result<usize, ()>]) -> (Vec<String>, Executed) {
        let (mut asked, mut answers) = (Vec::new(), answers.iter());
        let here = executed("here", failover, 0);
        let found = block_on(elsewhere(here, &others(), |datacenter| {
            asked.push(datacenter.clone());
            let answer = *answers.next().unwrap();
            async move {
                match answer {
                    Ok(count) => Ok(Some(executed(&datacenter, Failover::default(), count))),
                    Err(()) => Err(Failure::NoPathToDatacenter),
                }
            }
        }));
        (asked, found)
    }

    #[test]
    fn the_first_who_has_something_is_the_last_to_be_asked() {
        let (asked, found) = look(failover(3, &[]), &[Err(()), Ok(2), Ok(9)]);
        assert_eq!(asked, ["near", "far"]);
        assert_eq!((&*found.datacenter, found.failovers), ("far", 2));
        assert_eq!(found.execution.instances.len(), 2);
        assert_eq!(found.execution.query.def.service.failover, failover(3, &[]));
        assert_eq!(&*found.execution.query.def.token.0, "secret");
    }

    #[test]
    fn if_nobody_has_something_who_answered_last_did() {
        let (asked, found) = look(failover(2, &["farther"]), &[Ok(0), Ok(0), Err(())]);
        assert_eq!(asked, ["near", "far", "farther"]);
        assert_eq!((&*found.datacenter, found.failovers), ("far", 3));
        let (asked, found) = look(failover(0, &["mars"]), &[]);
        assert_eq!(asked, [""; 0]);
        assert_eq!((&*found.datacenter, found.failovers), ("here", 0));
    }

    #[test]
    fn others_do_not_see_its_token() {
        let query = executed("here", failover(1, &[]), 0).execution.query;
        let told = for_others(&query);
        assert_eq!(told.def.token, PreparedToken::default());
        assert_eq!(told.def.service, query.def.service);
    }
}
