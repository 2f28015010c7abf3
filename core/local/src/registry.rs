//! Registrations come and go.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use lictor_catalog::{Labels, ServiceAddress, ServiceDef, Text};

use super::health::Streak;
use super::io::{Definitions, Error, Event, LocalService};
use super::spec::{CheckMethod, CheckSpec, MIN_DEREGISTER_AFTER, MIN_INTERVAL, ServiceSpec};
use super::{Check, Due, Local, Origin, Service, folded, shown};

/// The check that keeps a node in maintenance mode.
const NODE_MAINTENANCE: &str = "_node_maintenance";

/// Begins the ids of checks that keep a service in maintenance mode.
const SERVICE_MAINTENANCE: &str = "_service_maintenance:";

/// A service whose names are complete, ready to be taken over.
pub(super) struct Ready {
    id: Text,
    def: ServiceDef,
    token: Text,
    checks: Vec<CheckSpec>,
}

impl Local {
    pub(super) fn register_service(&mut self, spec: ServiceSpec, replace_checks: bool) -> Result<(), Error> {
        let ready = Ready::new(spec).map_err(Error::Invalid)?;
        self.see_room(std::slice::from_ref(&ready), &[])?;
        let named: BTreeSet<Text> = ready.checks.iter().map(|check| folded(&check.id)).collect();
        let id = ready.id.clone();
        self.insert_service(ready, Origin::Request);
        if replace_checks {
            let others = self.checks_of.get(&id).into_iter().flatten();
            let others: Vec<Text> = others
                .filter(|check| !named.contains(*check) && !self.is_maintenance(check))
                .cloned()
                .collect();
            for check in others {
                self.remove_check(&check);
            }
        }
        Ok(())
    }

    pub(super) fn register_check(&mut self, mut spec: CheckSpec) -> Result<(), Error> {
        spec.check().map_err(Error::Invalid)?;
        if spec.id.is_empty() {
            spec.id = spec.name.clone();
        }
        if !spec.service_id.is_empty() && !self.services.contains_key(&folded(&spec.service_id)) {
            return Err(Error::NoServiceOfCheck(spec.service_id.to_string()));
        }
        self.see_room(&[], std::slice::from_ref(&spec))?;
        self.insert_check(spec, Origin::Request);
        Ok(())
    }

    pub(super) fn deregister_service(&mut self, id: &Text) {
        let checks: Vec<Text> = self.checks_of.get(id).into_iter().flatten().cloned().collect();
        if self.services.remove(id).is_none() {
            return;
        }
        for check in checks {
            self.remove_check(&check);
            // It goes with its service.
            self.sync.checks.remove(&check);
        }
        self.touched.insert(id.clone());
        self.stale = true;
        self.sync.services.insert(id.clone());
        self.forget_service(id);
    }

    pub(super) fn remove_check(&mut self, id: &Text) {
        let Some(check) = self.checks.get(id) else { return };
        let service = check.service();
        self.stop_probe(id);
        for due in [Due::Probe, Due::Told, Due::Reap, Due::Output] {
            self.set_due(id, due, None);
        }
        self.checks.remove(id);
        self.aliases.remove(id);
        if let Some(checks) = self.checks_of.get_mut(&service) {
            checks.remove(id);
            if checks.is_empty() {
                self.checks_of.remove(&service);
            }
        }
        self.touched.insert(service);
        self.stale = true;
        self.sync.checks.insert(id.clone());
        self.forget_check(id);
    }

