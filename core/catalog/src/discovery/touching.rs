//! Who hears of a change: indexes that move, rows that are written, and watchers that wake.

use std::sync::Arc;

use super::defs::Text;
use super::groups::{Facet, Kind, Regrouped};
use super::marks;
use super::records::{CheckRecord, ServiceRecord};
use super::store::{Discovery, place};
use crate::command::Key;
use crate::coordinate::folded;
use crate::edit::{Edit, Touch};
use crate::row::Table;

impl Discovery {
    /// Notes that a check has changed, and everything that depends on it. Its instance must still be there.
    pub(super) fn touch_check(&mut self, edit: &mut Edit, at: &Key, check: &CheckRecord) {
        self.indexes.checks = edit.index;
        self.indexes.statuses[check.def.status as usize] = edit.index;
        edit.changed(Table::Checks, place(at, &check.def.id));
        edit.touch(Touch::Status(check.def.status));
        edit.touch(Touch::NodeChecks(at.clone()));
        if let Some(host) = self.host_mut(at) {
            host.indexes.checks = edit.index;
            edit.changed(Table::Marks, marks::of_host(at));
        }
        if check.def.service_id.is_empty() {
            self.touch_all_on(edit, at, Facet::NodeChecks);
            return;
        }
        let host = self.hosts.get(at);
        let connect = host
            .and_then(|host| host.service(&check.def.service_id))
            .and_then(|service| service.def.connect_name().cloned());
        self.touch_group(edit, Kind::Service, &check.service_name, Facet::Checks);
        if let Some(name) = connect {
            self.touch_group(edit, Kind::Connect, &name, Facet::Checks);
        }
    }

    /// Notes that an instance on a node has changed.
    pub(super) fn touch_services_of(&mut self, edit: &mut Edit, at: &Key, id: &str) {
        self.indexes.services = edit.index;
        edit.changed(Table::Services, place(at, id));
        edit.changed(Table::Marks, marks::of_host(at));
        edit.touch(Touch::NodeServices(at.clone()));
        if let Some(host) = self.host_mut(at) {
            host.indexes.services = edit.index;
        }
    }

    /// Notes a change for every service on a node.
    pub(super) fn touch_all_on(&mut self, edit: &mut Edit, at: &Key, facet: Facet) {
        let Some(host) = self.hosts.get(at).cloned() else {
            return;
        };
        for service in &host.services {
            for kind in Kind::ALL {
                if let Some(name) = kind.name(&service.def) {
                    self.touch_group(edit, kind, name, facet);
                }
            }
        }
    }

    /// Notes a change for one service, if there is one of this name.
    fn touch_group(&mut self, edit: &mut Edit, kind: Kind, name: &Text, facet: Facet) {
        let key = Key::from(folded(name));
        let index = edit.index;
        let Some(group) = self.groups_mut(kind).by_name.get_mut(&key) else {
            return;
        };
        Arc::make_mut(group).indexes.bump(facet, index);
        edit.changed(Table::Marks, marks::of_group(kind, &key));
        touch_group(edit, kind, key, facet);
    }

    /// Moves an instance on the node `at` from where it was found to where it is found now.
    pub(super) fn regroup(
        &mut self,
        edit: &mut Edit,
        at: &Key,
        old: Option<&ServiceRecord>,
        new: Option<&Arc<ServiceRecord>>,
    ) {
        let index = edit.index;
        for kind in Kind::ALL {
            let key = |name: &Text| Key::from(folded(name));
            let was = old.and_then(|old| Some((key(kind.name(&old.def)?), old)));
            let is = new.and_then(|new| {
                let name = kind.name(&new.def)?;
                Some((key(name), name, new))
            });
            let stays = was
                .as_ref()
                .filter(|(was, _)| is.as_ref().is_some_and(|(is, ..)| is == was))
                .map(|(_, old)| *old);
            if let Some((key, name, new)) = is {
                let regrouped = self.groups_mut(kind).join(name, &key, at, new, stays, index);
                self.regrouped(edit, kind, &key, regrouped);
            }
            if let Some((key, old)) = was.filter(|_| stays.is_none()) {
                let regrouped = self.groups_mut(kind).leave(&key, at, old);
                self.regrouped(edit, kind, &key, regrouped);
            }
        }
    }

    /// Notes that an instance came to a group, changed in it, or left it.
    fn regrouped(&mut self, edit: &mut Edit, kind: Kind, key: &Key, regrouped: Regrouped) {
        if regrouped.vanished {
            self.indexes.vanished = edit.index;
            if kind == Kind::Service {
                edit.touch(Touch::ServiceChecks(key.clone()));
            }
        }
        if regrouped.listing && kind == Kind::Service {
            self.indexes.names = edit.index;
            edit.touch(Touch::ServiceNames);
        }
        if let Some(group) = self.groups_mut(kind).by_name.get_mut(key) {
            Arc::make_mut(group).indexes.bump(Facet::Instances, edit.index);
        }
        edit.changed(Table::Marks, marks::of_group(kind, key));
        touch_group(edit, kind, key.clone(), Facet::Instances);
    }
}

fn touch_group(edit: &mut Edit, kind: Kind, service: Key, facet: Facet) {
    let connect = kind == Kind::Connect;
    match facet {
        Facet::Instances => edit.touch(Touch::Instances {
            service: service.clone(),
            connect,
        }),
        Facet::Checks if !connect => edit.touch(Touch::ServiceChecks(service.clone())),
        Facet::Checks | Facet::NodeChecks => {}
    }
    edit.touch(Touch::Health { service, connect });
}
