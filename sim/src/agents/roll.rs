//! What is registered with an agent, as those who register know it: what was acknowledged is there, also after a crash; what was not may
//! be there or not.

use std::collections::{BTreeMap, BTreeSet};

use lictor_catalog::{Tags, Text};
use lictor_local::{CheckSpec, Definitions, LocalView, Request, ServiceSpec};

/// The check by which an agent says that its node is in maintenance mode.
const MAINTENANCE: &str = "_node_maintenance";

/// Something that may be registered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    /// A service of this id, with its checks.
    Service(Text),
    /// A check of the node.
    Check(Text),
    /// Maintenance mode of the node.
    Maintenance,
}

/// As what something is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Service(Box<ServiceSpec>),
    Check(Box<CheckSpec>),
    Maintenance,
}

/// What is asked of an agent, and what follows from that.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// That something be as said, or not be there.
    Set(Thing, Option<Entry>),
    /// That the files be read again, which say this.
    Reload(Definitions),
    /// That a check take note. There may be none.
    Tell,
}

#[derive(Debug, Default)]
struct Claim {
    /// What it may be.
    may_be: Vec<Option<Entry>>,
    /// Whether files say it.
    in_files: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Roll {
    claims: BTreeMap<Thing, Claim>,
    /// Of these an answer is outstanding.
    open: BTreeSet<Thing>,
}

impl Wish {
    /// What is to be asked for, if it is for requests to ask.
    pub(super) fn request(&self) -> Option<Request> {
        let request = match self {
            Self::Set(_, Some(Entry::Service(spec))) => Request::RegisterService {
                spec: spec.clone(),
                replace_checks: true,
            },
            Self::Set(_, Some(Entry::Check(spec))) => Request::RegisterCheck(spec.clone()),
            Self::Set(Thing::Service(id), _) => Request::DeregisterService(id.clone()),
            Self::Set(Thing::Check(id), _) => Request::DeregisterCheck(id.clone()),
            Self::Set(Thing::Maintenance, entry) => Request::Maintain {
                service: None,
                enable: entry.is_some(),
                reason: Text::default(),
            },
            Self::Reload(files) => Request::SetDefinitions(files.clone()),
            Self::Tell => return None,
        };
        Some(request)
    }
}

impl Roll {
    /// Whether this may be asked for now: nothing else is being asked of the same thing.
    pub(super) fn ask(&mut self, thing: &Thing, entry: Option<&Entry>) -> bool {
        if !self.open.insert(thing.clone()) {
            return false;
        }
        let claim = self.claims.entry(thing.clone()).or_insert_with(|| Claim {
            may_be: vec![None],
            in_files: false,
        });
        claim.allow(entry.cloned());
        true
    }

    /// What was asked for was done, and if it is `durable`, nothing else is possible any more.
    pub(super) fn done(&mut self, thing: &Thing, entry: Option<Entry>, durable: bool) {
        self.open.remove(thing);
        if let Some(claim) = self.claims.get_mut(thing).filter(|_| durable) {
            claim.may_be = vec![entry];
        }
    }

    /// The files say this now; until that is `certain`, what they said before may be still so.
    pub(super) fn files(&mut self, definitions: &Definitions, certain: bool) {
        let services = definitions.services.iter().map(|spec| {
            let id = Thing::Service(spec.def.id.clone());
            (id, Entry::Service(Box::new(spec.clone())))
        });
        let checks = definitions.checks.iter().map(|spec| {
            let id = Thing::Check(spec.id.clone());
            (id, Entry::Check(Box::new(spec.clone())))
        });
        let mut said: BTreeMap<Thing, Entry> = services.chain(checks).collect();
        for (thing, claim) in &mut self.claims {
            if claim.in_files {
                claim.become_as(said.remove(thing), certain);
            }
        }
        for (thing, entry) in said {
            let mut claim = Claim {
                may_be: vec![None],
                in_files: true,
            };
            claim.become_as(Some(entry), certain);
            self.claims.insert(thing, claim);
        }
    }

    /// The agent removed a service by itself. Before that is durable, a crash may bring it back.
    pub(super) fn reaped(&mut self, id: &Text) {
        if let Some(claim) = self.claims.get_mut(&Thing::Service(id.clone())) {
            claim.allow(None);
        }
    }

    /// The process is no more: nothing is answered.
    pub(super) fn stopped(&mut self) {
        self.open.clear();
    }

    /// What requests registered is gone with the disk.
    pub(super) fn disk_lost(&mut self) {
        for claim in self.claims.values_mut().filter(|claim| !claim.in_files) {
            claim.may_be = vec![None];
        }
    }

    /// The first thing that is not as it may be.
    pub(super) fn difference(&self, view: &LocalView) -> Option<String> {
        for (thing, claim) in &self.claims {
            let found = found(view, thing);
            if !claim
                .may_be
                .iter()
                .any(|entry| same(entry.as_ref(), found.as_ref()))
            {
                return Some(format!("{thing:?} is {found:?}, and may be {:?}", claim.may_be));
            }
        }
        let there = |thing: Thing| self.claims.contains_key(&thing);
        let services = view.services.iter().map(|(_, service)| &service.def.id);
        if let Some(id) = services
            .into_iter()
            .find(|id| !there(Thing::Service((*id).clone())))
        {
            return Some(format!("nobody registered the service {id}"));
        }
        let checks = view.checks.iter().map(|(_, check)| &check.def);
        let mut of_node = checks.filter(|check| check.service_id.is_empty() && *check.id != *MAINTENANCE);
        let stranger = of_node.find(|check| !there(Thing::Check(check.id.clone())))?;
        Some(format!("nobody registered the check {}", stranger.id))
    }

