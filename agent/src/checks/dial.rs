//! Connections to what is checked.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_io::Timer;
use async_net::TcpStream;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use futures_lite::{AsyncRead, AsyncWrite, FutureExt as _};

use super::text::reason;

/// A connection of any kind.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// How long one address of a name is tried before the next one is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// The most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Where something is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// A name or an IP address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Target {
    /// Reads `host:port`; without a host it is this machine. The error says what is wrong with it.
    pub(super) fn parse(address: &str) -> Result<Self, String> {
        let missing = || format!("address {address}: missing port in address");
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").ok_or_else(missing)?,
            None => address.rsplit_once(':').ok_or_else(missing)?,
        };
        if !address.starts_with('[') && host.contains(':') {
            return Err(format!("address {address}: too many colons in address"));
        }
        let port = port
            .parse()
            .map_err(|_| format!("address {port}: invalid port"))?;
        let host = if host.is_empty() { "localhost" } else { host };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// Its addresses, at least one. The error says why there are none.
    pub(super) async fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let mut found = async_net::resolve((self.host.as_str(), self.port))
            .await
            .unwrap_or_default();
        found.truncate(ADDRESSES_MAX);
        if found.is_empty() {
            return Err(format!("lookup {}: no such host", self.host));
        }
        Ok(found)
    }

    /// Connects by TCP to whichever address answers first. The error is worded as in Consul.
    pub(super) async fn connect(&self) -> Result<TcpStream, String> {
        let addresses = self.resolve().await.map_err(|why| format!("dial tcp: {why}"))?;
        let mut waiting = addresses.into_iter();
        let mut trying = FuturesUnordered::new();
        let mut first_error = None;
        loop {
            if let Some(address) = waiting.next() {
                trying.push(async move {
                    TcpStream::connect(address)
                        .await
                        .map_err(|error| (address, error))
                });
            }
            let more = waiting.len() > 0;
            let enough = async {
                if !more {
                    std::future::pending::<()>().await;
                }
                Timer::after(HEAD_START).await;
                None
            };
            match async { Some(trying.next().await) }.or(enough).await {
                // The next one is due.
                None => {}
                Some(Some(Ok(stream))) => return Ok(stream),
                Some(Some(Err(failed))) => {
                    first_error.get_or_insert(failed);
                }
                Some(None) => return Err(refused(first_error)),
            }
        }
    }
}

fn refused(error: Option<(SocketAddr, io::Error)>) -> String {
    match error {
        Some((address, error)) => format!("dial tcp {address}: connect: {}", reason(&error)),
        None => "dial tcp: no address to connect to".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn addresses_are_read_and_refused_as_in_consul() {
        let read = |address| Target::parse(address).map(|target| (target.host, target.port));
        let good = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(read("db.example:5432"), good("db.example", 5432));
        assert_eq!(read("127.0.0.1:1"), good("127.0.0.1", 1));
        assert_eq!(read("[::1]:80"), good("::1", 80));
        assert_eq!(read(":80"), good("localhost", 80));
        let bad = |text: &str| Err(text.to_owned());
        assert_eq!(read("nohost"), bad("address nohost: missing port in address"));
        assert_eq!(read("[::1]"), bad("address [::1]: missing port in address"));
        assert_eq!(read("::1:80"), bad("address ::1:80: too many colons in address"));
        assert_eq!(read("a:99999"), bad("address 99999: invalid port"));
    }

    #[test]
    fn every_address_of_a_name_is_tried() {
        // This name has an address of each family on most machines, and only one of them is listened on.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target {
            host: "localhost".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        let stream = block_on(target.connect()).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[test]
    fn a_name_that_is_not_there_is_named() {
        let target = Target::parse("nohost.invalid:1").unwrap();
        let error = block_on(target.connect()).unwrap_err();
        assert_eq!(error, "dial tcp: lookup nohost.invalid: no such host");
    }
}
