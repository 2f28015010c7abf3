//! `/v1/acl/` and `/v1/agent/token/`: there are no access control lists.

use trillium::Status;

use crate::reply::Fault;

/// Says so, in the words by which clients know.
pub(crate) fn disabled() -> Fault {
    Fault::new(Status::Unauthorized, "ACL support disabled")
}
