//! Prepared queries: questions for instances of a service that are kept under a name, so that clients need to know no more than that,
//! and operators can say in one place what is meant by it.

mod def;
mod execute;
mod expression;
mod id;
mod rows;
mod table;
mod template;

pub use def::{
    Failover, MAX_PATTERN_BYTES, MAX_PREPARED_LIST, Prepared, PreparedDef, PreparedService, PreparedToken,
    TemplateDef,
};
pub use execute::{Execute, Execution, Target};
pub use id::{MalformedPreparedId, PreparedId};
pub(crate) use rows::PreparedParts;
pub(crate) use table::PreparedQueries;
pub use table::{MAX_PATTERNS, MAX_PREPARED_BYTES, MAX_PREPARED_QUERIES};
pub use template::{MAX_PATTERN_GROUPS, MAX_RENDERED_BYTES, TemplateError};
