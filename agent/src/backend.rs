//! The HTTP API's questions at a server: what it answers itself, and what it asks other data centers.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use lictor_catalog::{
    Action, Execute, Found, NodeCoordinate, Outcome, Query, Session, SessionId, Target, TxnError, TxnOp,
    TxnResult,
};
use lictor_http::{
    Archive, Backend, DatacenterCoordinates, Executed, Failure, RaftServer, ReadOptions, Reading, ServerRef,
    ServersHealth, UserEvent, WriteOptions,
};

use crate::coordinates::CoordinateUpdates;
use crate::failover;
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

    /// What a prepared query finds in other data centers, as nothing was found here.
    async fn execute_elsewhere(&self, here: Executed, execute: &Execute, options: &ReadOptions) -> Executed {
        let others = self.local.datacenters().into_iter();
        let others: Vec<String> = others.filter(|other| self.far(Some(other)).is_some()).collect();
        let query = Arc::new(failover::for_others(&here.execution.query));
        let ask = |datacenter: String| {
            let execute = Execute {
                target: Target::Ready(Arc::clone(&query)),
                // Distances mean nothing across data centers.
                near: String::new(),
                ..execute.clone()
            };
            let question = Question::ExecuteQuery {
                execute: Box::new(execute),
                options: options.clone(),
            };
            async move {
                let reading: Reading<Option<Executed>> = self.others.ask(Some(&datacenter), question).await?;
                Ok(reading.value)
            }
        };
        failover::elsewhere(here, &others, ask).await
    }
}

#[async_trait]
impl Backend for ServerBackend {
    async fn read(&self, query: Query, mut options: ReadOptions) -> Result<Reading<Found>, Failure> {
        let Some(far) = self.far(options.datacenter.as_deref()).map(str::to_owned) else {
            return self.server.read(&query, &options).await;
        };
        options.datacenter = None;
        let question = Question::Read { query, options };
        // Boxed: thousands may wait for changes here, and none of them needs room for what others ask elsewhere.
        Box::pin(self.others.ask(Some(&far), question)).await
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

    async fn execute_query(
        &self,
        execute: Execute,
        mut options: ReadOptions,
    ) -> Result<Reading<Option<Executed>>, Failure> {
        let wanted = options.datacenter.take();
        if let Some(far) = self.far(wanted.as_deref()) {
            let execute = Box::new(execute);
            let question = Question::ExecuteQuery { execute, options };
            return self.others.ask(Some(far), question).await;
        }
        let reading = self.server.execute_query(&execute, options.mode).await?;
        let here = |execution| Executed {
            datacenter: self.local.datacenter.clone(),
            failovers: 0,
            execution,
        };
        let executed = match reading.value.map(here) {
            // What comes from another data center goes no further.
            Some(here)
                if here.execution.instances.is_empty() && matches!(execute.target, Target::Named(_)) =>
            {
                Some(self.execute_elsewhere(here, &execute, &options).await)
            }
            other => other,
        };
        Ok(Reading {
            index: reading.index,
            known_leader: reading.known_leader,
            last_contact: reading.last_contact,
            value: executed,
        })
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
