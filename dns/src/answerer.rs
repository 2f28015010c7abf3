//! Answering without sockets.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use futures_lite::future::block_on;
use lictor_metrics::Registry;
use lictor_runtime::Runtime;

use crate::config::Config;
use crate::message::Desk;
use crate::meters::Meters;
use crate::service::{AtOnce, Service, Transport};
use crate::source::Source;

/// Answers queries one by one, as bytes: for measurements, fuzzing, and whoever brings sockets of their own. [`crate::Server`] does the same
/// on sockets.
#[derive(Debug)]
pub struct Answerer {
    service: Service,
    desk: Desk,
    config: Config,
}

impl Answerer {
    /// Answers from `source`. `runtime` runs the tasks that are told of changes elsewhere; `seed` is for the order of records.
    pub fn new(source: Arc<dyn Source>, config: Config, runtime: &Runtime, seed: u64) -> Self {
        // Nobody looks at what is counted here.
        let meters = Meters::new(&Registry::new(), "");
        let service = Service::new(source, config.clone(), runtime.clone(), meters, seed);
        Self {
            desk: service.desk(),
            service,
            config,
        }
    }

    /// The answer to a query that came by UDP; `None` if it gets none. Blocks the thread while others have to be asked.
    pub fn answer(&mut self, query: &[u8], client: IpAddr) -> Option<&[u8]> {
        self.answer_by(query, client, Transport::Udp)
    }

    /// The answer to a query that came by TCP, without the length before it, as [`Self::answer`].
    pub fn answer_tcp(&mut self, query: &[u8], client: IpAddr) -> Option<&[u8]> {
        self.answer_by(query, client, Transport::Tcp)
    }

    /// Forgets every answer.
    pub fn forget(&mut self) {
        self.service.reconfigure(self.config.clone());
    }

    fn answer_by(&mut self, query: &[u8], client: IpAddr, transport: Transport) -> Option<&[u8]> {
        let begun = Instant::now();
        match self.service.at_once(&mut self.desk, query, client, transport) {
            AtOnce::Silence => return None,
            AtOnce::Written => self.service.note(&mut self.desk, begun),
            AtOnce::Later(request, place) => {
                let by_tcp = transport == Transport::Tcp;
                let late = block_on(self.service.later(request, place, query.to_vec(), client, by_tcp));
                self.service.write_late(&mut self.desk, &late, transport);
            }
        }
        Some(&self.desk.message)
    }
}