    pub(super) fn maintain(
        &mut self,
        service: Option<&Text>,
        enable: bool,
        reason: Text,
    ) -> Result<(), Error> {
        let (id, name, what) = match service {
            Some(service) => {
                let known = self.services.get(&folded(service));
                let known = known.ok_or_else(|| Error::UnknownService(service.to_string()))?;
                let id = format!("{SERVICE_MAINTENANCE}{}", known.shown.def.id);
                (id, "Service Maintenance Mode", "service")
            }
            None => (NODE_MAINTENANCE.to_owned(), "Node Maintenance Mode", "node"),
        };
        let there = self.checks.contains_key(&folded(&id));
        if !enable {
            self.remove_check(&folded(&id));
        } else if !there {
            let default = || {
                let text = format!(
                    "Maintenance mode is enabled for this {what}, but no reason was provided. This is a default message."
                );
                text.into()
            };
            let spec = CheckSpec {
                id: id.into(),
                name: name.into(),
                notes: if reason.is_empty() { default() } else { reason },
                service_id: service.cloned().unwrap_or_default(),
                method: CheckMethod::Maintenance,
                ..CheckSpec::default()
            };
            self.insert_check(spec, Origin::Request);
        }
        Ok(())
    }

    /// What the files say now replaces what they said before. On error nothing is changed.
    pub(super) fn set_definitions(&mut self, definitions: Definitions) -> Result<(), Error> {
        let (services, checks) = self.see_definitions(definitions)?;
        let own_checks = services.iter().flat_map(|ready| &ready.checks);
        let check_ids: BTreeSet<Text> = own_checks.chain(&checks).map(|spec| folded(&spec.id)).collect();
        let service_ids: BTreeSet<Text> = services.iter().map(|ready| ready.id.clone()).collect();
        let gone = self
            .services
            .iter()
            .filter(|(id, service)| service.origin == Origin::Files && !service_ids.contains(*id));
        let gone: Vec<Text> = gone.map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.deregister_service(&id);
        }
        for ready in services {
            self.insert_service(ready, Origin::Files);
        }
        for spec in checks {
            self.insert_check(spec, Origin::Files);
        }
        let gone = self
            .checks
            .iter()
            .filter(|(id, check)| check.origin == Origin::Files && !check_ids.contains(*id));
        let gone: Vec<Text> = gone.map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.remove_check(&id);
        }
        Ok(())
    }

    /// Takes over a service that was restored from the disk, unless there is one of its id.
    pub(super) fn restore_service(&mut self, spec: ServiceSpec) {
        let id = spec.def.id.clone();
        if self.services.contains_key(&folded(&id)) {
            self.forget_service(&folded(&id));
            return;
        }
        match Ready::new(spec) {
            Ok(ready) => self.insert_service(ready, Origin::Request),
            Err(what) => self.event(Event::Trouble(format!(
                "the service {id:?} in the data directory is left out: {what}"
            ))),
        }
    }

    /// Takes over a check that was restored from the disk, unless there is one of its id or its service is gone.
    pub(super) fn restore_check(&mut self, spec: CheckSpec) {
        let id = folded(&spec.id);
        let orphan = !spec.service_id.is_empty() && !self.services.contains_key(&folded(&spec.service_id));
        if self.checks.contains_key(&id) || orphan {
            self.forget_check(&id);
        } else {
            self.insert_check(spec, Origin::Request);
        }
    }

    pub(super) fn insert_service(&mut self, ready: Ready, origin: Origin) {
        let Ready {
            id,
            def,
            token,
            checks,
        } = ready;
        let service = Arc::new(LocalService::new(def));
        let before = self.services.insert(
            id.clone(),
            Service {
                shown: service.clone(),
                token,
                origin,
            },
        );
        if before.is_none_or(|before| before.shown != service) {
            self.sync.services.insert(id.clone());
            self.touched.insert(id.clone());
            self.stale = true;
        }
        self.name_checks(&id);
        match origin {
            Origin::Request => self.keep_service(&id),
            Origin::Files => self.forget_service(&id),
        }
        for check in checks {
            self.insert_check(check, origin);
        }
    }

    /// Says in the checks of a service what it is called now.
    pub(super) fn name_checks(&mut self, service: &Text) {
        let Some(Service { shown: service, .. }) = self.services.get(service) else {
            return;
        };
        for check in self.checks_of.get(&folded(&service.def.id)).into_iter().flatten() {
            if let Some(check) = self.checks.get_mut(check)
                && (check.shown.service_name != service.def.name
                    || check.shown.service_tags != service.def.tags)
            {
                let shown = Arc::make_mut(&mut check.shown);
                shown.service_name.clone_from(&service.def.name);
                shown.service_tags.clone_from(&service.def.tags);
            }
        }
    }

    /// Adds a check, or replaces the one of its id, whose status it takes over.
    pub(super) fn insert_check(&mut self, mut spec: CheckSpec, origin: Origin) {
        self.raise_durations(&mut spec);
        let id = folded(&spec.id);
        let service = self.services.get(&folded(&spec.service_id));
        let mut new = shown(spec, service.map(|service| &service.shown.def));
        let mut streak = Streak::fresh();
        let mut has_result = false;
        let mut same_method = false;
        let known = self.recall(&id, &new.spec.method);
        if let Some(before) = self.checks.get(&id) {
            new.def.status = before.shown.def.status;
            new.def.output.clone_from(&before.shown.def.output);
            same_method = before.shown.spec.method == new.spec.method;
            if same_method {
                streak = before.streak;
                has_result = before.has_result;
            }
            let moved_from = before.service();
            if moved_from != folded(&new.def.service_id) {
                if let Some(checks) = self.checks_of.get_mut(&moved_from) {
                    checks.remove(&id);
                }
                self.touched.insert(moved_from);
            }
        } else if let Some(known) = known {
            new.def.status = known.status;
            new.def.output = known.output;
            // A single failure after a restart is as little as one before.
            streak = Streak::default();
            has_result = true;
        }
        let service = folded(&new.def.service_id);
        self.checks_of
            .entry(service.clone())
            .or_default()
            .insert(id.clone());
        if matches!(new.spec.method, CheckMethod::Alias { .. }) {
            self.aliases.insert(id.clone());
        } else {
            self.aliases.remove(&id);
        }
        if !same_method {
            self.stop_probe(&id);
        }
        let new = Arc::new(new);
        let known = streak != Streak::fresh();
        if let Some(before) = self.checks.get_mut(&id) {
            let changed = before.shown.def != new.def;
            before.shown = new;
            before.origin = origin;
            before.streak = streak;
            before.has_result = has_result;
            if changed {
                self.sync.checks.insert(id.clone());
            }
        } else {
            let check = Check {
                shown: new,
                origin,
                streak,
                has_result,
                run: None,
                due: [None; Due::COUNT],
            };
            self.checks.insert(id.clone(), check);
            self.sync.checks.insert(id.clone());
        }
        // An alias is looked at when what it is about is touched.
        self.touched.insert(service);
        self.touched.extend(self.alias_target(&id));
        self.stale = true;
        self.begin_checking(&id, same_method, known);
        match origin {
            Origin::Request => self.keep_check(&id),
            Origin::Files => self.forget_registration(&id),
        }
    }

    fn raise_durations(&mut self, spec: &mut CheckSpec) {
        let mut raise = |duration: &mut core::time::Duration, to| {
            if !duration.is_zero() && *duration < to {
                *duration = to;
                let check = spec.id.clone();
                self.out
                    .push_back(super::Effect::Event(Event::Raised { check, to }));
            }
        };
        raise(&mut spec.deregister_after, MIN_DEREGISTER_AFTER);
        if let CheckMethod::Probe { interval, .. } = &mut spec.method {
            raise(interval, MIN_INTERVAL);
        }
    }

    fn is_maintenance(&self, id: &Text) -> bool {
        let check = self.checks.get(id);
        check.is_some_and(|check| check.shown.spec.method == CheckMethod::Maintenance)
    }

    /// Whether there is room for all of these.
    fn see_room(&self, services: &[Ready], checks: &[CheckSpec]) -> Result<(), Error> {
        let full = |what: &str, limit: usize| Error::Full {
            what: what.to_owned(),
            limit: limit as u64,
        };
        let new = services
            .iter()
            .filter(|ready| !self.services.contains_key(&ready.id));
        if self.services.len() + new.count() > self.config.services_max {
            return Err(full("services", self.config.services_max));
        }
        let all = services.iter().flat_map(|ready| &ready.checks).chain(checks);
        let new = all.filter(|spec| !self.checks.contains_key(&folded(&spec.id)));
        if self.checks.len() + new.count() > self.config.checks_max {
            return Err(full("checks", self.config.checks_max));
        }
        Ok(())
    }

    /// Whether what the files say makes sense.
    fn see_definitions(&self, definitions: Definitions) -> Result<(Vec<Ready>, Vec<CheckSpec>), Error> {
        let Definitions {
            services: specs,
            checks: mut loose,
        } = definitions;
        let mut services: Vec<Ready> = Vec::with_capacity(specs.len());
        let mut ids = BTreeSet::new();
        for spec in specs {
            let name = spec.def.name.clone();
            let ready = Ready::new(spec)
                .map_err(|what| Error::Invalid(format!("Failed to register service {name:?}: {what}")))?;
            if !ids.insert(ready.id.clone()) {
                let id = &ready.def.id;
                return Err(Error::Invalid(format!(
                    "Failed to register service {name:?}: another one has the ID {id:?}"
                )));
            }
            services.push(ready);
        }
        for spec in &mut loose {
            spec.check().map_err(|what| {
                Error::Invalid(format!("Failed to register check {:?}: {what}", &*spec.name))
            })?;
            if spec.id.is_empty() {
                spec.id = spec.name.clone();
            }
            let service = folded(&spec.service_id);
            let requested = |service: &Text| {
                let there = self.services.get(service);
                there.is_some_and(|there| there.origin == Origin::Request)
            };
            if !service.is_empty() && !ids.contains(&service) && !requested(&service) {
                return Err(Error::NoServiceOfCheck(spec.service_id.to_string()));
            }
        }
        let mut check_ids = BTreeSet::new();
        let of_services = services.iter().flat_map(|ready| &ready.checks);
        if let Some(twice) = of_services
            .chain(&loose)
            .find(|spec| !check_ids.insert(folded(&spec.id)))
        {
            let id = &twice.id;
            return Err(Error::Invalid(format!(
                "Failed to register check: two have the ID {id:?}"
            )));
        }
        self.see_room(&services, &loose)?;
        Ok((services, loose))
    }
}

