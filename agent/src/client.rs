//! The HTTP API's questions at an agent in client mode: what it knows itself, and what it asks the servers.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use lictor_catalog::{
    Action, Execute, Found, NodeCoordinate, Outcome, Query, Session, SessionId, TxnError, TxnOp, TxnResult,
};
use lictor_http::{
    Archive, Backend, DatacenterCoordinates, Executed, Failure, RaftServer, ReadOptions, Reading, ServerRef,
    ServersHealth, UserEvent, WriteOptions,
};

use crate::rpc::caller::Caller;
use crate::rpc::wire::Question;
use crate::snapshot::passing;

/// Speaks for a client agent.
#[derive(Debug)]
pub(crate) struct ClientBackend {
    pub(crate) servers: Caller,
}

#[async_trait]
impl Backend for ClientBackend {
    async fn read(&self, query: Query, mut options: ReadOptions) -> Result<Reading<Found>, Failure> {
        let datacenter = options.datacenter.take();
        let question = Question::Read { query, options };
        self.servers.ask(datacenter.as_deref(), question).await
    }

    async fn read_txn(
        &self,
        ops: Vec<TxnOp>,
        mut options: ReadOptions,
    ) -> Result<Reading<Result<Vec<TxnResult>, Vec<TxnError>>>, Failure> {
        let datacenter = options.datacenter.take();
        let question = Question::ReadTxn { ops, options };
        self.servers.ask(datacenter.as_deref(), question).await
    }

    async fn write(&self, action: Action, mut options: WriteOptions) -> Result<Outcome, Failure> {
        let datacenter = options.datacenter.take();
        let question = Question::Write { action, options };
        self.servers.ask(datacenter.as_deref(), question).await
    }

    async fn renew_session(
        &self,
        session: SessionId,
        mut options: WriteOptions,
    ) -> Result<Option<Arc<Session>>, Failure> {
        let datacenter = options.datacenter.take();
        let question = Question::RenewSession { session, options };
        self.servers.ask(datacenter.as_deref(), question).await
    }

    async fn execute_query(
        &self,
        execute: Execute,
        mut options: ReadOptions,
    ) -> Result<Reading<Option<Executed>>, Failure> {
        let datacenter = options.datacenter.take();
        let execute = Box::new(execute);
        let question = Question::ExecuteQuery { execute, options };
        self.servers.ask(datacenter.as_deref(), question).await
    }

    async fn leader(&self, datacenter: Option<&str>) -> Result<Option<SocketAddr>, Failure> {
        self.servers.ask(datacenter, Question::Leader).await
    }

    async fn peers(&self, datacenter: Option<&str>) -> Result<Vec<SocketAddr>, Failure> {
        self.servers.ask(datacenter, Question::Peers).await
    }

    async fn fire_event(&self, event: UserEvent, mut options: WriteOptions) -> Result<(), Failure> {
        let datacenter = options.datacenter.take();
        let question = Question::FireEvent { event, options };
        self.servers.ask(datacenter.as_deref(), question).await
    }

    async fn snapshot(&self, mut options: ReadOptions) -> Result<Reading<Archive<'static>>, Failure> {
        let datacenter = options.datacenter.take();
        passing::save(&self.servers, datacenter.as_deref(), options).await
    }

    async fn restore(&self, archive: Archive<'_>, mut options: WriteOptions) -> Result<(), Failure> {
        let datacenter = options.datacenter.take();
        passing::restore(&self.servers, datacenter.as_deref(), archive, options).await
    }

    async fn datacenters(&self) -> Result<Vec<String>, Failure> {
        self.servers.ask(None, Question::Datacenters).await
    }

    async fn wan_coordinates(&self) -> Result<Vec<DatacenterCoordinates>, Failure> {
        self.servers.ask(None, Question::WanCoordinates).await
    }

    async fn update_coordinate(
        &self,
        update: NodeCoordinate,
        mut options: WriteOptions,
    ) -> Result<(), Failure> {
        let datacenter = options.datacenter.take();
        let question = Question::UpdateCoordinate { update, options };
        self.servers.ask(datacenter.as_deref(), question).await
    }

    async fn raft_servers(&self, mut options: ReadOptions) -> Result<Vec<RaftServer>, Failure> {
        let datacenter = options.datacenter.take();
        let question = Question::RaftServers { options };
        self.servers.ask(datacenter.as_deref(), question).await
    }

    async fn remove_raft_server(&self, server: ServerRef, mut options: WriteOptions) -> Result<(), Failure> {
        let datacenter = options.datacenter.take();
        let question = Question::RemoveRaftServer { server, options };
        self.servers.ask(datacenter.as_deref(), question).await
    }

    async fn servers_health(&self, mut options: ReadOptions) -> Result<ServersHealth, Failure> {
        let datacenter = options.datacenter.take();
        let question = Question::ServersHealth { options };
        self.servers.ask(datacenter.as_deref(), question).await
    }
}
