//! What the log has of changes that clients ask for.

use lictor_catalog::Text;
use lictor_local::{LocalView, Request};

/// A change, to be told once it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A service or a check is registered.
    Registered {
        /// Which of both.
        kind: Kind,
        /// Its id.
        id: Text,
        /// Whether it was not there before. Clients register things again and again, to be sure.
        new: bool,
    },
    /// A service or a check is removed.
    Deregistered {
        /// Which of both.
        kind: Kind,
        /// Its id.
        id: Text,
    },
    /// Maintenance mode begins or ends.
    Maintenance {
        /// Of which service; `None`: of the node.
        service: Option<Text>,
        /// Whether it begins.
        begins: bool,
        /// Why.
        reason: Text,
    },
}

/// What is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Service,
    Check,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Check => "check",
        }
    }
}

impl Entry {
    /// What there will be to tell of a request, which finds things as they are in `view`. `None`: nothing.
    pub(crate) fn of(request: &Request, view: &LocalView) -> Option<Self> {
        let has_service = |id: &Text| view.services.get(&id.to_ascii_lowercase()).is_some();
        let has_check = |id: &Text| view.checks.get(&id.to_ascii_lowercase()).is_some();
        let given = |id: &Text, name: &Text| if id.is_empty() { name } else { id }.clone();
        match request {
            Request::RegisterService { spec, .. } => {
                let id = given(&spec.def.id, &spec.def.name);
                let (kind, new) = (Kind::Service, !has_service(&id));
                Some(Self::Registered { kind, id, new })
            }
            Request::RegisterCheck(spec) => {
                let id = given(&spec.id, &spec.name);
                let (kind, new) = (Kind::Check, !has_check(&id));
                Some(Self::Registered { kind, id, new })
            }
            Request::DeregisterService(id) => has_service(id).then(|| Self::Deregistered {
                kind: Kind::Service,
                id: id.clone(),
            }),
            Request::DeregisterCheck(id) => has_check(id).then(|| Self::Deregistered {
                kind: Kind::Check,
                id: id.clone(),
            }),
            Request::Maintain {
                service,
                enable,
                reason,
            } => Some(Self::Maintenance {
                service: service.clone(),
                begins: *enable,
                reason: reason.clone(),
            }),
            Request::UpdateTtl { .. } | Request::SetDefinitions(_) | Request::SetNode(_) | Request::Sync => {
                None
            }
        }
    }

    /// Tells it: the change is made.
    pub(crate) fn tell(self) {
        match self {
            Self::Registered { kind, id, new: true } => {
                tracing::info!(kind = kind.name(), %id, "registered");
            }
            Self::Registered { kind, id, new: false } => {
                tracing::debug!(kind = kind.name(), %id, "registered again");
            }
            Self::Deregistered { kind, id } => tracing::info!(kind = kind.name(), %id, "deregistered"),
            Self::Maintenance {
                service: Some(service),
                begins: true,
                reason,
            } => tracing::info!(%service, %reason, "a service enters maintenance mode"),
            Self::Maintenance {
                service: Some(service),
                begins: false,
                ..
            } => tracing::info!(%service, "a service leaves maintenance mode"),
            Self::Maintenance {
                service: None,
                begins: true,
                reason,
            } => tracing::info!(%reason, "this node enters maintenance mode"),
            Self::Maintenance {
                service: None,
                begins: false,
                ..
            } => tracing::info!("this node leaves maintenance mode"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lictor_catalog::ServiceDef;
    use lictor_local::{LocalService, ServiceSpec};

    use super::*;

    fn service(id: &str, name: &str) -> ServiceDef {
        ServiceDef {
            id: id.into(),
            name: name.into(),
            ..ServiceDef::default()
        }
    }

    fn register(id: &str, name: &str) -> Request {
        Request::RegisterService {
            spec: Box::new(ServiceSpec {
                def: service(id, name),
                token: "".into(),
                checks: Vec::new(),
            }),
            replace_checks: false,
        }
    }

    #[test]
    fn what_is_new_and_what_is_gone() {
        let def = service("Web-1", "web");
        let running: (Text, _) = ("web-1".into(), Arc::new(LocalService { def, hash: 0 }));
        let view = LocalView {
            services: [running].into_iter().collect(),
            ..LocalView::default()
        };
        let told = |request: &Request| Entry::of(request, &view);
        let registered = |id: &str, new| {
            let (kind, id) = (Kind::Service, id.into());
            Some(Entry::Registered { kind, id, new })
        };
        assert_eq!(told(&register("WEB-1", "web")), registered("WEB-1", false));
        assert_eq!(told(&register("", "db")), registered("db", true));
        assert_eq!(
            told(&Request::DeregisterService("web-1".into())),
            Some(Entry::Deregistered {
                kind: Kind::Service,
                id: "web-1".into()
            })
        );
        assert_eq!(told(&Request::DeregisterService("db".into())), None);
        assert_eq!(told(&Request::DeregisterCheck("web-1".into())), None);
        assert_eq!(told(&Request::Sync), None);
    }
}
