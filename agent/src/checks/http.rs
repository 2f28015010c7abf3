//! Asking a URL how well something is.
//!
//! Redirects are followed as Go's client follows them, since that is what checks were written for: up to ten; 301, 302 and 303 turn
//! everything but HEAD into GET; secrets are not told to other hosts. No compression is offered, and no connection is kept.

use lictor_catalog::Status;
use lictor_node::local::ProbeTls;
use ureq_proto::http::header::{
    ACCEPT, AUTHORIZATION, COOKIE, HOST, LOCATION, REFERER, USER_AGENT, WWW_AUTHENTICATE,
};
use ureq_proto::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use url::{Host, Url};

use super::dial::Target;
use super::exchange::{self, Response};
use super::tls::{Protocol, Tls};
use super::{Limit, Outcome, text};

/// The most redirects that are followed.
const REDIRECTS_MAX: usize = 10;

/// What to ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) url: &'a str,
    pub(super) method: &'a str,
    pub(super) headers: &'a [(String, Vec<String>)],
    pub(super) body: &'a str,
    pub(super) disable_redirects: bool,
    pub(super) tls: &'a ProbeTls,
}

/// Asks once. Of the body of the answer no more than `output_max` bytes are read.
pub(super) async fn probe(question: Question<'_>, roots: &Tls, limit: Limit, output_max: usize) -> Outcome {
    let mut hop = match Hop::first(question) {
        Ok(hop) => hop,
        Err(why) => return Outcome::critical(why),
    };
    let method = hop.method.clone();
    let asked = async {
        for _ in 0..=REDIRECTS_MAX {
            let response = hop.ask(question.tls, roots).await?;
            if question.disable_redirects || !hop.follow(&response)? {
                return Ok(response);
            }
        }
        Err(format!("stopped after {REDIRECTS_MAX} redirects"))
    };
    let asked = limit.cut(Box::pin(asked)).await;
    let mut response = match asked {
        Some(Ok(response)) => response,
        Some(Err(why)) => return Outcome::critical(hop.failed(&why)),
        None => {
            let why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
            return Outcome::critical(hop.failed(why));
        }
    };
    // A body that does not come, or breaks off, changes nothing: the status has been said.
    let mut body = Vec::new();
    let _ = limit.cut(response.read_up_to(output_max, &mut body)).await;
    let status = match response.status.as_u16() {
        200..=299 => Status::Passing,
        429 => Status::Warning,
        _ => Status::Critical,
    };
    let output = format!(
        "HTTP {method} {}: {} {} Output: {}",
        question.url,
        response.status.as_str(),
        response.reason,
        text::lossy(body)
    );
    Outcome { status, output }
}

/// A request on the way from redirect to redirect.
struct Hop {
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: String,
    first_host: Option<String>,
}

impl Hop {
    fn first(question: Question<'_>) -> Result<Self, String> {
        let url = Url::parse(question.url).map_err(|why| format!("parse {:?}: {why}", question.url))?;
        let method = match question.method {
            "" => Method::GET,
            method => Method::from_bytes(method.as_bytes())
                .map_err(|_| format!("net/http: invalid method {method:?}"))?,
        };
        Ok(Self {
            first_host: url.host_str().map(str::to_owned),
            url,
            method,
            headers: headers(question.headers)?,
            body: question.body.to_owned(),
        })
    }

    async fn ask(&self, tls: &ProbeTls, roots: &Tls) -> Result<Response, String> {
        let secure = match self.url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(format!("unsupported protocol scheme {other:?}")),
        };
        let (Some(host), Some(port)) = (self.url.host(), self.url.port_or_known_default()) else {
            return Err("http: no Host in request URL".to_owned());
        };
        let host = match host {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let uri = self.url[..url::Position::AfterQuery]
            .parse::<Uri>()
            .map_err(|why| why.to_string())?;
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        let target = Target { host, port };
        let stream = target.connect().await?;
        let body = self.body.as_bytes();
        let response = if secure {
            let stream = roots.connect(stream, &target.host, tls, Protocol::Any).await?;
            exchange::send(stream, request, body).await
        } else {
            exchange::send(stream, request, body).await
        };
        response.map_err(|why| why.to_string())
    }

    /// Goes to where the response sends us, if it does; the error says why that is impossible.
    fn follow(&mut self, response: &Response) -> Result<bool, String> {
        let status = response.status.as_u16();
        let keeps_method = match status {
            301..=303 => false,
            307 | 308 => true,
            _ => return Ok(false),
        };
        let Some(location) = response.headers.get(LOCATION) else {
            return if keeps_method {
                Ok(false)
            } else {
                Err(format!("{status} response missing Location header"))
            };
        };
        let location = String::from_utf8_lossy(location.as_bytes());
        let next = self
            .url
            .join(&location)
            .map_err(|why| format!("failed to parse Location header {location:?}: {why}"))?;
        if !keeps_method {
            if self.method != Method::HEAD {
                self.method = Method::GET;
            }
            self.body.clear();
        }
        self.headers.remove(REFERER);
        if let Some(referer) = referer(&self.url, &next) {
            self.headers.insert(REFERER, referer);
        }
        if next.host_str() != self.url.host_str()
            || next.port_or_known_default() != self.url.port_or_known_default()
        {
            self.headers.remove(HOST);
        }
        if !self.is_first_host(&next) {
            for secret in [
                AUTHORIZATION,
                WWW_AUTHENTICATE,
                COOKIE,
                HeaderName::from_static("cookie2"),
            ] {
                self.headers.remove(secret);
            }
        }
        self.url = next;
        Ok(true)
    }

    /// Whether it is the host that was asked first, or below it in the tree of names.
    fn is_first_host(&self, url: &Url) -> bool {
        let (Some(first), Some(host)) = (&self.first_host, url.host_str()) else {
            return false;
        };
        host.strip_suffix(first.as_str())
            .is_some_and(|below| below.is_empty() || (below.ends_with('.') && url.domain().is_some()))
    }

    fn failed(&self, why: &str) -> String {
        let (first, rest) = self.method.as_str().split_at(1);
        let method = first.to_owned() + &rest.to_lowercase();
        let mut url = self.url.clone();
        // Passwords are not shown to everybody who reads the catalog. It fails where there can be none.
        if url.password().is_some() {
            let _ = url.set_password(Some("***"));
        }
        format!("{method} {:?}: {why}", url.as_str())
    }
}

/// From where a redirect came, as far as the next host may know it.
fn referer(from: &Url, to: &Url) -> Option<HeaderValue> {
    if from.scheme() == "https" && to.scheme() == "http" {
        return None;
    }
    let mut from = from.clone();
    from.set_fragment(None);
    // These fail for URLs that have no host; there are none here.
    let _ = from.set_username("");
    let _ = from.set_password(None);
    HeaderValue::from_str(from.as_str()).ok()
}

fn headers(given: &[(String, Vec<String>)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, values) in given {
        let key = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("net/http: invalid header field name {name:?}"))?;
        for value in values {
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("net/http: invalid header field value for {name:?}"))?;
            if key == HOST {
                // There may be only one.
                headers.insert(&key, value);
            } else {
                headers.append(&key, value);
            }
        }
    }
    for (name, usual) in [
        (USER_AGENT, "Consul Health Check"),
        (ACCEPT, "text/plain, text/*, */*"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(usual));
    }
    Ok(headers)
}