impl Ready {
    /// Gives names to what has none; `Err`: what is wrong with it.
    fn new(spec: ServiceSpec) -> Result<Self, String> {
        spec.check()?;
        let ServiceSpec {
            mut def,
            token,
            mut checks,
        } = spec;
        if def.id.is_empty() {
            def.id = def.name.clone();
        }
        def.tagged_addresses = with_address_families(&def);
        let several = checks.len() > 1;
        let mut ids = BTreeSet::new();
        for (number, check) in (1..).zip(&mut checks) {
            if check.id.is_empty() {
                let id = if several {
                    format!("service:{}:{number}", def.id)
                } else {
                    format!("service:{}", def.id)
                };
                check.id = id.into();
            }
            if check.name.is_empty() {
                check.name = format!("Service '{}' check", def.name).into();
            }
            check.service_id = def.id.clone();
            check.token.clone_from(&token);
            if !ids.insert(folded(&check.id)) {
                return Err(format!("Invalid check: two checks have the ID {:?}", &*check.id));
            }
        }
        Ok(Self {
            id: folded(&def.id),
            def,
            token,
            checks,
        })
    }
}

/// A service at an address of one family is told to be so, for those who ask for that family.
fn with_address_families(def: &ServiceDef) -> Labels<ServiceAddress> {
    let names = match def.address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => ["lan_ipv4", "wan_ipv4"],
        Ok(IpAddr::V6(_)) => ["lan_ipv6", "wan_ipv6"],
        Err(_) => return def.tagged_addresses.clone(),
    };
    let here = ServiceAddress {
        address: def.address.clone(),
        port: def.port,
    };
    let given = def.tagged_addresses.iter();
    let given = given.map(|(name, address)| (name.clone(), address.clone()));
    let new = names.into_iter().map(|name| (Text::from(name), here.clone()));
    // Of two of the same name the last counts.
    new.chain(given).collect()
}