    /// What is there now is what there is.
    pub(super) fn settle(&mut self, view: &LocalView) {
        for (thing, claim) in &mut self.claims {
            if !self.open.contains(thing) {
                let found = found(view, thing);
                claim.may_be.retain(|entry| same(entry.as_ref(), found.as_ref()));
            }
        }
    }

    /// What may be registered now, for whoever wants to change something.
    pub(super) fn registered(&self) -> Vec<Thing> {
        let claims = self.claims.iter();
        let there = claims.filter(|(_, claim)| !claim.in_files && claim.may_be.iter().any(Option::is_some));
        there.map(|(thing, _)| thing.clone()).collect()
    }
}

impl Claim {
    fn allow(&mut self, entry: Option<Entry>) {
        if !self.may_be.contains(&entry) {
            self.may_be.push(entry);
        }
    }

    fn become_as(&mut self, entry: Option<Entry>, certain: bool) {
        if certain {
            self.may_be.clear();
        }
        self.allow(entry);
    }
}

/// As what something is registered, as the agent shows it.
fn found(view: &LocalView, thing: &Thing) -> Option<Entry> {
    match thing {
        Thing::Service(id) => {
            let def = view.service(id)?.def.clone();
            let checks = view.checks.iter().map(|(_, check)| check);
            let checks = checks.filter(|check| check.def.service_id == def.id);
            let checks = checks.map(|check| CheckSpec::clone(&check.spec)).collect();
            Some(Entry::Service(Box::new(ServiceSpec {
                def,
                token: Text::default(),
                checks,
            })))
        }
        Thing::Check(id) => {
            let spec = CheckSpec::clone(&view.check(id)?.spec);
            Some(Entry::Check(Box::new(spec)))
        }
        Thing::Maintenance => view.check(MAINTENANCE).map(|_| Entry::Maintenance),
    }
}

/// Whether two say the same; but where others may set the tags, these do not count.
fn same(one: Option<&Entry>, other: Option<&Entry>) -> bool {
    let (Some(Entry::Service(one)), Some(Entry::Service(other))) = (one, other) else {
        return one == other;
    };
    let mut one = one.clone();
    if one.def.enable_tag_override {
        one.def.tags = Tags::clone(&other.def.tags);
    }
    one == *other
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lictor_catalog::{Labels, ServiceDef};
    use lictor_local::LocalService;

    use super::*;

    fn service(port: u16) -> Entry {
        let def = ServiceDef {
            id: "web".into(),
            name: "web".into(),
            port,
            ..ServiceDef::default()
        };
        Entry::Service(Box::new(ServiceSpec {
            def,
            ..ServiceSpec::default()
        }))
    }

    fn view(entry: Option<Entry>) -> LocalView {
        let def = match entry {
            Some(Entry::Service(spec)) => Some(spec.def),
            Some(Entry::Check(_) | Entry::Maintenance) | None => None,
        };
        let services: Labels<Arc<LocalService>> = def
            .map(|def| (def.id.clone(), Arc::new(LocalService { def, hash: 0 })))
            .into_iter()
            .collect();
        LocalView {
            services,
            ..LocalView::default()
        }
    }

    fn agrees(roll: &Roll, entry: Option<Entry>) -> bool {
        roll.difference(&view(entry)).is_none()
    }

    #[test]
    fn until_it_is_answered_anything_is_possible_and_then_only_what_was_asked_for() {
        let mut roll = Roll::default();
        let web = Thing::Service("web".into());
        assert!(
            agrees(&roll, None) && !agrees(&roll, Some(service(1))),
            "nobody asked"
        );
        assert!(roll.ask(&web, Some(&service(1))));
        assert!(!roll.ask(&web, None), "one at a time");
        assert!(agrees(&roll, None) && agrees(&roll, Some(service(1))));
        assert!(!agrees(&roll, Some(service(2))));
        roll.done(&web, Some(service(1)), true);
        assert!(!agrees(&roll, None) && agrees(&roll, Some(service(1))));
    }

    #[test]
    fn what_a_full_disk_did_not_take_may_be_as_before_until_a_start_shows() {
        let mut roll = Roll::default();
        let web = Thing::Service("web".into());
        roll.ask(&web, Some(&service(1)));
        roll.done(&web, Some(service(1)), false);
        assert!(agrees(&roll, None) && agrees(&roll, Some(service(1))));
        roll.settle(&view(None));
        assert!(agrees(&roll, None) && !agrees(&roll, Some(service(1))));
    }

    #[test]
    fn a_lost_disk_takes_what_was_asked_for_but_not_what_files_say() {
        let mut roll = Roll::default();
        roll.ask(&Thing::Service("db".into()), Some(&service(1)));
        let Entry::Service(spec) = service(3) else {
            panic!("it is a service")
        };
        let files = Definitions {
            services: vec![*spec],
            checks: Vec::new(),
        };
        roll.files(&files, true);
        roll.disk_lost();
        assert!(agrees(&roll, Some(service(3))) && !agrees(&roll, None));
        roll.files(&Definitions::default(), false);
        assert!(agrees(&roll, Some(service(3))) && agrees(&roll, None));
        roll.files(&Definitions::default(), true);
        assert!(agrees(&roll, None) && !agrees(&roll, Some(service(3))));
    }
}
