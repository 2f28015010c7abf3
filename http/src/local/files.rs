//! Services and checks that an agent's files define, in the spelling of the API.

use std::sync::Arc;

use lictor_local::{CheckSpec, LocalService, LocalView, ServiceSpec};
use serde_json::{Map, Value};

use super::check::Written as WrittenCheck;
use super::definition::Written;
use super::{mesh_rules, sidecar};
use crate::decode::Fields;

/// What makes a definition wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// It has no name.
    #[error("Missing name")]
    Unnamed,
    /// The metadata of a service.
    #[error("Invalid Service Meta: {0}")]
    Meta(String),
    /// The weights of a service.
    #[error("Invalid Weights: {0}")]
    Weights(&'static str),
    /// What a service is in the mesh. Lists everything that is wrong with that.
    #[error("{0}")]
    Mesh(String),
    /// The check itself, or one of a service.
    #[error("Invalid check: {0}")]
    Check(&'static str),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

/// Reads a service as it would be registered; the proxy that is to run beside it follows, if it wants one. `others`: what files define
/// beside it, whose ports that proxy does not get.
pub fn define_service(
    definition: Map<String, Value>,
    others: &[ServiceSpec],
) -> Result<Vec<ServiceSpec>, DefinitionError> {
    let other = DefinitionError::Other;
    let place = "value of type structs.ServiceDefinition";
    let fields = Fields::new(Value::Object(definition), "", place).map_err(other)?;
    let mut service = Written::new(fields).map_err(other)?;
    if service.name.is_empty() {
        return Err(DefinitionError::Unnamed);
    }
    service.check_meta().map_err(DefinitionError::Meta)?;
    service.usable_weights().map_err(DefinitionError::Weights)?;
    mesh_rules::check(&service).map_err(|wrong| DefinitionError::Mesh(wrong.trim_end().to_owned()))?;
    service.check().map_err(other)?;
    service.check_checks().map_err(DefinitionError::Check)?;
    let sidecar = match service.sidecar.take() {
        Some(sidecar) => {
            let sidecar = sidecar::complete(&service, *sidecar, &view(others)).map_err(other)?;
            Some(sidecar)
        }
        None => None,
    };
    let written = [Some(service), sidecar].into_iter().flatten();
    written
        .map(|service| service.into_spec().map_err(DefinitionError::Other))
        .collect()
}

/// Reads a check as it would be registered by itself. Without a name it is called as its id says.
pub fn define_check(definition: Map<String, Value>) -> Result<CheckSpec, DefinitionError> {
    let other = DefinitionError::Other;
    let place = "value of type structs.CheckDefinition";
    let fields = Fields::new(Value::Object(definition), "", place).map_err(other)?;
    let check = WrittenCheck::alone(fields).map_err(other)?;
    check.check().map_err(DefinitionError::Check)?;
    let status = check
        .first_status()
        .map_err(|_| DefinitionError::Check("Status for checks must 'passing', 'warning', 'critical'"))?;
    let mut spec = check.into_spec(status);
    if spec.name.is_empty() {
        spec.name = Arc::clone(&spec.id);
    }
    if spec.name.is_empty() {
        return Err(DefinitionError::Unnamed);
    }
    spec.check().map_err(other)?;
    Ok(spec)
}

/// What would run if nothing but `services` did.
fn view(services: &[ServiceSpec]) -> LocalView {
    let services = services.iter().map(|spec| {
        let def = &spec.def;
        let id = if def.id.is_empty() { &def.name } else { &def.id };
        let shown = LocalService {
            def: def.clone(),
            hash: 0,
        };
        (id.to_lowercase(), Arc::new(shown))
    });
    LocalView {
        services: services.collect(),
        ..LocalView::default()
    }
}
