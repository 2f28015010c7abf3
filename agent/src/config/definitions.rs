//! Services and checks that files define: from the settings to what is to run on this agent.

use std::collections::BTreeSet;

use lictor_http::{DefinitionError, define_check, define_service};
use lictor_local::Definitions;

use super::error::{ConfigError, Warning};
use super::parsing::Parsing;
use super::settings::Definition;

/// What is said of a check that runs a program although none may.
const NO_SCRIPTS: &str = "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true";

/// The durations of a check, as the API spells them and as files do.
const DURATIONS: [(&str, &str); 4] = [
    ("Interval", "interval"),
    ("Timeout", "timeout"),
    ("TTL", "ttl"),
    (
        "DeregisterCriticalServiceAfter",
        "deregister_critical_service_after",
    ),
];

/// Reads what has to be parsed, and notes what is wrong with it.
pub(super) fn parse(parsed: &mut Parsing, services: &[Definition], checks: &[Definition]) {
    let of_service = |service: &Definition| checks_of(service).cloned().collect::<Vec<_>>();
    for service in services {
        let sidecar = service
            .get("Connect")
            .and_then(|connect| connect.get("SidecarService"));
        let sidecar = sidecar.and_then(serde_json::Value::as_object);
        for check in [Some(service), sidecar]
            .into_iter()
            .flatten()
            .flat_map(of_service)
        {
            durations(parsed, &check);
        }
    }
    for check in checks {
        durations(parsed, check);
    }
}

/// The same for services that are not for this agent.
pub(super) fn see_values(services: &[Definition]) -> Result<(), ConfigError> {
    let mut parsed = Parsing::default();
    parse(&mut parsed, services, &[]);
    if parsed.problems.is_empty() {
        Ok(())
    } else {
        Err(ConfigError::Values(parsed.problems))
    }
}

/// Builds what they define. Only after [`parse`] found nothing wrong. `scripts`: whether checks of files may run programs.
pub(super) fn build(
    services: Vec<Definition>,
    checks: Vec<Definition>,
    scripts: bool,
    warnings: &mut Vec<Warning>,
) -> Result<Definitions, ConfigError> {
    let mut problems = Vec::new();
    let mut in_mesh = 0;
    let mut definitions = Definitions::default();
    for service in services {
        let name = name_of(&service);
        match define_service(service, &definitions.services) {
            Ok(specs) => {
                for spec in specs {
                    if !scripts && spec.checks.iter().any(|check| check.method.runs_program()) {
                        problems.push(format!("Failed to register service {name:?}: {NO_SCRIPTS}"));
                    }
                    definitions.services.push(spec);
                }
            }
            Err(error) => {
                in_mesh += usize::from(matches!(error, DefinitionError::Mesh(_)));
                problems.push(of_service(&name, error));
            }
        }
    }
    for check in checks {
        let name = name_of(&check);
        match define_check(check) {
            Ok(spec) if !scripts && spec.method.runs_program() => {
                problems.push(format!("Failed to register check '{name}': {NO_SCRIPTS}"));
            }
            Ok(spec) => definitions.checks.push(spec),
            Err(error) => problems.push(of_check(&name, error)),
        }
    }
    match problems.len() {
        0 => {}
        // This one is a list already.
        1 if in_mesh == 1 => return Err(ConfigError::Invalid(problems.remove(0))),
        _ => return Err(ConfigError::Values(problems)),
    }
    keep_last(&mut definitions, warnings);
    warn(&definitions, warnings);
    Ok(definitions)
}

fn checks_of(service: &Definition) -> impl Iterator<Item = &Definition> {
    let checks = service.get("Checks").and_then(serde_json::Value::as_array);
    checks
        .into_iter()
        .flatten()
        .filter_map(serde_json::Value::as_object)
}

fn durations(parsed: &mut Parsing, check: &Definition) {
    for (spelled, key) in DURATIONS {
        let text = check.get(spelled).and_then(serde_json::Value::as_str);
        // An empty one is none.
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            parsed.duration(&format!("check[].{key}"), Some(text), std::time::Duration::ZERO);
        }
    }
}

/// What messages call a definition.
fn name_of(definition: &Definition) -> String {
    let text = |key| definition.get(key).and_then(serde_json::Value::as_str);
    let name = text("Name").filter(|name| !name.is_empty());
    name.or_else(|| text("ID")).unwrap_or_default().to_owned()
}

fn of_service(name: &str, error: DefinitionError) -> String {
    match error {
        DefinitionError::Unnamed => "Failed to register service \"\": Service name missing".to_owned(),
        DefinitionError::Meta(why) => format!("invalid meta for service {name}: {why}"),
        DefinitionError::Weights(why) => format!("Invalid weight definition for service {name}: {why}"),
        DefinitionError::Mesh(problems) => format!("service {name:?}: {problems}"),
        DefinitionError::Check(why) => format!("Failed to validate checks for service {name:?}: {why}"),
        DefinitionError::Other(why) => format!("Failed to register service {name:?}: {why}"),
    }
}

fn of_check(name: &str, error: DefinitionError) -> String {
    match error {
        DefinitionError::Unnamed => "Failed to register check '': CheckID missing".to_owned(),
        DefinitionError::Check(why) => {
            format!("Failed to register check '{name}': Check is not valid: {why}")
        }
        DefinitionError::Meta(why) | DefinitionError::Mesh(why) | DefinitionError::Other(why) => {
            format!("Failed to register check '{name}': {why}")
        }
        DefinitionError::Weights(why) => format!("Failed to register check '{name}': {why}"),
    }
}

/// Of several definitions of one service the last counts.
fn keep_last(definitions: &mut Definitions, warnings: &mut Vec<Warning>) {
    let mut seen = BTreeSet::new();
    let services = std::mem::take(&mut definitions.services);
    for service in services.into_iter().rev() {
        let def = &service.def;
        let id = if def.id.is_empty() { &def.name } else { &def.id };
        if seen.insert(id.to_ascii_lowercase()) {
            definitions.services.push(service);
        } else {
            warnings.push(Warning(format!(
                "Service {id:?} is defined more than once; the last definition counts"
            )));
        }
    }
    definitions.services.reverse();
}

/// Says what is allowed and unlikely to be meant.
fn warn(definitions: &Definitions, warnings: &mut Vec<Warning>) {
    for service in &definitions.services {
        let def = &service.def;
        if !def
            .name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            warnings.push(Warning(format!(
                "Service name {:?} will not be discoverable via DNS due to invalid characters. Valid characters include all alpha-numerics and dashes.",
                &*def.name
            )));
        }
    }
}
