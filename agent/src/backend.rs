//! The HTTP API's questions at a server: what it answers itself, and what it asks other data centers.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use lictor_catalog::{
    Action, Found, NodeCoordinate, Outcome, Query, Session, SessionId, TxnError, TxnOp, TxnResult,
};
use lictor_http::{
    Archive, Backend, DatacenterCoordinates, Failure, RaftServer, ReadOptions, Reading, ServerRef,
    ServersHealth, UserEvent, WriteOptions,
};

use crate::coordinates::CoordinateUpdates;
use crate::local::Local;
use crate::rpc::caller::Caller;
use crate::rpc::wire::Question;
use crate::server::Server;
use crate::snapshot::passing;

/// Speaks for a server.
#[derive(Debug)]
pub(crate) struct ServerBackend {
    pub(crate) server: Server,
    pub(crate) local: Arc<Local>,
    /// The way to other data centers.
    pub(crate) others: Caller,
    pub(crate) coordinates: Arc<CoordinateUpdates>,
}

impl ServerBackend {
    /// The other data center that is meant, if one is.
    fn far<'a>(&self, wanted: Option<&'a str>) -> Option<&'a str> {
        wanted.filter(|wanted| !wanted.is_empty() && !wanted.eq_ignore_ascii_case(&self.local.datacenter))
    }
}

#[async_trait]
impl Backend for ServerBackend {
    async fn read(&self, query: Query, mut options: ReadOptions) -> Result<Reading<Found>, Failure> {
        let wanted = options.datacenter.take();
        match self.far(wanted.as_deref()) {
            Some(far) => {
                let question = Question::Read { query, options };
                // Boxed: thousands may wait for changes here, and none of them needs room for what others ask elsewhere.
                Box::pin(self.others.ask(Some(far), question)).await
            }
            None => self.server.read(query, options).await,
        }
    }

    async fn read_txn(
        &self,
        ops: Vec<TxnOp>,
        mut options: ReadOptions,
    ) -> Result<Reading<Result<Vec<TxnResult>, Vec<TxnError>>>, Failure> {
        let wanted = options.datacenter.take();
        match self.far(wanted.as_deref()) {
            Some(far) => {
                self.others
                    .ask(Some(far), Question::ReadTxn { ops, options })
                    .await
            }
            None => self.server.read_txn(ops, options).await,
        }
    }

    async fn write(&self, action: Action, mut options: WriteOptions) -> Result<Outcome, Failure> {
        let wanted = options.datacenter.take();
        match self.far(wanted.as_deref()) {
            Some(far) => {
                self.others
                    .ask(Some(far), Question::Write { action, options })
                    .await
            }
            None => self.server.write(action).await,
        }
    }

    async fn renew_session(
        &self,
        session: SessionId,
        mut options: WriteOptions,
    ) -> Result<Option<Arc<Session>>, Failure> {
        let wanted = options.datacenter.take();
        match self.far(wanted.as_deref()) {
            Some(far) => {
                let question = Question::RenewSession { session, options };
                self.others.ask(Some(far), question).await
            }
            None => self.server.renew_session(session).await,
        }
    }

    async fn leader(&self, datacenter: Option<&str>) -> Result<Option<SocketAddr>, Failure> {
        match self.far(datacenter) {
            Some(far) => self.others.ask(Some(far), Question::Leader).await,
            None => Ok(self.server.leader()),
        }
    }

    async fn peers(&self, datacenter: Option<&str>) -> Result<Vec<SocketAddr>, Failure> {
        match self.far(datacenter) {
            Some(far) => self.others.ask(Some(far), Question::Peers).await,
            None => Ok(self.server.peers()),
        }
    }

    async fn fire_event(&self, event: UserEvent, mut options: WriteOptions) -> Result<(), Failure> {
        let wanted = options.datacenter.take();
        match self.far(wanted.as_deref()) {
            Some(far) => {
                self.others
                    .ask(Some(far), Question::FireEvent { event, options })
                    .await
            }
            None => self.local.fire_event(&event).await,
        }
    }

    async fn snapshot(&self, mut options: ReadOptions) -> Result<Reading<Archive<'static>>, Failure> {
        let wanted = options.datacenter.take();
        match self.far(wanted.as_deref()) {
            Some(far) => passing::save(&self.others, Some(far), options).await,
            None => self.server.snapshot(options.mode).await,
        }
    }

    async fn restore(&self, archive: Archive<'_>, mut options: WriteOptions) -> Result<(), Failure> {
        let wanted = options.datacenter.take();
        match self.far(wanted.as_deref()) {
            Some(far) => passing::restore(&self.others, Some(far), archive, options).await,
            None => self.server.restore(archive).await,
        }
    }

    async fn datacenters(&self) -> Result<Vec<String>, Failure> {
        Ok(self.local.datacenters())
    }

    async fn wan_coordinates(&self) -> Result<Vec<DatacenterCoordinates>, Failure> {
        Ok(self.local.wan_coordinates())
    }

    async fn update_coordinate(
        &self,
        update: NodeCoordinate,
        mut options: WriteOptions,
    ) -> Result<(), Failure> {
        let wanted = options.datacenter.take();
        if let Some(far) = self.far(wanted.as_deref()) {
            let question = Question::UpdateCoordinate { update, options };
            return self.others.ask(Some(far), question).await;
        }
        if self.local.knows(&update.node) {
            self.coordinates.add(update);
        }
        Ok(())
    }

    async fn raft_servers(&self, mut options: ReadOptions) -> Result<Vec<RaftServer>, Failure> {
        let wanted = options.datacenter.take();
        match self.far(wanted.as_deref()) {
            Some(far) => {
                self.others
                    .ask(Some(far), Question::RaftServers { options })
                    .await
            }
            None => self.server.raft_servers(options.mode).await,
        }
    }

    async fn remove_raft_server(&self, server: ServerRef, mut options: WriteOptions) -> Result<(), Failure> {
        let wanted = options.datacenter.take();
        match self.far(wanted.as_deref()) {
            Some(far) => {
                let question = Question::RemoveRaftServer { server, options };
                self.others.ask(Some(far), question).await
            }
            None => self.server.remove_raft_server(server).await,
        }
    }

    async fn servers_health(&self, mut options: ReadOptions) -> Result<ServersHealth, Failure> {
        let wanted = options.datacenter.take();
        match self.far(wanted.as_deref()) {
            Some(far) => {
                self.others
                    .ask(Some(far), Question::ServersHealth { options })
                    .await
            }
            None => self.server.servers_health().await,
        }
    }
}
